use std::{collections::BTreeMap, fmt, sync::Arc};

use serde::{Deserialize, Serialize};

use super::{Exclude, GroupId, Narrowed, NewWebhook, Papers, Targets};
use crate::{
    access::ADMIN_TOKEN,
    clock::UtcMillis,
    filter::Filter,
    ledger::{
        AttributeError, Attributes, AttributesChange, CoverageSource, DeviceRecord, Line,
        PackageId, Progress, Protocol, Reasons, RetryPolicy, Stage, StageChange, StopReason,
        TaskId, TaskState, Told, Traffic, UpgradeId, Via, ViaError,
    },
    package::{PcpOffer, Version},
    task::{Candidate, CellRules, Hold, PackageRules, Queued, Results, RulesUpdate, TaskRules},
};

/// Which commit it is: what a writer commits again, because it does not know whether it was committed, has the same number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BatchId {
    writer: u64,
    number: u64,
}

impl BatchId {
    /// The first of a writer. There are never two writers of the same number.
    pub const fn first_of(writer: u64) -> Self {
        Self { writer, number: 1 }
    }

    /// The one after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self {
            number: self.number + 1,
            ..self
        }
    }

    /// 16 bytes.
    pub fn to_bytes(self) -> [u8; 16] {
        (u128::from(self.writer) << 64 | u128::from(self.number)).to_be_bytes()
    }
}

/// What came of a commit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommitReport {
    /// Upgrades whose stage was not stored because they have ended or are unknown, or because their device was excluded, or their
    /// owner's confirmation taken back or put off, before the attempt began: somebody did so while the engine began them. Nothing
    /// should be sent for them; they are to be dropped.
    pub refused: Vec<UpgradeId>,
    /// Applications are to be told something of it.
    pub announced: bool,
}

/// Part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T> {
    /// The rows, in the order of the list.
    pub items: Vec<T>,
    /// Whether rows follow. Their page starts after the last one of this page.
    pub more: bool,
}

/// Devices after a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestoredDevices {
    /// The devices.
    pub devices: Vec<DeviceRecord>,
    /// Number of the last one, after which others may follow; `None` when it was the last of all.
    pub next: Option<i64>,
}

/// A device as the operator left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceChange {
    /// Grows with every change, over all devices.
    pub revision: i64,
    /// The device.
    pub endpoint: String,
    /// Its product.
    pub product: String,
    /// It is refused where nothing is encrypted.
    pub secure: bool,
    /// What it speaks.
    pub protocol: Protocol,
    /// Its pre-shared key.
    pub psk: Option<StoredPsk>,
    /// How it shows who it is, where it speaks MQTT.
    pub mqtt: Option<StoredMqtt>,
    /// How it is reached.
    pub via: Via,
    /// It was removed.
    pub removed: bool,
}

/// A pre-shared key as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredPsk {
    /// What the device calls itself in the handshake. No two devices have the same.
    pub identity: String,
    /// The key, sealed for [`purpose`](Self::purpose).
    pub sealed: Vec<u8>,
}

impl StoredPsk {
    /// What the key of an identity is sealed for.
    pub fn purpose(identity: &str) -> String {
        format!("psk {identity}")
    }
}

/// How a device that speaks MQTT shows who it is, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredMqtt {
    /// Which kind of device it is: one that speaks MQTT.
    pub protocol: Protocol,
    /// What it shows.
    pub credential: MqttCredential,
    /// What stands for its token, which no other device has.
    pub token_hash: Option<Vec<u8>>,
    /// The secret or the token, sealed for [`purpose`](Self::purpose).
    pub sealed: Option<Vec<u8>>,
}

impl StoredMqtt {
    /// What the credential of a device is sealed for.
    pub fn purpose(endpoint: &str) -> String {
        format!("mqtt {endpoint}")
    }
}

/// What a device that speaks MQTT shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MqttCredential {
    /// That it has a secret.
    Secret,
    /// A token.
    Token,
    /// A certificate.
    Certificate,
    /// Nothing: it has no connection of its own, and a gateway speaks for it.
    Gateway,
}

