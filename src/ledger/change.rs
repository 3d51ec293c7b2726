//! What the engine asks the store to remember, and what it is given back after a restart.

use std::fmt;

pub use crate::lwm2m::{Binding, Lwm2mVersion};
use crate::{
    clock::UtcMillis,
    coap::Peer,
    ledger::{
        Appointment, Coverage, Evidence, Facts, Further, Learnt, Line, Outcome, PackageId,
        Protocol, RetryPolicy, Stage, Standby, TaskId, Traffic, UpgradeId, Via, WakeUps,
    },
    lwm2m::Objects,
    package::Version,
};

/// Whether a device listens all the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum QueueMode {
    /// It can be reached as long as it is registered.
    #[default]
    Off,
    /// It listens for a while after its last message only (LwM2M binding UQ).
    On,
}

/// A device's LwM2M registration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The path segment after `rd/` under which it updates.
    pub location: String,
    /// Where it was heard last.
    pub peer: Peer,
    /// Seconds without an update after which it ends.
    pub lifetime_s: u32,
    /// When it ends unless it is updated.
    pub expires_at: UtcMillis,
    /// When it was made.
    pub registered_at: UtcMillis,
    /// The ID of the CoAP message that made it, which tells what the device has sent before: a network may keep that for a
    /// while. `None` when it is not known.
    pub message_id: Option<u16>,
    /// Whether the device sleeps.
    pub queue_mode: QueueMode,
    /// The version of LwM2M that it says it speaks, where it says so.
    pub lwm2m_version: Option<Lwm2mVersion>,
    /// The transports over which it says that it can be reached.
    pub binding: Binding,
    /// What it announces. Few updates announce anything: of a change that keeps the location, `None` is no news.
    pub announced: Option<Box<Announced>>,
}

impl Registration {
    /// What is known of it after this change of what was known: what is not announced anew stays.
    #[must_use]
    pub fn after(mut self, before: Option<&Self>) -> Self {
        if let Some(before) = before.filter(|before| before.location == self.location)
            && self.announced.is_none()
        {
            self.announced.clone_from(&before.announced);
        }
        self
    }
}

/// What a device announces of its objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Announced {
    /// Objects and instances in CoRE link format, in order, without the root path: `</3/0>,</4>;ver=1.3,</4/0>`. At most
    /// 2,048 bytes; empty when the device tells only its root path.
    pub objects: String,
    /// The path below which it has its objects, such as `/lwm2m`; `None` for the root.
    pub root_path: Option<String>,
}

impl Announced {
    /// `None` when nothing is announced.
    pub(crate) fn of(objects: &Objects) -> Option<Box<Self>> {
        (!objects.is_empty()).then(|| {
            Box::new(Self {
                objects: objects.links(),
                root_path: objects.root().map(ToOwned::to_owned),
            })
        })
    }
}

/// A coverage report and its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoverageReading {
    /// What the device reported.
    pub coverage: Coverage,
    /// When.
    pub at: UtcMillis,
}

/// How a device told its coverage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CoverageSource {
    /// In answer to the read of /4/0.
    Object,
    /// In answers to reads of RSRP and SINR, /4/0/2 and /4/0/11, because it did not answer that of /4/0.
    Resources,
    /// The cell in answer to the read of /4/0/8 alone, because the reads before did not tell it.
    Cell,
    /// By itself, with a Send of LwM2M 1.1.
    Send,
}

impl CoverageSource {
    /// Every way.
    pub const ALL: [Self; 4] = [Self::Object, Self::Resources, Self::Cell, Self::Send];

    /// The name used in the API and the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Object => "object",
            Self::Resources => "resources",
            Self::Cell => "cell",
            Self::Send => "send",
        }
    }

    /// The way of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.name() == name)
    }
}

/// What the store knows of a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceRecord {
    /// The LwM2M endpoint name: identifies the device.
    pub endpoint: String,
    /// The product it belongs to.
    pub product: String,
    /// What it speaks.
    pub protocol: Protocol,
    /// How it is reached.
    pub via: Via,
    /// It is refused where nothing is encrypted.
    pub secure: bool,
    /// `None` when it is not registered.
    pub registration: Option<Registration>,
    /// When anything was heard from it last, as far as stored.
    pub last_heard_at: Option<UtcMillis>,
    /// Its latest coverage report.
    pub coverage: Option<CoverageReading>,
    /// The version it reported last.
    pub version: Option<Version>,
    /// What it did with versions that it was offered, since it restarted last.
    pub evidence: Vec<Evidence>,
    /// When it wakes up by itself, as far as that is learnt.
    pub wake_ups: Option<WakeUps>,
    /// The lifetime that it was given for an appointment, until its own is written back.
    pub appointment: Option<Appointment>,
}

