use std::{error::Error, path::PathBuf};

use thiserror::Error;

use super::{AddWebhookError, GroupId, NewPackage, UpgradeState};
use crate::{
    clock::UtcMillis,
    ledger::{AttributeError, PackageId, TaskId, TaskState, UpgradeId, ViaError},
    signing::KeyId,
    task::{HoldReason, NotThen, RuleError, RulesError},
};

/// Why the database did not do what it was asked.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Full disk, lock held by another process, damaged file, and the like. May pass.
    #[error("the database failed while {doing}: {source}")]
    Failed {
        /// What it was asked to do.
        doing: &'static str,
        /// What it answered.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The file is not what was written.
    #[error(
        "the database is damaged: restore a backup into an empty data directory (docs/operations.md); it failed while {doing}: {source}"
    )]
    Damaged {
        /// What it was asked to do.
        doing: &'static str,
        /// What it answered.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A value breaks a rule of the database: trying again does not help.
    #[error(
        "the database refused a value while {doing}: {source}; report this, it is a fault of the program"
    )]
    Refused {
        /// What it was asked to do.
        doing: &'static str,
        /// What it answered.
        source: Box<dyn Error + Send + Sync>,
    },
    /// A row holds what this version of the program cannot have written.
    #[error(
        "the database holds an unreadable value: {what}; restore a backup, or report this with the version that wrote it"
    )]
    Unreadable {
        /// Which value.
        what: String,
    },
}

/// Why the database could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The directory cannot be made.
    #[error("cannot create the data directory {path}: {source}; check its owner and mode")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// Not a database, not readable, or locked by another process.
    #[error(
        "cannot open the database {path}: {source}; check that no other server uses it and that its owner may write it"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// The database's answer.
        source: Box<dyn Error + Send + Sync>,
    },
    /// The file is not what was written.
    #[error(
        "the database {path} is damaged: restore a backup into an empty data directory (docs/operations.md); it answered: {source}"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The database's answer.
        source: Box<dyn Error + Send + Sync>,
    },
    /// It was written by a newer program.
    #[error(
        "the database {path} was written by a newer version of Cellwise: its form is {step}, and this version knows those up to \
         {known}; install the newer version again, or restore a backup from before the update (docs/backups.md)"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The newest step of its form.
        step: i64,
        /// The newest one that this program knows.
        known: i64,
    },
    /// A step failed.
    #[error("cannot bring the database {path} to this program's form: {source}")]
    Migrate {
        /// The file.
        path: PathBuf,
        /// What failed.
        source: Box<dyn Error + Send + Sync>,
    },
}

