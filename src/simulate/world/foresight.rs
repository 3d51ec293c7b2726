//! Forecasts of the task that is simulated, made of what the store knows.

use std::collections::HashMap;

use super::{World, utc};
use crate::{
    ledger::RetryPolicy,
    simulate::{
        foresight::{Earlier, Foreseen, Foresight, Known, Setting},
        hooks::Hooks,
        invariants::device,
        scenario::Scenario,
    },
    store::BatchId,
    task::TaskRules,
};

/// A simulation that is forecast.
#[derive(Debug)]
pub(super) struct Foresees {
    foresight: Foresight,
    rules: TaskRules,
    retry: RetryPolicy,
    /// When devices had their outcome, seconds from the start, in order.
    ends_s: Vec<f64>,
}

impl<H: Hooks> World<H> {
    /// Has forecasts made. The server has in its store what an earlier upgrade of the fleet has taught.
    ///
    /// # Errors
    /// The store fails.
    pub(in crate::simulate) fn foreseeing(
        mut self,
        earlier: Earlier,
        scenario: &Scenario,
    ) -> Result<Self, String> {
        // no server has that number
        let batch = BatchId::first_of(u64::MAX);
        (self.store).commit(batch, &earlier.changes(utc(0)))?;
        self.foresees = Some(Foresees {
            foresight: Foresight::new(earlier, &scenario.forecast_after),
            rules: scenario.rules.clone(),
            retry: scenario.retry,
            ends_s: Vec::new(),
        });
        Ok(self)
    }

    /// Makes a forecast, if one is to be made before what happens then.
    pub(super) fn foresee(&mut self, next_ms: u64) -> Result<(), String> {
        let Some(foresees) = &mut self.foresees else {
            return Ok(());
        };
        let devices = self.checker.devices();
        let ended = devices - self.checker.open();
        let since_s = std::time::Duration::from_millis(self.now_ms.saturating_sub(self.start_ms));
        foresees.ends_s.resize(ended, since_s.as_secs_f64());
        let since = next_ms.checked_sub(self.start_ms);
        let since = since.map(std::time::Duration::from_millis);
        if !foresees.foresight.is_due(since, ended, devices) {
            return Ok(());
        }
        let Some(offered) = self.offered.first() else {
            return Ok(());
        };
        let records = self.store.restore_devices()?;
        let by_number: HashMap<usize, _> = (records.iter())
            .filter_map(|record| Some((device(&record.endpoint)?, record)))
            .collect();
        let active = self.store.restore_upgrades()?;
        let active: HashMap<_, _> = active.iter().map(|it| (it.order.upgrade, it)).collect();
        let finals = self.store.finals()?;
        let now = utc(next_ms.max(self.start_ms));
        let heads = self.store.task_heads(now)?;
        let known: Vec<Known<'_>> = (finals.iter())
            .filter_map(|end| {
                let device = self.checker.device_of(end.upgrade)?;
                Some(Known {
                    record: by_number.get(&device)?,
                    state: end.state,
                    attempts: end.attempts,
                    reason: end.reason.as_deref(),
                    phase: self.checker.phase_of(device),
                    active: active.get(&end.upgrade).copied(),
                    used: self.checker.used(device, now),
                    hardware: self.units.get(device)?.hardware(),
                    site: self.checker.sites().name_of(device),
                })
            })
            .collect();
        let setting = Setting {
            now,
            start_at: utc(self.start_ms),
            config: self.config.clone(),
            rules: &foresees.rules,
            retry: foresees.retry,
            offered,
            sites: self.checker.sites(),
            head: heads.into_iter().next(),
        };
        let learnt = self.store.restore_learnt()?;
        foresees.foresight.make(&setting, &known, &learnt);
        Ok(())
    }

    /// What was forecast.
    pub(super) fn foreseen(&mut self) -> Vec<Foreseen> {
        let foresees = self.foresees.take();
        foresees.map_or_else(Vec::new, |it| it.foresight.close(&it.ends_s))
    }
}
