//! What was served of a package, and what that has cost, until it is counted for the upgrade.

use crate::{
    clock::Instant,
    engine::{Engine, key::DeviceKey},
    ledger::{PullToken, UpgradeId},
    package::Spans,
    session::Counted,
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

impl Engine {
    /// Counts what it has cost for the upgrade that it was for.
    pub(super) fn count_fetched(&mut self, key: DeviceKey, fetched: &Fetched) {
        let session = self.device_mut(key).session.as_mut();
        let Some(session) = session.filter(|it| it.order.upgrade == fetched.upgrade) else {
            return;
        };
        let Tally { up, down, again } = fetched.tally;
        let span = fetched.last_at.since(fetched.since);
        for number in 0..up.datagrams {
            // evenly over the time
            let at = fetched.since + span * (number + 1) / up.datagrams;
            let counted = |bytes| Counted {
                bytes,
                secured: fetched.secured,
                again: number < again,
            };
            session.meter.came(at, counted(up.of(number)));
            session.meter.sent(at, counted(down.of(number)));
        }
    }
}
