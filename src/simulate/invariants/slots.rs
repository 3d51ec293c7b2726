use super::{Invariants, Rule};
use crate::{
    clock::UtcMillis,
    ledger::Lane,
    simulate::{kept::Kept, sites::Sites},
    task::{CellRules, Closing},
};

/// What the server cannot know of how long a device listens: messages that were lost or held up.
const KEPT_SLACK_MS: u64 = 600_000;
/// A ping and its repeats.
const TRIES: u64 = 5;

impl Invariants {
    /// Compares the slots of the cells in which one was taken or given back since the last time; `counted` says what
    /// the gate counts, and nothing while somebody is on the way to say something about the cell. One that is counted
    /// and not held starves its cell, one that is held and not counted overfills it with the next admission.
    pub(in super::super) fn compare_slots(
        &mut self,
        now_ms: u64,
        counted: impl Fn(u32) -> Option<u32>,
    ) {
        for number in std::mem::take(&mut self.touched) {
            let Some(counted) = counted(number) else {
                self.touched.insert(number);
                continue;
            };
            let held = self.cell(number).map_or(0, |cell| cell.holders);
            if counted != held {
                self.violated(now_ms, Rule::CellLimit, || {
                    format!("cell {number}: the gate counts {counted} slots, {held} are held")
                });
            }
        }
    }

    /// A slot is taken.
    pub(super) fn take_slot(&mut self, number: u32) {
        self.touched.insert(number);
        if let Some(cell) = self.cell(number) {
            cell.holders += 1;
            cell.admitted += 1;
        }
    }

    /// So many held a slot when the upgrade was let in that has entered the cell just now. By now others may have come
    /// who may be more: the gate has its own order.
    pub(super) fn admitted(&mut self, now_ms: u64, number: u32, active: u32) {
        if let Some(cell) = self.cell(number) {
            cell.peak = cell.peak.max(active);
        }
        let Some((upgrade, limit)) = self.entering.take() else {
            return;
        };
        if active > limit {
            self.violated(now_ms, Rule::CellLimit, || {
                format!(
                    "{upgrade}: admitted to cell {number} as one of {active}; {limit} are allowed by the coverage that \
                     it told"
                )
            });
        }
    }

    /// The gate has heard of a cell's rules.
    pub(in super::super) fn ruled(&mut self, number: u32, rules: CellRules) {
        self.ruled.insert(number, rules);
    }

    /// The gate admits one as one of so many.
    pub(in super::super) fn keeps_rules(
        &mut self,
        now_ms: u64,
        now: UtcMillis,
        number: u32,
        active: u32,
    ) {
        let holds = |closing: &Closing| {
            closing.from <= now && closing.until.is_none_or(|until| now < until)
        };
        let broken = |rules: &&CellRules| {
            let mut closings = [&rules.closing, &rules.outage].into_iter().flatten();
            closings.any(holds) || rules.limit.is_some_and(|limit| active > limit)
        };
        if let Some(rules) = self.ruled.get(&number).filter(broken).cloned() {
            self.violated(now_ms, Rule::CellLimit, || {
                format!("cell {number}: one is admitted as one of {active} under {rules:?}")
            });
        }
    }

    /// A device was kept awake so much, all together: restarts of the server are no excuse.
    pub(in super::super) fn kept_awake(&mut self, now_ms: u64, device: usize, kept: Kept) {
        let admission = &self.rules.admission;
        let most_ms = admission.keep_awake_s * 1_000 + KEPT_SLACK_MS;
        let most_pings = u64::from(admission.keep_awake_pings) * TRIES;
        if kept.awake_ms > most_ms || u64::from(kept.pings) > most_pings {
            self.violated(now_ms, Rule::KeptAwake, || {
                format!("device {device} was kept awake for too long: {kept:?}")
            });
        }
    }

    /// Devices are at these sites.
    pub(in super::super) fn at_sites(&mut self, sites: Sites) {
        self.at_site = vec![0; sites.all().count()];
        self.sites = sites;
    }

    /// Where devices are.
    pub(in super::super) const fn sites(&self) -> &Sites {
        &self.sites
    }

    fn at_site_of(&mut self, device: usize) -> Option<(usize, &mut u32)> {
        let number = self.sites.number_of(device)?;
        Some((number, self.at_site.get_mut(number)?))
    }

    /// A device has a slot: one of its site as well. There is never one too many.
    pub(super) fn enter_site(&mut self, now_ms: u64, device: usize) {
        let Some((number, there)) = self.at_site_of(device) else {
            return;
        };
        *there += 1;
        let active = *there;
        let site = self.sites.site(number);
        if let Some((name, limit)) = site.filter(|(_, limit)| active > *limit) {
            let told = format!("site {name}: {active} upgrade at once, and {limit} may");
            self.violated(now_ms, Rule::CellLimit, || told);
        }
    }

    /// It gives its slot back, if it had one.
    pub(super) fn leave_site(&mut self, device: usize, slot: Option<u32>) {
        if let Some((_, there)) = slot.and_then(|_| self.at_site_of(device)) {
            *there = there.saturating_sub(1);
        }
    }

    /// Compares what the gate counts at the sites with who holds a slot there. Not while somebody is on the way to say something.
    pub(in super::super) fn compare_sites(&mut self, now_ms: u64, counted: impl Fn(Lane) -> u32) {
        let sites = self.sites.all().zip(&self.at_site);
        let wrong = sites.filter_map(|((name, _), held)| {
            let counted = counted(Sites::lane(name));
            (counted != *held)
                .then(|| format!("site {name}: the gate counts {counted} slots, {held} are held"))
        });
        for told in wrong.collect::<Vec<_>>() {
            self.violated(now_ms, Rule::CellLimit, || told);
        }
    }

    /// A slot is given back, if there was one.
    pub(super) fn release_slot(&mut self, slot: Option<u32>) {
        let Some(number) = slot else {
            return;
        };
        self.touched.insert(number);
        if let Some(cell) = self.cell(number) {
            cell.holders = cell.holders.saturating_sub(1);
        }
    }
}