impl MqttCredential {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Secret, Self::Token, Self::Certificate, Self::Gateway];

    /// The name used in the API and the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::Token => "token",
            Self::Certificate => "certificate",
            Self::Gateway => "gateway",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|it| it.name() == name)
    }
}

/// An upgrade that runs, and the zone in which its windows stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningUpgrade {
    /// The upgrade.
    pub upgrade: UpgradeId,
    /// Its device.
    pub endpoint: String,
    /// The time zone of its device, where that matters.
    pub zone: Option<Arc<str>>,
}

/// An upgrade that runs and should not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpgradeToStop {
    /// The upgrade.
    pub upgrade: UpgradeId,
    /// Its task.
    pub task: TaskId,
    /// Its device.
    pub endpoint: String,
    /// Why.
    pub reason: StopReason,
}

/// A package to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewPackage {
    /// The product whose devices it is for.
    pub product: String,
    /// The version that they run afterwards.
    pub version: Version,
    /// The component of a device, or the software in it, that it is for; `None` for the device as a whole. Packages of two components
    /// may have the same version.
    pub component: Option<String>,
    /// SHA-256 of the content, 64 lower-case hexadecimal digits: the name of its file.
    pub sha256: String,
    /// PCP's check code over the content.
    pub crc: u16,
    /// Bytes of the content.
    pub size_bytes: u64,
    /// MD5 of the content, 32 lower-case hexadecimal digits; `None` where it was uploaded before that was kept and has not been
    /// read since.
    pub md5: Option<String>,
    /// How it is served over PCP; `None` where it has too many segments for it, too long a version, or is for a component.
    pub pcp: Option<PcpOffer>,
    /// When it was uploaded.
    pub created_at: UtcMillis,
    /// What is kept beside its content.
    pub papers: Papers,
}

impl NewPackage {
    /// Segments in which it is served over PCP; none where it is not.
    pub fn segment_count(&self) -> u64 {
        let pcp = self.pcp.as_ref();
        pcp.map_or(0, |offer| offer.segmentation.segment_count().into())
    }
}

/// A package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackageRecord {
    /// Its number.
    pub id: PackageId,
    /// What was uploaded.
    pub package: NewPackage,
    /// When another content was uploaded for the same product and version.
    pub superseded_at: Option<UtcMillis>,
    /// When it was deleted, if it is only kept for ended tasks.
    pub deleted_at: Option<UtcMillis>,
    /// Counts the changes of its papers, from 1.
    pub revision: u32,
}

/// What [`super::Catalog::insert_package`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InsertedPackage {
    /// The package.
    pub record: PackageRecord,
    /// It is new; otherwise the same one was there.
    pub created: bool,
}

/// What [`super::Catalog::delete_package`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedPackage {
    /// Name of the content's file.
    pub sha256: String,
    /// Another package has the same content: the file has to stay.
    pub content_in_use: bool,
    /// Name of the file of its bill of materials, where no other package has it.
    pub unused_sbom: Option<String>,
}

/// A device to be added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewDevice {
    /// The LwM2M endpoint name.
    pub endpoint: String,
    /// The product it belongs to.
    pub product: String,
    /// Its pre-shared key; with one it is refused where nothing is encrypted.
    pub psk: Option<StoredPsk>,
    /// How it shows who it is, where it speaks MQTT.
    pub mqtt: Option<StoredMqtt>,
    /// The endpoint name of the gateway through which it is reached. One that is there keeps its gateway where none is given.
    pub via: Option<String>,
    /// Its attributes. Those that are not given stay as they are.
    pub attributes: AttributesChange,
}

