//! What was served of a package, and what that has cost, until it is counted for the upgrade.

use crate::{
    clock::Instant,
    engine::{Engine, key::DeviceKey},
    ledger::{PullToken, TaskId, UpgradeId},
    package::Spans,
    session::{Counted, Meter},
};

/// Datagrams of one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Way {
    bytes: u64,
    datagrams: u32,
}

impl Way {
    fn add(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        self.datagrams += 1;
    }

    /// Bytes of the datagram of that number, when all are as long as each other.
    fn of(self, number: u32) -> usize {
        let (count, number) = (u64::from(self.datagrams), u64::from(number));
        let bytes = self.bytes / count + u64::from(number < self.bytes % count);
        usize::try_from(bytes).unwrap_or(usize::MAX) // a datagram's
    }
}

/// What was exchanged since it was told last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Tally {
    up: Way,
    down: Way,
    /// Answers with bytes that were served before.
    again: u32,
}

impl Tally {
    /// A request, and its answer.
    pub(super) fn add(&mut self, request: usize, answer: usize, again: bool) {
        self.up.add(request);
        self.down.add(answer);
        self.again += u32::from(again);
    }

    /// Whether nothing was exchanged.
    pub(super) const fn is_empty(&self) -> bool {
        self.up.datagrams == 0
    }

    /// Bytes that were answered.
    pub(super) const fn answered(&self) -> u64 {
        self.down.bytes
    }
}

/// What was served of a package to a device, told to whoever has the device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// Which pull.
    pub token: PullToken,
    pub(super) upgrade: UpgradeId,
    pub(super) task: TaskId,
    /// All that one engine has served.
    pub(super) served: Spans,
    /// The end of the package is among what was served since it was told last.
    pub(super) ended: bool,
    pub(super) secured: bool,
    pub(super) tally: Tally,
    /// Since it was told last.
    pub(super) since: Instant,
    /// The last request.
    pub(super) last_at: Instant,
}

impl Fetched {
    /// Counts what was exchanged, evenly over the time.
    fn count(&self, meter: &mut Meter) {
        let Tally { up, down, again } = self.tally;
        let span = self.last_at.since(self.since);
        for number in 0..up.datagrams {
            let at = self.since + span * (number + 1) / up.datagrams;
            let counted = |bytes| Counted {
                bytes,
                secured: self.secured,
                again: number < again,
            };
            meter.came(at, counted(up.of(number)));
            meter.sent(at, counted(down.of(number)));
        }
    }
}

impl Engine {
    /// Counts what it has cost for the upgrade that it was for, also where that is over.
    pub(super) fn count_fetched(&mut self, key: DeviceKey, fetched: &Fetched) {
        let session = self.device_mut(key).session.as_mut();
        if let Some(session) = session.filter(|it| it.order.upgrade == fetched.upgrade) {
            return fetched.count(&mut session.meter);
        }
        let mut meter = Meter::default();
        fetched.count(&mut meter);
        if let Some(traffic) = meter.take(None) {
            self.has_cost(key, (fetched.upgrade, fetched.task), traffic);
        }
    }
}
