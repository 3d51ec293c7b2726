//! The store goes back to an older state, and the devices do not.

use super::{Invariants, coverage::Told, rollout::Rollout, view::View};
use crate::{
    clock::UtcMillis,
    ledger::{Appointment, Outcome},
};

/// What the store held when it was copied.
#[derive(Debug)]
pub(in super::super) struct AsCopied {
    subjects: Vec<Subject>,
    rollout: Rollout,
    lost_ms: i64,
    open: usize,
}

#[derive(Debug)]
struct Subject {
    told: Option<Told>,
    view: View,
    contested: bool,
    outcome: Option<Outcome>,
    appointment: Option<Box<Appointment>>,
    over_ms: Option<u64>,
    is_stored_to_fetch: bool,
}

impl Invariants {
    /// The store is copied.
    pub(in super::super) fn as_copied(&self) -> AsCopied {
        let subjects = self.subjects.iter().map(|subject| Subject {
            told: subject.told_committed,
            view: subject.committed,
            contested: subject.claims.is_contested(),
            outcome: subject.outcome.clone(),
            appointment: subject.appointment.clone(),
            over_ms: subject.over_ms,
            is_stored_to_fetch: (subject.over_mqtt.as_deref())
                .is_some_and(|over| over.is_stored_to_fetch),
        });
        AsCopied {
            subjects: subjects.collect(),
            rollout: self.rollout.clone(),
            lost_ms: self.lost_ms,
            open: self.open,
        }
    }

    /// The copy is the store now, and the server is down. What became of the last `undone_ms` before that is not known to it.
    pub(in super::super) fn put_back(&mut self, now: UtcMillis, copied: AsCopied, undone_ms: u64) {
        for (subject, known) in self.subjects.iter_mut().zip(copied.subjects) {
            subject.told_committed = known.told;
            subject.committed = known.view;
            // what it was offered since is not known either
            let contested = known.contested || !known.view.over;
            subject.claims.put_back(now, contested);
            subject.outcome = known.outcome;
            subject.appointment = known.appointment;
            subject.over_ms = known.over_ms;
            if let Some(over) = subject.over_mqtt.as_deref_mut() {
                over.is_stored_to_fetch = known.is_stored_to_fetch;
            }
        }
        self.rollout = copied.rollout;
        self.open = copied.open;
        self.lost_ms = copied.lost_ms;
        self.crashed(undone_ms);
    }
}
