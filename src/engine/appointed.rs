use std::time::Duration;

use crate::{
    clock::{Instant, Now},
    ledger::Appointment,
};

/// The lifetime of a device is written once within that time: in one wake-up, that is.
const PAUSE: Duration = Duration::from_mins(3);

/// What a device did with the lifetime that it was written last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Taken {
    /// Nothing is known.
    Open,
    /// It has answered that it takes it.
    Answered,
    /// It has said that it has it.
    Told,
}

/// What was agreed with a device.
#[derive(Debug)]
pub(super) struct Appointed {
    /// As it is stored.
    pub(super) stored: Appointment,
    /// When its client began to count.
    pub(super) counted_from: Instant,
    /// When its next update is due.
    pub(super) due: Instant,
    /// When its lifetime was written last; `None` when it was not in this run of the server.
    pub(super) written_at: Option<Instant>,
    /// What it did with that.
    pub(super) taken: Taken,
    /// It takes the value as TLV only.
    pub(super) in_tlv: bool,
    /// It may have another lifetime than its own from before the last write.
    pub(super) owes: bool,
    /// So often in a row it has refused a write.
    pub(super) refused: u8,
}

impl Appointed {
    /// As it was stored before a restart.
    pub(super) fn restored(now: Now, stored: Appointment) -> Self {
        let due = stored.at.map_or(Instant::ZERO, |at| now.instant_at(at));
        Self {
            stored,
            counted_from: due.before(stored.timer.interval(stored.written_s)),
            due,
            written_at: None,
            taken: Taken::Answered,
            in_tlv: false,
            owes: true,
            refused: 0,
        }
    }

    pub(super) fn is_taken(&self) -> bool {
        self.taken >= Taken::Answered
    }

    /// Its client counts from now on.
    pub(super) fn counts(&mut self, now: Instant) {
        let Appointment {
            timer, written_s, ..
        } = self.stored;
        self.counted_from = now;
        self.due = now + timer.interval(written_s);
    }

    pub(super) fn was_written_lately(&self, now: Instant) -> bool {
        self.written_at.is_some_and(|at| now.since(at) < PAUSE)
    }
}
