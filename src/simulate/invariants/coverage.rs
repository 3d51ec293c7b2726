use super::{Invariants, Rule};
use crate::{
    config::{AdmissionConfig, ClassRule},
    ledger::CoverageReading,
};

/// A coverage report, as the checker judges it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told {
    /// How many may upgrade at once by it.
    pub(super) limit: u32,
    /// When it came, ms since 1970.
    pub(super) at_ms: i64,
}

/// How many may upgrade at once for a device that has told this of its coverage to be one of them: the table of
/// the upgrade guide once more, so that the server's is not its own judge.
pub(super) fn limit(rsrp_dbm: Option<i32>, sinr_db: Option<i32>, rules: &AdmissionConfig) -> u32 {
    let (Some(rsrp), Some(sinr)) = (
        rsrp_dbm.filter(|dbm| (-156..=-44).contains(dbm)),
        sinr_db.filter(|db| (-20..=40).contains(db)),
    ) else {
        return rules.limit_unmeasured;
    };
    let strong = rsrp >= rules.rsrp_range0_dbm;
    let weak = !strong && rsrp >= rules.rsrp_range1_dbm;
    let clear = sinr >= rules.sinr_range0_db;
    let noisy = sinr < rules.sinr_range1_db;
    if rules.class_rule == ClassRule::Weaker {
        let limits = [rules.limit_good, rules.limit_fair, rules.limit_weak];
        let (by_rsrp, by_sinr) = (
            [strong, weak, !strong && !weak],
            [clear, !clear && !noisy, noisy],
        );
        let level = |ranges: [bool; 3]| ranges.iter().position(|in_it| *in_it).unwrap_or(2);
        return limits[level(by_rsrp).max(level(by_sinr))];
    }
    if strong && clear {
        rules.limit_good
    } else if strong && !noisy {
        rules.limit_fair
    } else if weak && noisy {
        rules.limit_weak
    } else {
        rules.limit_other
    }
}

impl Invariants {
    pub(super) fn told(&self, reading: &CoverageReading) -> Told {
        let (rsrp_dbm, sinr_db) = (reading.coverage.rsrp_dbm, reading.coverage.sinr_db);
        Told {
            limit: limit(rsrp_dbm, sinr_db, &self.rules.admission),
            at_ms: reading.at.0,
        }
    }

    /// The engine has learnt a device's coverage: it may know less than there is, and nothing else.
    pub(super) fn coverage_told(&mut self, now_ms: u64, device: usize, reading: &CoverageReading) {
        let told = self.told(reading);
        let Some(subject) = self.subjects.get_mut(device) else {
            return;
        };
        subject.told_emitted = Some(told);
        let (truth, learnt) = (subject.coverage, reading.coverage);
        let fits = learnt.cell.is_none_or(|cell| truth.cell_id == Some(cell))
            && learnt
                .rsrp_dbm
                .is_none_or(|dbm| truth.rsrp_dbm == Some(dbm))
            && learnt.sinr_db.is_none_or(|db| truth.sinr_db == Some(db));
        if !fits {
            self.violated(now_ms, Rule::CellLimit, || {
                format!("device {device} is taken to have {learnt:?}, it has {truth:?}")
            });
        }
    }
}