/// Why a package was not added.
#[derive(Debug, Error)]
pub enum InsertPackageError {
    /// A device that holds parts of an earlier package would take those of the new one for the rest.
    #[error(
        "version {} of product {:?} was uploaded before with the same check code (0x{:04X}) and {differs}: a device that \
         holds parts of that package would go on with parts of this one; upload it under another version",
        .new.version, .new.product, .new.pcp.as_ref().map_or(0, |pcp| pcp.check_code)
    )]
    Indistinct {
        /// What was to be added.
        new: Box<NewPackage>,
        /// What the earlier one had.
        differs: EarlierPackage,
    },
    /// Running upgrades stay on the content they began with.
    #[error(
        "package {} has the same product and version with other content or another segment size, and task {} ({name:?}, {}) uses it; stop that task or choose another version",
        .package.0, .task.0, .state.name()
    )]
    InUse {
        /// The older package.
        package: PackageId,
        /// The task that uses it.
        task: TaskId,
        /// The task's name.
        name: String,
        /// Where the task stands.
        state: TaskState,
    },
    /// Its product takes signed packages only.
    #[error(
        "product {0:?} takes signed packages only; upload it with a signature over the file by one of the product's keys"
    )]
    Unsigned(String),
    /// The key was removed while the package came.
    #[error("product {product:?} does not have the key {key} any more")]
    KeyRemoved {
        /// The product.
        product: String,
        /// The key.
        key: KeyId,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What an earlier package of the same product, version and check code had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum EarlierPackage {
    /// Other bytes.
    #[error("other content")]
    OtherContent,
    /// The same bytes in segments of this size.
    #[error("another segment size ({0} bytes)")]
    SegmentSize(u16),
    /// The same bytes in segments of the same size, of which the last was filled up, or was not.
    #[error("other padding (the last segment {})", if *.0 { "filled up" } else { "not filled up" })]
    Padding(bool),
}

/// Why a package was not deleted.
#[derive(Debug, Error)]
pub enum DeletePackageError {
    /// No such package.
    #[error("there is no package {}", .0.0)]
    NotFound(PackageId),
    /// A task still needs it.
    #[error(
        "package {} is used by task {} ({name:?}, {}); stop that task first",
        .package.0, .task.0, .state.name()
    )]
    InUse {
        /// The package.
        package: PackageId,
        /// The task that uses it.
        task: TaskId,
        /// The task's name.
        name: String,
        /// Where the task stands.
        state: TaskState,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a device was not changed.
#[derive(Debug, Error)]
pub enum UpdateDeviceError {
    /// No such device.
    #[error("there is no device {0:?}")]
    NotFound(String),
    /// Identities tell devices apart.
    #[error("device {endpoint} has the identity {identity:?} already; each needs one of its own")]
    IdentityTaken {
        /// The identity.
        identity: String,
        /// Who has it.
        endpoint: String,
    },
    /// Tokens tell devices apart.
    #[error("device {0} has the token already; each needs one of its own")]
    TokenTaken(String),
    /// What runs on it goes by what it speaks.
    #[error(
        "upgrade {} runs on device {endpoint:?}, which goes by what the device speaks; wait for its end, or stop its task",
        .upgrade.0
    )]
    Upgrading {
        /// The device.
        endpoint: String,
        /// What runs on it.
        upgrade: UpgradeId,
    },
    /// Somebody has changed it since it was seen.
    #[error(
        "device {endpoint:?} was changed meanwhile: it has revision {revision}; look at it again"
    )]
    Changed {
        /// The device.
        endpoint: String,
        /// What it has now.
        revision: i64,
    },
    /// It cannot be given to another tenant.
    #[error(
        "device {0:?} has an upgrade that waits or runs, and stays with its tenant until that has ended; wait for it, or cancel it"
    )]
    Busy(String),
    /// Its attributes are not possible beside those that it has.
    #[error(transparent)]
    Attributes(#[from] AttributeError),
    /// It is not reached through that gateway, or what is reached through it stands against the change.
    #[error("device {endpoint:?}: {error}")]
    Via {
        /// The device.
        endpoint: String,
        /// Why.
        error: ViaError,
    },
    /// A gateway is not removed while others are reached through it.
    #[error(
        "others are reached through {endpoint:?}; remove them, or give them another gateway, first"
    )]
    HasChildren {
        /// The gateway.
        endpoint: String,
        /// How many.
        children: u64,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why devices were not excluded. None was.
#[derive(Debug, Error)]
pub enum ExcludeError {
    /// They are not there for whoever asks.
    #[error("{count} of the devices are unknown: {}; correct their names, or leave them away", .first.join(", "))]
    UnknownDevices {
        /// How many.
        count: u64,
        /// The first few.
        first: Vec<String>,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why an exclusion was not ended.
#[derive(Debug, Error)]
pub enum EndExclusionError {
    /// Somebody has changed it since it was seen.
    #[error(
        "the exclusion of device {endpoint:?} was changed meanwhile: it has revision {revision}; look at it again"
    )]
    Changed {
        /// The device.
        endpoint: String,
        /// What it has now.
        revision: i64,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why the rules of cells were not changed.
#[derive(Debug, Error)]
pub enum UpdateCellsError {
    /// What was to be changed does not fit what there is.
    #[error("cell {cell}: {source}")]
    Rules {
        /// The cell.
        cell: u32,
        /// What does not fit.
        source: RulesError,
    },
    /// Somebody has changed it since it was seen.
    #[error("cell {cell} was changed meanwhile: it has revision {revision}; look at it again")]
    Changed {
        /// The cell.
        cell: u32,
        /// What it has now.
        revision: i64,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a task was not created.
#[derive(Debug, Error)]
pub enum CreateTaskError {
    /// No such package, or it was deleted.
    #[error("there is no package {}; upload it first", .0.0)]
    PackageNotFound(PackageId),
    /// Other content was uploaded for its product and version.
    #[error("package {} was superseded at {at}; use the newer one", .package.0)]
    PackageSuperseded {
        /// The package.
        package: PackageId,
        /// Since when.
        at: UtcMillis,
    },
    /// Its product takes signed packages only, and it came before that.
    #[error(
        "package {} is not signed, and product {product:?} takes signed packages only; upload the same file again with its signature",
        .package.0
    )]
    PackageUnsigned {
        /// The package.
        package: PackageId,
        /// Its product.
        product: String,
    },
    /// Nobody vouches for it any more.
    #[error(
        "the key {key} that vouched for package {} was removed at {at}; upload the same file again with a signature by another key",
        .package.0
    )]
    PackageKeyRemoved {
        /// The package.
        package: PackageId,
        /// The key.
        key: KeyId,
        /// When it was removed.
        at: UtcMillis,
    },
    /// Packages for devices of several products.
    #[error(
        "packages[{index}] is for product {product:?}, and packages[0] for {first:?}; create a task for each product"
    )]
    PackagesOfOtherProducts {
        /// Which of them, from 0.
        index: usize,
        /// Its product.
        product: String,
        /// That of the first.
        first: String,
    },
    /// What the packages are does not go with what is said of them.
    #[error("{0}")]
    Packages(RuleError),
    /// No such group.
    #[error("there is no group {}", .0.0)]
    GroupNotFound(GroupId),
    /// No such group, whose devices it would leave out.
    #[error("there is no group {}, whose devices the task is to leave out", .0.0)]
    ExcludedGroupNotFound(GroupId),
    /// Endpoints that nobody added, and that it would leave out.
    #[error(
        "{count} of the devices that the task is to leave out are unknown: {}; correct their names, or leave them away",
        .first.join(", ")
    )]
    UnknownExcluded {
        /// How many.
        count: u64,
        /// The first few of them.
        first: Vec<String>,
    },
    /// The package is for other devices.
    #[error("the package is for product {package:?}, the task names product {task:?}")]
    OtherProduct {
        /// The package's product.
        package: String,
        /// The product that the task names.
        task: String,
    },
    /// Endpoints that nobody added.
    #[error("{count} of the devices are unknown: {}; add them first", .first.join(", "))]
    UnknownDevices {
        /// How many.
        count: u64,
        /// The first few of them.
        first: Vec<String>,
    },
    /// Endpoints of another product than the package's.
    #[error(
        "{count} of the devices are not of product {product:?}, for which the package is: {}",
        .first.join(", ")
    )]
    DevicesOfOtherProduct {
        /// The package's product.
        product: String,
        /// How many.
        count: u64,
        /// The first few of them.
        first: Vec<String>,
    },
    /// There is nothing to do.
    #[error(
        "no device is selected: there is none of product {product:?} that is meant, or the list is empty"
    )]
    NoDevices {
        /// The package's product.
        product: String,
    },
    /// Nobody is left.
    #[error(
        "no device is left: all {excluded} that are selected are excluded from upgrades; end their exclusions first \
         (cellwise exclusion remove)"
    )]
    AllExcluded {
        /// How many.
        excluded: u64,
    },
    /// Nobody is left, not only because of exclusions.
    #[error(
        "no device is left: of those that are selected the task leaves {left_out} out itself (exclude), and {excluded} more \
         are excluded from upgrades"
    )]
    AllLeftOut {
        /// How many it leaves out itself.
        left_out: u64,
        /// How many more are excluded.
        excluded: u64,
    },
    /// Nobody would be in a phase.
    #[error(
        "phase {} has no device: its filter lets none of the task's devices through that no phase before has; mend the filter, \
         or leave the phase out",
        .phase + 1
    )]
    EmptyPhase {
        /// The phase, from 0.
        phase: u32,
    },
    /// Its webhook is one too many.
    #[error(transparent)]
    Webhook(#[from] AddWebhookError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a task was not changed.
#[derive(Debug, Error)]
pub enum ChangeTaskError {
    /// No such task.
    #[error("there is no task {}", .0.0)]
    NotFound(TaskId),
    /// It has ended, or is about to.
    #[error("task {} is {}; it cannot be changed any more", .id.0, .state.name())]
    Ended {
        /// The task.
        id: TaskId,
        /// Where it stands.
        state: TaskState,
    },
    /// It is held already.
    #[error("task {} does not go on already ({}); resume it first", .id.0, .why.code())]
    Held {
        /// The task.
        id: TaskId,
        /// Why it is held.
        why: HoldReason,
    },
    /// Nothing holds it.
    #[error("task {} is not paused", .0.0)]
    NotHeld(TaskId),
    /// Nobody approved it.
    #[error("task {} is not approved yet; approve it, or refuse to", .0.0)]
    NotApproved(TaskId),
    /// It asks for none, or has it.
    #[error("task {} waits for no approval", .0.0)]
    NoApprovalAsked(TaskId),
    /// Another phase runs than the caller has seen.
    #[error("task {} is in phase {} already", .id.0, .running + 1)]
    OtherPhase {
        /// The task.
        id: TaskId,
        /// The phase that runs, from 0.
        running: u32,
    },
    /// No phase follows.
    #[error("task {} is in its last phase", .0.0)]
    LastPhase(TaskId),
    /// It is for a list of devices, or from before it was kept whom it is for.
    #[error("devices cannot join task {}: it is for a list of devices; create a task for a product, a filter or a group", .0.0)]
    CannotJoin(TaskId),
    /// It is the standing task of an offer that stands: devices join it as long as it does.
    #[error("task {} is the standing task of an offer, which devices join when somebody at home starts it; withdraw the offer first", .0.0)]
    Offered(TaskId),
    /// Its package was deleted.
    #[error("the package of task {} was deleted; create a task with another one", .0.0)]
    PackageDeleted(TaskId),
    /// One of its packages is one that no new task takes: [`CreateTaskError::PackageUnsigned`] or
    /// [`CreateTaskError::PackageKeyRemoved`].
    #[error(transparent)]
    NotVouched(Box<CreateTaskError>),
    /// Somebody has changed it meanwhile.
    #[error("task {} was changed meanwhile: it has revision {revision}; look at it again", .id.0)]
    Changed {
        /// The task.
        id: TaskId,
        /// Its revision.
        revision: u32,
    },
    /// It could not be stopped.
    #[error(transparent)]
    Stop(#[from] StopTaskError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a task was not stopped.
#[derive(Debug, Error)]
pub enum StopTaskError {
    /// No such task.
    #[error("there is no task {}", .0.0)]
    NotFound(TaskId),
    /// There is nothing left to stop.
    #[error("task {} has finished; there is nothing to stop", .0.0)]
    Finished(TaskId),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why an upgrade was not cancelled.
#[derive(Debug, Error)]
pub enum CancelUpgradeError {
    /// No such upgrade.
    #[error("there is no upgrade {}", .0.0)]
    NotFound(UpgradeId),
    /// There is nothing left to cancel.
    #[error("upgrade {} has {state}; there is nothing to cancel", .id.0)]
    Ended {
        /// The upgrade.
        id: UpgradeId,
        /// How: succeeded or failed.
        state: UpgradeState,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why an upgrade was not tried again, or passed over.
#[derive(Debug, Error)]
pub enum ChangeUpgradeError {
    /// No such upgrade.
    #[error("there is no upgrade {}", .0.0)]
    NotFound(UpgradeId),
    /// It is under way.
    #[error("upgrade {} is {stage}; wait for its end, or cancel it", .id.0)]
    Running {
        /// The upgrade.
        id: UpgradeId,
        /// Where it is.
        stage: UpgradeState,
    },
    /// Its device runs the version.
    #[error("upgrade {} has succeeded", .0.0)]
    Succeeded(UpgradeId),
    /// It has never begun, and would be done away with at once.
    #[error(
        "upgrade {} did not begin before the last time of task {}; give the task a later one (not_after), then try again", .0.0, .1.0
    )]
    TooLate(UpgradeId, TaskId),
    /// It does not wait for a confirmation.
    #[error("upgrade {} does not wait for a confirmation: it is {state}", .id.0)]
    NotAwaited {
        /// The upgrade.
        id: UpgradeId,
        /// Where it is.
        state: UpgradeState,
    },
    /// It cannot be confirmed for that time.
    #[error("upgrade {}: {}", .0.0, .1)]
    NotThen(UpgradeId, NotThen),
    /// Its device was removed.
    #[error("the device of upgrade {} was removed; add it, and create a task for it", .0.0)]
    DeviceRemoved(UpgradeId),
    /// A later upgrade of its device is in the same task.
    #[error("upgrade {} of the same device and task came after upgrade {}; try that one again", .later.0, .id.0)]
    Later {
        /// The upgrade.
        id: UpgradeId,
        /// The last one of its device in the task.
        later: UpgradeId,
    },
    /// Its task does not let it.
    #[error(transparent)]
    Task(#[from] ChangeTaskError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<CancelUpgradeError> for ChangeUpgradeError {
    fn from(error: CancelUpgradeError) -> Self {
        match error {
            CancelUpgradeError::NotFound(id) => Self::NotFound(id),
            CancelUpgradeError::Ended { id, .. } => Self::Succeeded(id),
            CancelUpgradeError::Store(error) => Self::Store(error),
        }
    }
}

/// Why a task was not deleted.
#[derive(Debug, Error)]
pub enum DeleteTaskError {
    /// No such task.
    #[error("there is no task {}", .0.0)]
    NotFound(TaskId),
    /// Its upgrades go on.
    #[error("task {} is {}; stop it and wait until it is stopped, then delete it", .id.0, .state.name())]
    Running {
        /// The task.
        id: TaskId,
        /// Where it stands.
        state: TaskState,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}
