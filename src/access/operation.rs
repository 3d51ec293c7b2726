use super::Permission;

/// An operation of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Operation {
    /// Its name, as the description of the API has it (`operationId`).
    pub name: &'static str,
    /// What it needs.
    pub needs: Permission,
    /// Whether it keeps to the devices of its caller.
    pub reach: Reach,
    /// What of it may be kept for a request that comes twice.
    pub secrecy: Secrecy,
}

/// What of a request and its answer is kept, so that one that comes twice is carried out once (`Idempotency-Key`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Secrecy {
    /// A digest of the request, and the answer.
    Kept,
    /// A digest of the request. The answer tells a secret, once.
    TellsSecret,
    /// Nothing: a digest would be a fast hash of a password. It takes no key.
    TakesPassword,
}

/// Of which devices an operation tells, or which it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// Those of its caller's scope, or none at all.
    Scoped,
    /// Any: it is not for callers whose grants are narrowed.
    Whole,
}

const fn scoped(name: &'static str, needs: Permission) -> Operation {
    let (reach, secrecy) = (Reach::Scoped, Secrecy::Kept);
    Operation {
        name,
        needs,
        reach,
        secrecy,
    }
}

const fn whole(name: &'static str, needs: Permission) -> Operation {
    Operation {
        reach: Reach::Whole,
        ..scoped(name, needs)
    }
}

/// Every operation below `/v1`, in the order of its names.
pub const OPERATIONS: &[Operation] = {
    use Permission::{Administer, Approve, Audit, Open, Operate, Own, Read};
    &[
        whole("add_device", Operate),
        scoped("add_exclusions", Operate),
        whole("add_group", Operate),
        whole("add_product_key", Administer),
        whole("add_token", Administer).tells_secret(),
        whole("add_user", Administer).takes_password(),
        whole("add_webhook", Administer).tells_secret(),
        scoped("approve_task", Approve),
        scoped("begin_oidc", Open),
        whole("cancel_forecast", Operate),
        scoped("cancel_upgrade", Operate),
        scoped("confirm_totp", Own).tells_secret(),
        scoped("confirm_upgrade", Operate),
        scoped("copy_task", Operate),
        scoped("count_devices", Read),
        whole("count_evidence", Read),
        whole("create_product", Administer),
        scoped("create_task", Operate),
        whole("delete_package", Operate),
        scoped("delete_task", Operate),
        scoped("end_exclusion", Operate),
        scoped("end_oidc", Open),
        scoped("enrol_totp", Own).takes_password(),
        whole("export_audit", Audit),
        whole("export_evidence", Read),
        whole("forecast_task", Operate),
        whole("get_audit_head", Audit),
        whole("get_cell", Read),
        whole("get_cell_limits", Read),
        whole("get_cell_series", Read),
        scoped("get_device", Read),
        scoped("get_device_series", Read),
        scoped("get_exclusion", Read),
        whole("get_forecast", Read),
        whole("get_group", Read),
        scoped("get_me", Own),
        scoped("get_package", Read),
        scoped("get_product", Read),
        scoped("get_sbom", Read),
        scoped("get_task", Read),
        whole("get_task_forecast", Read),
        scoped("get_task_series", Read),
        whole("get_token", Administer),
        scoped("get_upgrade", Read),
        whole("get_user", Administer),
        whole("get_webhook", Administer),
        whole("import_cells", Administer),
        whole("list_audit", Audit),
        whole("list_cells", Read),
        whole("list_deliveries", Administer),
        scoped("list_device_upgrades", Read),
        scoped("list_devices", Read),
        whole("list_evidence", Read),
        scoped("list_exclusions", Read),
        whole("list_groups", Read),
        scoped("list_newest_upgrades", Read),
        scoped("list_packages", Read),
        scoped("list_product_keys", Read),
        scoped("list_products", Read),
        scoped("list_tasks", Read),
        whole("list_tokens", Administer),
        whole("list_unknown_devices", Read),
        scoped("list_upgrades", Read),
        whole("list_users", Administer),
        whole("list_webhooks", Administer),
        scoped("log_in", Open).takes_password(),
        scoped("log_out", Own),
        scoped("next_phase", Operate),
        scoped("pause_task", Operate),
        whole("ping_webhook", Administer),
        scoped("refuse_task", Approve),
        scoped("remove_device", Operate),
        whole("remove_group", Operate),
        whole("remove_product", Administer),
        whole("remove_product_key", Administer),
        whole("remove_sbom", Operate),
        scoped("remove_totp", Own).takes_password(),
        whole("remove_user", Administer),
        whole("remove_user_totp", Administer),
        whole("remove_webhook", Administer),
        whole("replay_delivery", Administer),
        whole("replay_failed", Administer),
        whole("report_outage", Administer),
        scoped("resume_task", Operate),
        scoped("retry_task", Operate),
        scoped("retry_upgrade", Operate),
        whole("revoke_token", Administer),
        whole("set_sbom", Operate),
        scoped("skip_upgrade", Operate),
        scoped("stop_task", Operate),
        scoped("stream_events", Read),
        whole("update_cell", Administer),
        scoped("update_device", Operate),
        whole("update_group", Operate),
        scoped("update_me", Own),
        whole("update_package", Operate),
        whole("update_product", Administer),
        scoped("update_task", Operate),
        whole("update_user", Administer),
        whole("upload_package", Operate),
    ]
};

impl Operation {
    const fn tells_secret(self) -> Self {
        Self {
            secrecy: Secrecy::TellsSecret,
            ..self
        }
    }

    const fn takes_password(self) -> Self {
        Self {
            secrecy: Secrecy::TakesPassword,
            ..self
        }
    }

    /// The operation of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        OPERATIONS.iter().find(|operation| operation.name == name)
    }
}
