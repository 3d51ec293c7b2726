//! What the store and the files refuse, as problems.

use axum::http::StatusCode;

use super::{extract::too_large, problem::Problem};
use crate::{
    store::{
        AddAppTokenError, AddKeyError, AddTokenError, AddUserError, AddWebhookError,
        CancelUpgradeError, ChangeTaskError, ChangeUpgradeError, CreateTaskError,
        DeletePackageError, DeleteTaskError, EndExclusionError, ExcludeError, FileError,
        GroupError, HomeError, InsertPackageError, OfferStoreError, SiteError, StopTaskError,
        StoreError, TenantError, UpdateDeviceError, UpdatePackageError, UpdateProductError,
        UploadError,
    },
    task::RuleError,
};

impl Problem {
    /// The caller has seen another revision of it.
    pub(super) fn changed_meanwhile(detail: impl ToString) -> Self {
        let title = "Somebody has changed it meanwhile";
        Self::new(
            StatusCode::PRECONDITION_FAILED,
            "changed-meanwhile",
            title,
            detail,
        )
    }
}

/// What failed for a moment is worth another try.
impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Failed { .. } | StoreError::Damaged { .. } => {
                tracing::error!(%error, "a request to the admin API failed");
                let title = "The database is not available";
                Self::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "store-unavailable",
                    title,
                    error,
                )
            }
            StoreError::Refused { .. } | StoreError::Unreadable { .. } => Self::internal(&error),
        }
    }
}

impl From<TenantError> for Problem {
    fn from(error: TenantError) -> Self {
        match error {
            TenantError::Taken(_) => {
                Self::conflict("name-taken", "The name is taken", error).about("id")
            }
            TenantError::TooMany => {
                Self::conflict("too-many-tenants", "There are too many tenants", error)
            }
            TenantError::NotFound(_) => Self::not_found(error),
            TenantError::Changed { .. } => Self::changed_meanwhile(error),
            TenantError::Default(_) | TenantError::InUse { .. } => {
                Self::conflict("tenant-in-use", "The tenant is not empty", error)
            }
            TenantError::Store(error) => error.into(),
        }
    }
}

impl From<AddTokenError> for Problem {
    fn from(error: AddTokenError) -> Self {
        match error {
            AddTokenError::NameTaken { .. } => {
                Self::conflict("name-taken", "The name is taken", error).about("name")
            }
            AddTokenError::TooMany | AddTokenError::ShareTaken { .. } => {
                Self::conflict("too-many-tokens", "There are too many tokens", error)
            }
            AddTokenError::Store(error) => error.into(),
        }
    }
}

impl From<AddUserError> for Problem {
    fn from(error: AddUserError) -> Self {
        match error {
            AddUserError::NameTaken(_) => {
                Self::conflict("name-taken", "The name is taken", error).about("name")
            }
            AddUserError::TooMany | AddUserError::ShareTaken { .. } => {
                Self::conflict("too-many-users", "There are too many users", error)
            }
            AddUserError::Store(error) => error.into(),
        }
    }
}

impl From<InsertPackageError> for Problem {
    fn from(error: InsertPackageError) -> Self {
        match error {
            InsertPackageError::Indistinct { .. } => {
                let title = "Devices cannot tell the package from an earlier one";
                Self::conflict("package-indistinct", title, error)
            }
            InsertPackageError::InUse { .. } => Self::package_in_use(error),
            InsertPackageError::Unsigned(_) => Self::unsigned(error),
            InsertPackageError::KeyRemoved { .. } => Self::field("signature", error),
            InsertPackageError::Store(error) => error.into(),
        }
    }
}

impl From<UpdatePackageError> for Problem {
    fn from(error: UpdatePackageError) -> Self {
        match error {
            UpdatePackageError::NotFound(_) => Self::not_found(error),
            UpdatePackageError::Changed { .. } => Self::changed_meanwhile(error),
            UpdatePackageError::Store(error) => error.into(),
        }
    }
}

impl From<UpdateProductError> for Problem {
    fn from(error: UpdateProductError) -> Self {
        match error {
            UpdateProductError::Changed { .. } => Self::changed_meanwhile(error),
            UpdateProductError::Exists(_) => {
                Self::conflict("name-taken", "The name is taken", error).about("product")
            }
            UpdateProductError::NotFound(_) => Self::not_found(error),
            UpdateProductError::InUse { .. } => {
                Self::conflict("product-in-use", "The product is in use", error)
            }
            UpdateProductError::TooMany | UpdateProductError::ShareTaken { .. } => {
                Self::conflict("too-many-products", "There are too many products", error)
            }
            UpdateProductError::Store(error) => error.into(),
        }
    }
}