/// What to change about a device. `None` leaves it as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeviceUpdate {
    /// The product it belongs to.
    pub product: Option<String>,
    /// Whether it is refused where nothing is encrypted.
    pub secure: Option<bool>,
    /// Its pre-shared key, or that it has none any more.
    pub psk: Option<Option<StoredPsk>>,
    /// That it speaks MQTT, and how it shows who it is; or that it speaks LwM2M.
    pub mqtt: Option<Option<StoredMqtt>>,
    /// The endpoint name of the gateway through which it is reached, or that it is reached through none.
    pub via: Option<Option<String>>,
    /// How many of the devices behind it may upgrade at once, or that it is as its product says.
    pub gateway_limit: Option<Option<u32>>,
    /// Its attributes.
    pub attributes: AttributesChange,
    /// Only if this is its revision.
    pub seen: Option<i64>,
    /// Only if it is there within this; `None`: whosesoever it is.
    pub within: Option<Within>,
}

/// What devices are there for whoever asks for a change. It is looked at in the transaction that writes the change: a device may have
/// been given away, or have moved, since whoever asks has seen it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Within {
    /// Those that this lets through.
    pub filter: Filter,
    /// Relative times of the filter are before this.
    pub now: UtcMillis,
}

/// What became of one device in [`super::Inventory::add_devices`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AddedDevice {
    /// It is new.
    Added,
    /// It was there, of the same product, with all attributes that were given, and no key was given.
    Unchanged,
    /// It was there, of the same product, and has attributes now that it did not have. No key was given.
    Updated,
    /// It was there, of the same product, and has the given key now, and the attributes.
    KeySet,
    /// Another device has the identity of its key; it was left alone.
    IdentityTaken {
        /// The identity.
        identity: String,
        /// Who has it.
        endpoint: String,
    },
    /// Another device has the token; it was left alone.
    TokenTaken(String),
    /// It is there with another product, and was left alone.
    OtherProduct(String),
    /// It is there and speaks something else, and was left alone.
    OtherProtocol(Protocol),
    /// It cannot be reached through the gateway that is given, or with what is given beside; it was left alone.
    Via(ViaError),
    /// Its attributes are not possible beside those that it has; it was left alone.
    Attributes(AttributeError),
}

/// A device and what the operator sees beside it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceDetail {
    /// The device.
    pub device: DeviceRecord,
    /// The identity of its pre-shared key.
    pub psk_identity: Option<String>,
    /// How it shows who it is, where it speaks MQTT.
    pub mqtt_credential: Option<MqttCredential>,
    /// When it was added.
    pub created_at: UtcMillis,
    /// The upgrade that runs on it.
    pub upgrade: Option<UpgradeId>,
    /// How its coverage came, where that was noted.
    pub coverage_source: Option<CoverageSource>,
    /// What the operator says of it.
    pub attributes: Attributes,
    /// Why it is not to be upgraded, while it is excluded.
    pub excluded: Option<String>,
    /// How many of the devices behind it may upgrade at once, where the operator says so of it alone.
    pub gateway_limit: Option<u32>,
    /// Another number after each change that an operator makes; 0: it came by itself.
    pub revision: i64,
}

/// A device that is not to be upgraded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exclusion {
    /// The endpoint name. There need not be such a device.
    pub endpoint: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: UtcMillis,
    /// Another number after each change; never again that of one that ended.
    pub revision: i64,
}

/// What [`super::Inventory::exclude`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Excluded {
    /// Endpoints that are excluded now and were not before.
    pub added: u64,
    /// Endpoints that were excluded already, and have the given reason now.
    pub unchanged: u64,
}

/// An upgrade of a device, and what it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceUpgrade {
    /// The upgrade.
    pub upgrade: UpgradeRecord,
    /// The task's name.
    pub task_name: String,
    /// The package's version.
    pub version: Version,
}

/// Part of the list of devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DevicePage {
    /// The devices, ordered by endpoint name. They may be few, or none, although others follow: a filter that lets few
    /// through is not asked about more than a hundred thousand devices for a page.
    pub items: Vec<DeviceDetail>,
    /// The endpoint name after which the next page starts; `None` when this is the last one.
    pub next: Option<String>,
}

