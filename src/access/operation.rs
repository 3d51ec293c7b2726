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
    /// Anything of the tenants that its caller is granted as a whole: it is not for callers that are granted some devices.
    Tenant,
    /// Any: it is for callers that are granted everything.
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

const fn tenant(name: &'static str, needs: Permission) -> Operation {
    Operation {
        reach: Reach::Tenant,
        ..scoped(name, needs)
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
        tenant("add_device", Operate),
        scoped("add_exclusions", Operate),
        tenant("add_group", Operate),
        tenant("add_login_link", Administer).tells_secret(),
        tenant("add_product_key", Administer),
        whole("add_tenant", Administer),
        tenant("add_token", Administer).tells_secret(),
        tenant("add_user", Administer).takes_password(),
        tenant("add_webhook", Administer).tells_secret(),
        scoped("approve_task", Approve),
        scoped("begin_oidc", Open),
        tenant("cancel_forecast", Operate),
        scoped("cancel_upgrade", Operate),
        tenant("clear_site", Operate),
        scoped("confirm_totp", Own).tells_secret(),
        scoped("confirm_upgrade", Operate),
        scoped("copy_task", Operate),
        scoped("count_devices", Read),
        tenant("count_evidence", Read),
        tenant("create_product", Administer),
        scoped("create_task", Operate),
        tenant("delete_app_user", Administer),
        tenant("delete_home", Operate),
        tenant("delete_package", Operate),
        scoped("delete_task", Operate),
        whole("delete_tenant", Administer),
        scoped("end_exclusion", Operate),
        scoped("end_oidc", Open),
        scoped("enrol_totp", Own).takes_password(),
        tenant("export_app_user", Administer),
        whole("export_audit", Audit),
        tenant("export_evidence", Read),
        tenant("forecast_task", Operate),
        whole("get_audit_head", Audit),
        whole("get_cell", Read),
        whole("get_cell_limits", Read),
        whole("get_cell_series", Read),
        scoped("get_device", Read),
        scoped("get_device_series", Read),
        scoped("get_exclusion", Read),
        tenant("get_forecast", Read),
        tenant("get_group", Read),
        tenant("get_home", Operate),
        scoped("get_me", Own),
        tenant("get_offer", Read),
        scoped("get_package", Read),
        scoped("get_product", Read),
        scoped("get_sbom", Read),
        whole("get_settings", Administer),
        tenant("get_site", Read),
        scoped("get_task", Read),
        tenant("get_task_forecast", Read),
        scoped("get_task_series", Read),
        tenant("get_tenant", Read),
        tenant("get_token", Administer),
        scoped("get_upgrade", Read),
        tenant("get_user", Administer),
        tenant("get_webhook", Administer),
        whole("import_cells", Administer),
        tenant("issue_app_token", Administer).tells_secret(),
        tenant("list_audit", Audit),
        whole("list_cells", Read),
        tenant("list_deliveries", Administer),
        scoped("list_device_upgrades", Read),
        scoped("list_devices", Read),
        tenant("list_evidence", Read),
        scoped("list_exclusions", Read),
        tenant("list_groups", Read),
        tenant("list_homes", Read),
        scoped("list_newest_upgrades", Read),
        tenant("list_offers", Read),
        scoped("list_packages", Read),
        scoped("list_product_keys", Read),
        scoped("list_products", Read),
        tenant("list_sites", Read),
        scoped("list_tasks", Read),
        tenant("list_tenants", Read),
        tenant("list_tokens", Administer),
        whole("list_unknown_devices", Read),
        scoped("list_upgrades", Read),
        tenant("list_users", Administer),
        tenant("list_webhooks", Administer),
        scoped("log_in", Open).takes_password(),
        scoped("log_out", Own),
        scoped("next_phase", Operate),
        scoped("pause_task", Operate),
        tenant("ping_webhook", Administer),
        tenant("publish_offer", Operate),
        scoped("refuse_task", Approve),
        scoped("remove_device", Operate),
        tenant("remove_group", Operate),
        tenant("remove_home_device", Operate),
        tenant("remove_home_member", Operate),
        tenant("remove_product", Administer),
        tenant("remove_product_key", Administer),
        tenant("remove_sbom", Operate),
        scoped("remove_totp", Own).takes_password(),
        tenant("remove_user", Administer),
        tenant("remove_user_totp", Administer),
        tenant("remove_webhook", Administer),
        tenant("replay_delivery", Administer),
        tenant("replay_failed", Administer),
        whole("report_outage", Administer),
        scoped("resume_task", Operate),
        scoped("retry_task", Operate),
        scoped("retry_upgrade", Operate),
        tenant("revoke_app_user", Administer),
        tenant("revoke_token", Administer),
        tenant("set_home", Operate),
        tenant("set_home_device", Operate),
        tenant("set_home_member", Operate),
        tenant("set_homes", Operate),
        tenant("set_sbom", Operate),
        tenant("set_site", Operate),
        scoped("skip_upgrade", Operate),
        scoped("stop_task", Operate),
        scoped("stream_events", Read),
        whole("update_cell", Administer),
        scoped("update_device", Operate),
        tenant("update_group", Operate),
        scoped("update_me", Own),
        tenant("update_offer", Operate),
        tenant("update_package", Operate),
        tenant("update_product", Administer),
        scoped("update_task", Operate),
        whole("update_tenant", Administer),
        tenant("update_user", Administer),
        tenant("upload_package", Operate),
        tenant("withdraw_offer", Operate),
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