impl From<AddKeyError> for Problem {
    fn from(error: AddKeyError) -> Self {
        match error {
            AddKeyError::TooMany(_) => {
                Self::conflict("too-many-keys", "The product has enough keys", error)
            }
            AddKeyError::Store(error) => error.into(),
        }
    }
}

impl From<DeletePackageError> for Problem {
    fn from(error: DeletePackageError) -> Self {
        match error {
            DeletePackageError::NotFound(_) => Self::not_found(error),
            DeletePackageError::InUse { .. } => Self::package_in_use(error),
            DeletePackageError::Store(error) => error.into(),
        }
    }
}

impl From<UploadError> for Problem {
    fn from(error: UploadError) -> Self {
        match error {
            UploadError::TooLarge { .. } => too_large(error),
            UploadError::File(error) => error.into(),
        }
    }
}

impl From<FileError> for Problem {
    fn from(error: FileError) -> Self {
        if error.source.kind() != std::io::ErrorKind::StorageFull {
            return Self::internal(&error);
        }
        tracing::error!(%error, "the disk is full");
        let detail = format!("{error}; free space on the server's disk and upload again");
        let title = "The server's disk is full";
        Self::new(StatusCode::INSUFFICIENT_STORAGE, "disk-full", title, detail)
    }
}

impl From<UpdateDeviceError> for Problem {
    fn from(error: UpdateDeviceError) -> Self {
        match error {
            UpdateDeviceError::NotFound(_) => Self::not_found(error),
            UpdateDeviceError::IdentityTaken { .. } | UpdateDeviceError::TokenTaken(_) => {
                Self::identity_taken(error)
            }
            UpdateDeviceError::Upgrading { .. } => {
                let title = "An upgrade runs on the device";
                Self::conflict("upgrade-running", title, error)
            }
            UpdateDeviceError::Changed { .. } => Self::changed_meanwhile(error),
            UpdateDeviceError::Busy(_) => {
                Self::conflict("upgrade-running", "An upgrade has not ended", error).about("tenant")
            }
            UpdateDeviceError::Attributes(error) => Self::field("tags", error),
            UpdateDeviceError::Via { .. } => {
                let title = "The device is not reached through that gateway";
                Self::conflict("gateway-refused", title, error).about("via")
            }
            UpdateDeviceError::HasChildren { .. } => {
                Self::conflict("gateway-in-use", "Others are reached through it", error)
            }
            UpdateDeviceError::Store(error) => error.into(),
        }
    }
}

impl From<CreateTaskError> for Problem {
    fn from(error: CreateTaskError) -> Self {
        const OTHER_PRODUCT: &str = "The package is of another product";
        match error {
            CreateTaskError::PackageNotFound(_) => Self::not_found(error).about("package_id"),
            CreateTaskError::PackagesOfOtherProducts { index, .. } => {
                Self::field(&format!("packages[{index}].package_id"), error)
            }
            CreateTaskError::Packages(RuleError { field, detail }) => Self::field(&field, detail),
            CreateTaskError::GroupNotFound(_) => Self::not_found(error).about("group"),
            CreateTaskError::ExcludedGroupNotFound(_) => {
                Self::not_found(error).about("exclude.group")
            }
            CreateTaskError::UnknownExcluded { .. } => {
                Self::conflict("unknown-devices", "Devices are not known", error)
                    .about("exclude.devices")
            }
            CreateTaskError::PackageSuperseded { .. } => {
                let title = "There is a newer package of that version";
                Self::conflict("package-superseded", title, error)
            }
            CreateTaskError::PackageUnsigned { .. } => {
                Self::conflict("package-unsigned", "The package is not signed", error)
            }
            CreateTaskError::PackageKeyRemoved { .. } => {
                let title = "Nobody vouches for the package any more";
                Self::conflict("package-key-removed", title, error)
            }
            CreateTaskError::OtherProduct { .. } => {
                Self::conflict("other-product", OTHER_PRODUCT, error).about("product")
            }
            CreateTaskError::DevicesOfOtherProduct { .. } => {
                Self::conflict("other-product", OTHER_PRODUCT, error).about("devices")
            }
            CreateTaskError::UnknownDevices { .. } => {
                Self::conflict("unknown-devices", "Devices are not known", error).about("devices")
            }
            CreateTaskError::NoDevices { .. }
            | CreateTaskError::AllExcluded { .. }
            | CreateTaskError::AllLeftOut { .. } => {
                Self::conflict("no-devices", "No device is selected", error)
            }
            CreateTaskError::EmptyPhase { phase } => {
                let field = format!("phases[{phase}].filter");
                Self::conflict("no-devices", "No device is selected", error).about(&field)
            }
            CreateTaskError::Webhook(error) => error.into(),
            CreateTaskError::Store(error) => error.into(),
        }
    }
}

