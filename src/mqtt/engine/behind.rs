//! What is known of a device behind a gateway, and of a gateway's devices.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use crate::{
    clock::Instant,
    ledger::{DeviceId, Stage, UpgradeId},
};

/// What a gateway may have written on behalf of its children: ten times a second on average, and two hundred times at once.
const AT_ONCE: u64 = 200;
const WRITES_EVERY_MS: u64 = 100;

/// How a device is reached that is behind a gateway.
#[derive(Debug, Default)]
pub(super) struct Behind {
    /// Its gateway, where that is known.
    pub(super) gateway: Option<DeviceId>,
    /// What that is called.
    pub(super) name: Option<Box<str>>,
    /// The gateway says that it cannot be reached.
    pub(super) offline: bool,
    /// The gateway has said that it has come online, and it was not met since.
    pub(super) online: bool,
    /// When it was met last: the gateway or the child had connected.
    pub(super) met_at: Option<Instant>,
    /// It was met then because it had come online itself.
    pub(super) came: bool,
    /// Where it was told last that it waits, or that its gateway is waited for.
    pub(super) told_offline: Option<ToldOffline>,
}

/// What was told in a stage of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ToldOffline {
    within: (UpgradeId, u32, Stage),
    child: bool,
    gateway: bool,
}

impl Behind {
    /// Whether it is news in this stage that the device, or else its gateway, is not there.
    pub(super) fn is_news(&mut self, within: (UpgradeId, u32, Stage), child: bool) -> bool {
        let none = ToldOffline {
            within,
            child: false,
            gateway: false,
        };
        let told = self.told_offline.get_or_insert(none);
        if told.within != within {
            *told = none;
        }
        let one = if child {
            &mut told.child
        } else {
            &mut told.gateway
        };
        !std::mem::replace(one, true)
    }
}

/// The devices behind a gateway.
#[derive(Debug, Default)]
pub(super) struct Children {
    pub(super) all: BTreeSet<DeviceId>,
    /// Those that are to be met over the gateway's connection.
    pub(super) meets: VecDeque<DeviceId>,
    /// Those that are to be told something.
    pub(super) speaks: VecDeque<DeviceId>,
    /// The gateway is being told which children it has: those behind this one.
    #[expect(
        clippy::option_option,
        reason = "not told, told from the first on, or from one on"
    )]
    pub(super) told_up_to: Option<Option<DeviceId>>,
    /// Those that were put behind it, and that it is still to be told of.
    pub(super) added: BTreeSet<DeviceId>,
    /// Those that are behind it no more, which it is still to be told: what they are called, and their product.
    pub(super) gone: BTreeMap<DeviceId, (Box<str>, Box<str>)>,
    /// Since when something waits, and nothing is acknowledged.
    pub(super) full_since: Option<Instant>,
    /// When the budget of what it may have written is whole again.
    budget_full_at: u64,
}

impl Children {
    /// Whether it may have one thing more written.
    pub(super) fn may_write(&mut self, now: Instant) -> bool {
        let now = now.as_millis() / WRITES_EVERY_MS;
        let full_at = self.budget_full_at.max(now);
        let may = full_at - now < AT_ONCE;
        if may {
            self.budget_full_at = full_at.saturating_add(1);
        }
        may
    }

    /// Whether anything waits for room.
    pub(super) fn waits(&self) -> bool {
        self.told_up_to.is_some()
            || !(self.added.is_empty()
                && self.gone.is_empty()
                && self.meets.is_empty()
                && self.speaks.is_empty())
    }

    /// Whether nothing was acknowledged for so long that nothing will be.
    pub(super) fn has_waited(&self, now: Instant, most: Duration) -> bool {
        self.full_since.is_some_and(|at| now.since(at) >= most)
    }

    pub(super) fn forget(&mut self, child: DeviceId) {
        self.all.remove(&child);
        self.meets.retain(|it| *it != child);
        self.speaks.retain(|it| *it != child);
    }
}