/// The intent to upgrade one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpgradeOrder {
    /// The upgrade.
    pub upgrade: UpgradeId,
    /// The task it belongs to.
    pub task: TaskId,
    /// The device.
    pub endpoint: String,
    /// What its device was served last; before that, the first package of the task.
    pub served: Served,
    /// The hardware of its device, as the operator has given it, where a package of the task is for a certain one.
    pub hardware: Option<Box<str>>,
    /// Number of this attempt, from 1.
    pub attempt: u32,
    /// What follows a failure.
    pub retry: RetryPolicy,
    /// How its device was kept awake for it before, at the most.
    pub kept_awake: Standby,
    /// When its first attempt began, where one has.
    pub begun_at: Option<UtcMillis>,
    /// When it is taken back, if it was not commanded to install by then; `None` where it never is.
    pub back: Option<TakeBack>,
    /// In what lanes it competes besides its cell: its gateway and its site, as they were when it was given.
    pub further: Further,
}

/// The end of a window, at which an upgrade is taken back that was not commanded to install.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TakeBack {
    /// The first instant that is not in the window.
    pub at: UtcMillis,
    /// When the next window opens, if one does within a year.
    pub opens_at: Option<UtcMillis>,
}

/// The package that a device is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Served {
    /// The package.
    pub package: PackageId,
    /// Number of the step in its attempt, from 1.
    pub step: u8,
}

impl Served {
    /// The first step, with this package.
    pub const fn first(package: PackageId) -> Self {
        Self { package, step: 1 }
    }
}

/// An upgrade in a stage: everything that it needs to go on after a restart.
#[derive(Clone, PartialEq, Eq)]
pub struct StageChange {
    /// The stage.
    pub stage: Stage,
    /// When it was entered.
    pub entered_at: UtcMillis,
    /// When the stage's limit runs out.
    pub deadline_at: UtcMillis,
    /// When the device began to wait for a slot, its place in the cell's queue.
    pub queued_at: Option<UtcMillis>,
    /// When the limit on waiting for a slot runs out: measuring anew does not extend it.
    pub slot_deadline_at: Option<UtcMillis>,
    /// The cell whose slot it waits for or holds.
    pub cell: Option<u32>,
    /// How many may upgrade at once in the cell for this device to be one of them.
    pub cell_limit: Option<u32>,
    /// The device has accepted the version (downloading), or acknowledged the command (executing).
    pub confirmed: bool,
    /// Errors of its download that the device has reported.
    pub download_errors: u8,
}

/// The errors are shown where there are any: traces of simulations are hashes of this text.
impl fmt::Debug for StageChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("StageChange");
        shown
            .field("stage", &self.stage)
            .field("entered_at", &self.entered_at)
            .field("deadline_at", &self.deadline_at)
            .field("queued_at", &self.queued_at)
            .field("slot_deadline_at", &self.slot_deadline_at)
            .field("cell", &self.cell)
            .field("cell_limit", &self.cell_limit)
            .field("confirmed", &self.confirmed);
        if self.download_errors > 0 {
            shown.field("download_errors", &self.download_errors);
        }
        shown.finish()
    }
}

/// How far a download is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes that the device has, as far as it shows.
    pub done_bytes: u64,
    /// Bytes of the package.
    pub total_bytes: u64,
}

impl Progress {
    /// Whole percent, 0 to 100.
    pub fn percent(self) -> u8 {
        let percent = (self.done_bytes.min(self.total_bytes) * 100).checked_div(self.total_bytes);
        percent
            .and_then(|percent| u8::try_from(percent).ok())
            .unwrap_or(0)
    }
}

/// An upgrade that had begun when the server stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveUpgrade {
    /// What is to be done.
    pub order: UpgradeOrder,
    /// Where it stands.
    pub stage: StageChange,
    /// How far the download is, once the device has asked for anything.
    pub progress: Option<Progress>,
}