impl From<ChangeTaskError> for Problem {
    fn from(error: ChangeTaskError) -> Self {
        match error {
            ChangeTaskError::NotFound(_) => Self::not_found(error),
            ChangeTaskError::Ended { .. } | ChangeTaskError::PackageDeleted(_) => {
                Self::conflict("task-ended", "The task cannot be changed any more", error)
            }
            ChangeTaskError::Held { .. }
            | ChangeTaskError::NotHeld(_)
            | ChangeTaskError::NotApproved(_)
            | ChangeTaskError::NoApprovalAsked(_)
            | ChangeTaskError::OtherPhase { .. }
            | ChangeTaskError::LastPhase(_) => {
                Self::conflict("task-held", "The task does not stand so", error)
            }
            ChangeTaskError::CannotJoin(_) | ChangeTaskError::Offered(_) => {
                Self::field("membership", error)
            }
            ChangeTaskError::NotVouched(error) => (*error).into(),
            ChangeTaskError::Changed { .. } => Self::changed_meanwhile(error),
            ChangeTaskError::Stop(error) => error.into(),
            ChangeTaskError::Store(error) => error.into(),
        }
    }
}

impl From<ExcludeError> for Problem {
    fn from(error: ExcludeError) -> Self {
        match error {
            ExcludeError::UnknownDevices { .. } => {
                let title = "Devices are not known";
                Self::conflict("unknown-devices", title, error).about("endpoints")
            }
            ExcludeError::Store(error) => error.into(),
        }
    }
}

impl From<EndExclusionError> for Problem {
    fn from(error: EndExclusionError) -> Self {
        match error {
            EndExclusionError::Changed { .. } => Self::changed_meanwhile(error),
            EndExclusionError::Store(error) => error.into(),
        }
    }
}

impl From<GroupError> for Problem {
    fn from(error: GroupError) -> Self {
        match error {
            GroupError::NotFound(_) => Self::not_found(error),
            GroupError::Changed { .. } => Self::changed_meanwhile(error),
            GroupError::NameTaken { .. } => {
                Self::conflict("name-taken", "Another group has the name", error).about("name")
            }
            GroupError::TooMany => {
                Self::conflict("too-many-groups", "There are too many groups", error)
            }
            GroupError::UnknownDevices { .. } => {
                Self::conflict("unknown-devices", "Devices are not known", error)
            }
            GroupError::IsList(_) | GroupError::IsFilter(_) => {
                let title = "The group is of another kind";
                Self::conflict("other-kind-of-group", title, error)
            }
            GroupError::InUse { .. } => {
                Self::conflict("group-in-use", "Tasks use the group", error)
            }
            GroupError::Store(error) => error.into(),
        }
    }
}

impl From<HomeError> for Problem {
    fn from(error: HomeError) -> Self {
        match error {
            HomeError::NotFound(_) | HomeError::NoMember { .. } | HomeError::NoDevice { .. } => {
                Self::not_found(error)
            }
            HomeError::UnknownDevice(_) => {
                Self::conflict("unknown-devices", "Devices are unknown", error)
            }
            HomeError::Elsewhere { .. } => {
                Self::conflict("device-elsewhere", "The device is in another home", error)
            }
            HomeError::TooMany => {
                Self::conflict("too-many-homes", "There are too many homes", error)
            }
            HomeError::TooManyMembers | HomeError::TooManyDevices => {
                Self::conflict("home-full", "There is no more room in the home", error)
            }
            HomeError::Changed { .. } => Self::changed_meanwhile(error),
            HomeError::Store(error) => error.into(),
        }
    }
}