/// Which devices to list.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeviceFilter {
    /// Of this product.
    pub product: Option<String>,
    /// With, or without, a registration.
    pub registered: Option<bool>,
    /// Whose endpoint begins so.
    pub prefix: Option<String>,
    /// Whom this lets through. When a device was heard last it knows only as it is stored, which may be hours before.
    pub filter: Option<Filter>,
    /// Who belongs to this group; nobody where there is none of that number.
    pub group: Option<GroupId>,
    /// The time that relative times of filters are before.
    pub now: UtcMillis,
}

/// Which devices a task upgrades.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// These endpoints. Naming one twice is naming it once.
    Devices(Vec<String>),
    /// All devices of this product, which has to be the package's.
    Product(String),
    /// All devices of the package's product.
    All,
    /// Those of the package's product that this lets through.
    Filter(Filter),
    /// Those of the package's product that belong to this group.
    Group(GroupId),
}

/// Who has made a task, and within which devices.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// Who ([`crate::access::Caller::who`]).
    pub by: String,
    /// Those that this lets through; `None`: all. The task has no others.
    pub scope: Option<Filter>,
}

impl Default for Origin {
    /// The token in the file, for all devices.
    fn default() -> Self {
        Self {
            by: ADMIN_TOKEN.to_owned(),
            scope: None,
        }
    }
}

/// A task to be created.
#[derive(Debug, Clone, PartialEq)]
pub struct NewTask {
    /// For the operator to recognise it by.
    pub name: String,
    /// The package; of several the first.
    pub package: PackageId,
    /// What there is besides, and for whom each is.
    pub packages: PackageRules,
    /// The devices.
    pub selection: Selection,
    /// Those of them that it is not for.
    pub exclude: Exclude,
    /// When it starts; at once when `None` or past.
    pub start_at: Option<UtcMillis>,
    /// What follows a failure.
    pub retry: RetryPolicy,
    /// How it is run.
    pub rules: TaskRules,
    /// Told of its outcomes, from the first on. Its `task` is not looked at.
    pub webhook: Option<NewWebhook>,
    /// Now.
    pub created_at: UtcMillis,
    /// Who makes it.
    pub origin: Origin,
}

/// A task.
#[derive(Debug, Clone, PartialEq)]
pub struct TaskRecord {
    /// Its number.
    pub id: TaskId,
    /// The name it was given.
    pub name: String,
    /// The package; of several the first.
    pub package: PackageId,
    /// What it says of its packages.
    pub packages: Arc<PackageRules>,
    /// The package's product.
    pub product: String,
    /// The package's version.
    pub version: Version,
    /// Where it stands.
    pub state: TaskState,
    /// When it starts or started.
    pub start_at: UtcMillis,
    /// What follows a failure.
    pub retry: RetryPolicy,
    /// When it was created.
    pub created_at: UtcMillis,
    /// When it was stopped.
    pub stopped_at: Option<UtcMillis>,
    /// When its last upgrade ended.
    pub ended_at: Option<UtcMillis>,
    /// Devices that were selected, and left out because they were excluded when it was created.
    pub excluded: u64,
    /// Whom it is for; `None`: a list of devices, or nobody has kept it.
    pub targets: Option<Targets>,
    /// Whom it leaves out itself.
    pub narrowed: Option<Narrowed>,
    /// Devices that were selected, and left out because of that, when it was created.
    pub left_out: u64,
    /// Devices that were skipped, by reason: there was nothing for them. They are among those that were cancelled.
    pub skipped: BTreeMap<String, u64>,
    /// Upgrades in each state that any of them is in.
    pub counts: BTreeMap<UpgradeState, u64>,
    /// How it is run.
    pub rules: Arc<TaskRules>,
    /// Why nothing of it begins until somebody says so; of one that has stopped by itself, why.
    pub hold: Option<Hold>,
    /// The phase that runs, from 0.
    pub phase: u32,
    /// What came of each phase.
    pub results: Vec<Results>,
    /// What had not begun by its last time is done away with.
    pub expired: bool,
    /// Who approved it, or refused to.
    pub approval: Option<Approval>,
    /// Counts the changes of its rules, from 1.
    pub revision: u32,
    /// Who has made it.
    pub origin: Origin,
    /// Who has changed what is approved of it since, each once ([`crate::access::Caller::who`]).
    pub changed_by: Vec<String>,
    /// What its upgrades have cost.
    pub traffic: Traffic,
    /// Upgrades that wait for a month in which their device may spend again, up to 1,000, and when the first of them does.
    pub put_off: (u32, Option<UtcMillis>),
}