/// One thing to remember. Changes are committed in the order in which they were emitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The device registered, updated its registration, or moved to another address. Adds the device
    /// (product `default`) when the store does not know the endpoint.
    Registered {
        /// The device.
        endpoint: String,
        /// Its registration from now on.
        registration: Registration,
        /// When it wakes up by itself, as far as that is learnt.
        wake_ups: Option<WakeUps>,
        /// When it was heard.
        at: UtcMillis,
    },
    /// The registration ended.
    Deregistered {
        /// The device.
        endpoint: String,
        /// When.
        at: UtcMillis,
    },
    /// The device reported its version.
    VersionReported {
        /// The device.
        endpoint: String,
        /// The version.
        version: Version,
        /// When.
        at: UtcMillis,
    },
    /// The device reported its coverage.
    CoverageReported {
        /// The device.
        endpoint: String,
        /// The report and its time.
        reading: CoverageReading,
        /// How it came.
        source: CoverageSource,
    },
    /// What the device did with versions that it was offered, since it restarted last.
    Evidence {
        /// The device.
        endpoint: String,
        /// All that counts, in place of what was there.
        evidence: Vec<Evidence>,
        /// When it was heard.
        at: UtcMillis,
    },
    /// The device is given another lifetime than its own, or has its own again (`None`).
    Appointed {
        /// The device.
        endpoint: String,
        /// What it is given.
        appointment: Option<Appointment>,
    },
    /// A gateway has told that the device is reached through it from now on, or not any more. It counts only where the device was
    /// reached as is said here: an operator's word comes first.
    Via {
        /// The device.
        endpoint: String,
        /// The endpoint name of the gateway of before.
        before: Option<String>,
        /// That of its gateway from now on.
        via: Option<String>,
        /// When it was told.
        at: UtcMillis,
    },
    /// The upgrade entered a stage, or something in its stage changed.
    Stage {
        /// The upgrade.
        upgrade: UpgradeId,
        /// Number of the attempt, from 1.
        attempt: u32,
        /// The stage.
        change: StageChange,
        /// What happened, for the timeline, where it is worth a line.
        line: Option<Box<Line>>,
        /// When.
        at: UtcMillis,
    },
    /// Something worth a line in the upgrade's timeline.
    Note {
        /// The upgrade.
        upgrade: UpgradeId,
        /// Number of the attempt, from 1.
        attempt: u32,
        /// What happened.
        line: Box<Line>,
        /// When.
        at: UtcMillis,
    },
    /// The device is served another package than was known, or with another step. Follows the beginning of the attempt.
    Serves {
        /// The upgrade.
        upgrade: UpgradeId,
        /// Number of the attempt, from 1.
        attempt: u32,
        /// What it is served from now on.
        served: Served,
    },
    /// How far the download is.
    Progress {
        /// The upgrade.
        upgrade: UpgradeId,
        /// Where the part begins that was asked for last, or all of it.
        progress: Progress,
        /// When.
        at: UtcMillis,
    },
    /// The device may have been kept awake for the upgrade so much, in all attempts: told before it is.
    KeptAwake {
        /// The upgrade.
        upgrade: UpgradeId,
        /// How much, at the most.
        standby: Standby,
    },
    /// What the upgrade has exchanged with its device since that was told last. It counts also when the upgrade has ended.
    Traffic {
        /// The upgrade.
        upgrade: UpgradeId,
        /// The task it belongs to.
        task: TaskId,
        /// The device.
        endpoint: String,
        /// The cell in which its device was, as far as it is known.
        cell: Option<u32>,
        /// How much.
        traffic: Traffic,
        /// When.
        at: UtcMillis,
    },
    /// Something was learnt of devices or cells.
    Learnt(Box<Learnt>),
    /// A slot was granted: follows the `Stage` change of the same upgrade.
    Admitted {
        /// The cell.
        cell: u32,
        /// The admitted device's limit.
        limit: u32,
        /// Devices that hold a slot in the cell, this one included.
        active: u32,
        /// When.
        at: UtcMillis,
    },
    /// The engine has let go of the attempt, because the store holds another truth about it. Where it runs there all the same, because
    /// somebody had the upgrade tried again meanwhile, it waits for its next attempt from now on.
    LetGo {
        /// The upgrade.
        upgrade: UpgradeId,
        /// Number of the attempt, from 1.
        attempt: u32,
        /// When.
        at: UtcMillis,
    },
    /// The attempt ended.
    Ended {
        /// The upgrade.
        upgrade: UpgradeId,
        /// The task it belongs to.
        task: TaskId,
        /// Number of the attempt, from 1.
        attempt: u32,
        /// How.
        outcome: Outcome,
        /// What is known of that, and of the attempt's last moments.
        facts: Box<Facts>,
        /// When the next attempt begins; `None` makes this the upgrade's outcome.
        retry_at: Option<UtcMillis>,
        /// When.
        at: UtcMillis,
    },
}
