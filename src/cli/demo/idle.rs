//! How much of the slots' time is idle while somebody could have it: the devices are asked whether they listen, the server who
//! has a slot, twenty times a second.

use std::{
    collections::{BTreeMap, HashSet},
    sync::Arc,
    time::Duration,
};

use serde_json::Value;
use sim::fleet::Fleet;

use super::{blocking, fleet::Plan};
use crate::cli::client::Client;

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// What was seen, in slots.
#[derive(Debug, Default)]
pub(super) struct Idle {
    /// Slots there were, as long as a cell had something to do.
    slots: u64,
    /// Slots that were free, and a device that waits could have had.
    idle: u64,
}

impl Idle {
    /// The share of the slots that was idle.
    #[allow(clippy::cast_precision_loss)] // an hour has a few million of them
    pub(super) fn share(&self) -> f64 {
        self.idle as f64 / (self.slots.max(1)) as f64
    }

    /// Looks until that is done.
    pub(super) async fn look_until<T>(
        &mut self,
        done: impl Future<Output = Result<T, String>>,
        fleet: &Fleet,
        client: &Arc<Client>,
        task: i64,
        plan: &Plan,
    ) -> Result<T, String> {
        let mut done = std::pin::pin!(done);
        loop {
            tokio::select! {
                done = &mut done => return done,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            self.look(fleet, client, task, plan).await?;
        }
    }

    /// Looks once. What the server tells a moment later than the devices did is as good as the network between them.
    async fn look(
        &mut self,
        fleet: &Fleet,
        client: &Arc<Client>,
        task: i64,
        plan: &Plan,
    ) -> Result<(), String> {
        let listening: HashSet<String> = (fleet.listening())
            .filter(|(_, listens)| *listens)
            .map(|(endpoint, _)| endpoint)
            .collect();
        let client = client.clone();
        let seen = blocking(move || {
            let path = format!("/v1/tasks/{task}/upgrades");
            let upgrades = client.list(&path, &[], usize::MAX);
            let (upgrades, _) = upgrades.map_err(|error| error.to_string())?;
            Ok(upgrades)
        });
        self.count(&seen.await?, &listening, plan);
        Ok(())
    }

    fn count(&mut self, upgrades: &[Value], listening: &HashSet<String>, plan: &Plan) {
        // Slots in use, upgrades that have not ended, devices that listen and wait.
        let mut cells: BTreeMap<u32, (u64, u64, u64)> = BTreeMap::new();
        for upgrade in upgrades {
            let endpoint = upgrade["endpoint"].as_str().unwrap_or_default();
            let Some(cell) = plan.cell_of.get(endpoint) else {
                continue;
            };
            let (active, open, could) = cells.entry(*cell).or_default();
            match upgrade["state"].as_str() {
                Some("downloading" | "executing") => {
                    *active += 1;
                    *open += 1;
                }
                Some("succeeded" | "failed" | "cancelled") => {}
                _ => {
                    *open += 1;
                    *could += u64::from(listening.contains(endpoint));
                }
            }
        }
        for (cell, (active, open, could)) in cells {
            let limit = plan.limits.get(&cell).copied().unwrap_or(0);
            if open > 0 {
                self.slots += limit;
                self.idle += limit.saturating_sub(active).min(could);
            }
        }
    }
}