/// The packages of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskPackages {
    /// The first one, or the only one.
    pub first: PackageId,
    /// What it says of them.
    pub rules: PackageRules,
}

/// Who approved a task, or refused to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Approval {
    /// Whether it was approved.
    pub approved: bool,
    /// Who, as the caller says.
    pub by: String,
    /// The caller ([`crate::access::Caller::who`]); `None`: it was not kept then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// What was said of it; the reason, where it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// When.
    #[serde(with = "crate::clock::rfc3339")]
    pub at: UtcMillis,
}

/// What an operator wants of a task that has not ended.
#[derive(Debug, Clone, PartialEq)]
pub enum TaskChange {
    /// Nothing of it begins any more. What runs goes on.
    Pause {
        /// What the operator says of it.
        note: Option<String>,
    },
    /// It goes on; after a phase, with the next one.
    Resume,
    /// The next phase begins, whatever became of the one that runs.
    NextPhase {
        /// If this phase runs, from 0.
        from: Option<u32>,
    },
    /// It may begin.
    Approve {
        /// Who says so.
        approval: Approval,
        /// The revision that was seen; any other one is not approved.
        revision: Option<u32>,
    },
    /// It may not: it is stopped.
    Refuse(Approval),
    /// It is run in another way from now on.
    Rules {
        /// How.
        rules: Box<TaskRules>,
        /// The revision that the operator has seen; any other one is not changed.
        revision: Option<u32>,
        /// The operator ([`crate::access::Caller::who`]); `None`: the server itself.
        by: Option<String>,
    },
}

impl TaskChange {
    /// Why, where its operator has said that with it.
    pub(super) fn why(&self) -> Option<&str> {
        match self {
            Self::Pause { note } => note.as_deref(),
            Self::Approve { approval, .. } | Self::Refuse(approval) => approval.note.as_deref(),
            Self::Resume | Self::NextPhase { .. } | Self::Rules { .. } => None,
        }
    }
}

/// Which upgrades are taken up again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Again {
    /// Those that failed for these reasons.
    pub reasons: Reasons,
    /// This one alone.
    pub upgrade: Option<UpgradeId>,
}

impl TaskRecord {
    /// All its upgrades.
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }
}

/// Which devices of a task other tasks, that have not ended, are to upgrade with the same package.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Overlaps {
    /// How many.
    pub devices: u64,
    /// The other tasks, newest first.
    pub tasks: Vec<Overlap>,
}

/// A task that has devices and package of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlap {
    /// The task.
    pub id: TaskId,
    /// Its name.
    pub name: String,
    /// Devices that both have, and whose upgrades in this task have not ended.
    pub devices: u64,
}

/// Where an upgrade stands, as stored and shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum UpgradeState {
    /// It has not begun, or waits for its next attempt.
    Pending,
    /// It runs.
    Active(Stage),
    /// The device runs the target version.
    Succeeded,
    /// It does not, or nobody knows.
    Failed,
    /// The operator stopped the task, or cancelled the upgrade.
    Cancelled,
}

impl UpgradeState {
    /// The name used in the API and the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Active(stage) => stage.name(),
            Self::Succeeded => "succeeded",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// The state of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "pending" => Some(Self::Pending),
            "succeeded" => Some(Self::Succeeded),
            "failed" => Some(Self::Failed),
            "cancelled" => Some(Self::Cancelled),
            stage => Stage::from_name(stage).map(Self::Active),
        }
    }

    /// Every state, in the order of an upgrade's life.
    pub fn all() -> impl Iterator<Item = Self> {
        std::iter::once(Self::Pending)
            .chain(Stage::ALL.into_iter().map(Self::Active))
            .chain([Self::Succeeded, Self::Failed, Self::Cancelled])
    }

    /// Whether it has its outcome.
    pub const fn is_final(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed | Self::Cancelled)
    }
}