impl From<OfferStoreError> for Problem {
    fn from(error: OfferStoreError) -> Self {
        match error {
            OfferStoreError::NotFound(_) => Self::not_found(error),
            OfferStoreError::Withdrawn(_) => {
                Self::conflict("offer-withdrawn", "The offer was withdrawn", error)
            }
            OfferStoreError::TooMany => {
                Self::conflict("too-many-offers", "There are too many offers", error)
            }
            OfferStoreError::Changed { .. } => Self::changed_meanwhile(error),
            OfferStoreError::Task(error) => error.into(),
            OfferStoreError::Store(error) => error.into(),
        }
    }
}

impl From<AddAppTokenError> for Problem {
    fn from(error: AddAppTokenError) -> Self {
        match error {
            AddAppTokenError::TooMany => {
                Self::conflict("too-many-tokens", "There are too many tokens", error)
            }
            AddAppTokenError::Store(error) => error.into(),
        }
    }
}

impl From<SiteError> for Problem {
    fn from(error: SiteError) -> Self {
        match error {
            SiteError::NotFound(_) => Self::not_found(error),
            SiteError::Changed { .. } => Self::changed_meanwhile(error),
            SiteError::TooMany => {
                Self::conflict("too-many-sites", "Too many sites have a limit", error)
            }
            SiteError::Store(error) => error.into(),
        }
    }
}

impl From<StopTaskError> for Problem {
    fn from(error: StopTaskError) -> Self {
        match error {
            StopTaskError::NotFound(_) => Self::not_found(error),
            StopTaskError::Finished(_) => {
                Self::conflict("task-finished", "The task has finished", error)
            }
            StopTaskError::Store(error) => error.into(),
        }
    }
}

impl From<DeleteTaskError> for Problem {
    fn from(error: DeleteTaskError) -> Self {
        match error {
            DeleteTaskError::NotFound(_) => Self::not_found(error),
            DeleteTaskError::Running { .. } => {
                Self::conflict("task-running", "The task is running", error)
            }
            DeleteTaskError::Store(error) => error.into(),
        }
    }
}

impl From<CancelUpgradeError> for Problem {
    fn from(error: CancelUpgradeError) -> Self {
        match error {
            CancelUpgradeError::NotFound(_) => Self::not_found(error),
            CancelUpgradeError::Ended { .. } => {
                Self::conflict("upgrade-ended", "The upgrade has ended", error)
            }
            CancelUpgradeError::Store(error) => error.into(),
        }
    }
}

impl From<ChangeUpgradeError> for Problem {
    fn from(error: ChangeUpgradeError) -> Self {
        match error {
            ChangeUpgradeError::NotFound(_) => Self::not_found(error),
            ChangeUpgradeError::Running { .. } => {
                Self::conflict("upgrade-running", "The upgrade is under way", error)
            }
            ChangeUpgradeError::NotAwaited { .. } => {
                Self::conflict("not-awaited", "The upgrade does not wait for that", error)
            }
            ChangeUpgradeError::NotThen(_, why) => Self::field("at", why),
            ChangeUpgradeError::Succeeded(_)
            | ChangeUpgradeError::TooLate(..)
            | ChangeUpgradeError::DeviceRemoved(_)
            | ChangeUpgradeError::Later { .. } => {
                Self::conflict("upgrade-ended", "The upgrade has ended", error)
            }
            ChangeUpgradeError::Task(error) => error.into(),
            ChangeUpgradeError::Store(error) => error.into(),
        }
    }
}

impl From<AddWebhookError> for Problem {
    fn from(error: AddWebhookError) -> Self {
        match error {
            AddWebhookError::NoTask(_) => Self::not_found(error).about("task_id"),
            AddWebhookError::TooMany(_) | AddWebhookError::TooManyAlike(_) => {
                Self::conflict("too-many-webhooks", "There are too many webhooks", error)
            }
            AddWebhookError::Store(error) => error.into(),
        }
    }
}

impl Problem {
    /// The product takes signed packages only.
    pub(super) fn unsigned(detail: impl ToString) -> Self {
        let title = "The product takes signed packages only";
        Self::new(
            StatusCode::UNPROCESSABLE_ENTITY,
            "signature-required",
            title,
            detail,
        )
    }
    fn package_in_use(detail: impl ToString) -> Self {
        Self::conflict("package-in-use", "A task uses the package", detail)
    }

    /// The identity of a pre-shared key.
    pub(super) fn identity_taken(detail: impl ToString) -> Self {
        Self::conflict("identity-taken", "Another device has the identity", detail)
    }
}