impl fmt::Display for UpgradeState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutcomeRecord {
    /// `succeeded`, `failed` or `cancelled`.
    pub state: String,
    /// A stable word for programs.
    pub reason: String,
    /// What else is known.
    pub told: Told,
    /// When.
    pub at: UtcMillis,
}

/// An upgrade.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpgradeRecord {
    /// Its number.
    pub id: UpgradeId,
    /// Its task.
    pub task: TaskId,
    /// Its device.
    pub endpoint: String,
    /// Where it stands.
    pub state: UpgradeState,
    /// Attempts that have begun.
    pub attempts: u32,
    /// A waiting upgrade begins at this time or later.
    pub not_before: UtcMillis,
    /// The stage, while it runs.
    pub stage: Option<StageChange>,
    /// The cell in which it waits for a slot, has one, or had one when it ended.
    pub cell: Option<u32>,
    /// How far this attempt's download is.
    pub progress: Option<Progress>,
    /// The same in segments (PCP): the one that was asked for last.
    pub segment: Option<u16>,
    /// How the last attempt ended; final when the state is.
    pub outcome: Option<OutcomeRecord>,
    /// When the task was created.
    pub created_at: UtcMillis,
    /// When the first attempt began.
    pub started_at: Option<UtcMillis>,
    /// When it ended for good.
    pub ended_at: Option<UtcMillis>,
    /// When the operator cancelled it while it ran.
    pub cancel_requested_at: Option<UtcMillis>,
    /// The owner of its device has not confirmed it yet.
    pub unconfirmed: bool,
    /// The owner of its device has confirmed it for this time.
    pub confirmed_for: Option<UtcMillis>,
}

impl UpgradeRecord {
    /// How far the download of this attempt is; 100 when it has succeeded, however it did.
    pub fn progress_percent(&self) -> u8 {
        match self.state {
            UpgradeState::Succeeded => 100,
            _ => self.progress.map_or(0, Progress::percent),
        }
    }
}

/// A part of what has no final outcome of a task.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OpenUpgrades {
    /// Upgrades, by their numbers. They may be few, or none, although others follow.
    pub items: Vec<OpenUpgrade>,
    /// After which the next part begins; `None` when this is the last one.
    pub next: Option<UpgradeId>,
}

/// An upgrade that has no final outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenUpgrade {
    /// Its number.
    pub upgrade: UpgradeId,
    /// Its device.
    pub endpoint: String,
    /// Attempts that have begun.
    pub attempts: u32,
    /// Of these, those before it was taken up again.
    pub attempts_before: u32,
    /// While it waits, it begins at this time or later.
    pub not_before: UtcMillis,
    /// Its phase, from 0.
    pub phase: u32,
    /// The time zone of its device, where that matters.
    pub zone: Option<String>,
}

/// A line of an upgrade's timeline.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TimelineEntry {
    /// When.
    pub at: UtcMillis,
    /// Number of the attempt, from 1; 0 before the first.
    pub attempt: u32,
    /// The stage that was entered, `note`, or the state in which the attempt ended.
    pub kind: String,
    /// What happened.
    pub line: Line,
}

/// An upgrade and everything that explains it.
#[derive(Debug, Clone, PartialEq)]
pub struct UpgradeDetail {
    /// The upgrade.
    pub upgrade: UpgradeRecord,
    /// The package.
    pub package: PackageId,
    /// What the planner decides on, while it waits.
    pub candidate: Option<Candidate>,
    /// What keeps it, while it waits for a slot.
    pub queue: Option<QueueRecord>,
    /// How its device bears it, where its phase has a soak and it has succeeded.
    pub soak: Option<SoakRecord>,
    /// What it has cost, in all attempts.
    pub traffic: Traffic,
    /// The newest 1,000 lines, oldest of them first.
    pub events: Vec<TimelineEntry>,
}

/// How the device of an upgrade that has succeeded bears it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SoakRecord {
    /// Where it stands.
    pub state: SoakState,
    /// From then on it counts what version the device tells.
    pub due_at: UtcMillis,
    /// When it was known how the device bears it.
    pub ended_at: Option<UtcMillis>,
}

/// Where a soak stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SoakState {
    /// It goes on.
    Soaking,
    /// The device is in health.
    Healthy,
    /// It is not.
    Unhealthy,
    /// An operator passed over it, or the device was removed before it was over.
    PassedOver,
}

impl SoakState {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Soaking,
        Self::Healthy,
        Self::Unhealthy,
        Self::PassedOver,
    ];

    /// Its stable name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Soaking => "soaking",
            Self::Healthy => "healthy",
            Self::Unhealthy => "unhealthy",
            Self::PassedOver => "skipped",
        }
    }

    /// The one of that name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.name() == name)
    }
}

/// What there is to do about soaks.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SoaksDue {
    /// Devices that are to be asked for their version.
    pub ask: Vec<String>,
    /// Soaks that were looked at: as many as were wanted, when there may be more.
    pub looked_at: u64,
}

/// What keeps an upgrade that waits for a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueueRecord {
    /// Slots in use in the cell.
    pub active: u32,
    /// Upgrades that have waited in the cell for longer.
    pub ahead: u32,
    /// Those of the same task, of the first 10,000 in the cell.
    pub ahead_in_task: u32,
    /// The tasks that wait in the cell with these 10,000.
    pub tasks: Vec<Queued>,
}

/// What happens in a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CellRecord {
    /// The cell ID.
    pub cell: u32,
    /// Devices that hold a slot now.
    pub active: u64,
    /// Devices that wait for one.
    pub waiting: u64,
    /// The highest limit among the devices that were admitted; 0 before the first.
    pub limit_max: u32,
    /// Most devices that held a slot at once.
    pub concurrent_peak: u32,
    /// Devices that were admitted.
    pub admitted_total: u64,
    /// When the last one was.
    pub last_admitted_at: Option<UtcMillis>,
    /// Upgrades that have succeeded there, whether they are kept or not.
    pub succeeded: u64,
    /// Upgrades that have failed there for good, while they waited for a slot or had one.
    pub failed: u64,
}

/// A cell in a list.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedCell {
    /// What upgrades tell of it.
    pub record: CellRecord,
    /// What the operator rules.
    pub rules: CellRules,
}

/// What is to become of a cell's rules and its note.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CellUpdate {
    /// The cell ID.
    pub cell: u32,
    /// Its rules.
    pub rules: RulesUpdate,
    /// Another note, or none. `None` leaves it as it is.
    pub note: Option<Option<String>>,
    /// Only if this is its revision.
    pub seen: Option<i64>,
}

/// A cell as the operator left it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellChange {
    /// Grows with every change, over all cells.
    pub revision: i64,
    /// The cell ID.
    pub cell: u32,
    /// Its rules.
    pub rules: CellRules,
}

/// A cell, its rules, and who has a slot in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellDetail {
    /// What happens in it.
    pub record: CellRecord,
    /// What the operator rules.
    pub rules: CellRules,
    /// The operator's note.
    pub note: Option<String>,
    /// What the upgrades in it have cost.
    pub traffic: Traffic,
    /// Who has a slot: up to 100, the oldest upgrades.
    pub holders: Vec<SlotHolder>,
    /// Another number after each change of its rules or its note; 0: it never had any.
    pub revision: i64,
}

/// An upgrade that has a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotHolder {
    /// The upgrade.
    pub upgrade: UpgradeId,
    /// Its device.
    pub endpoint: String,
    /// Where it stands.
    pub state: UpgradeState,
}
