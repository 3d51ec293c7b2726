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
    let reach = Reach::Scoped;
    Operation { name, needs, reach }
}

const fn whole(name: &'static str, needs: Permission) -> Operation {
    let reach = Reach::Whole;
    Operation { name, needs, reach }
}

/// Every operation of the API that is not for everybody, in the order of its names.
pub const OPERATIONS: &[Operation] = {
    use Permission::{Administer, Approve, Audit, Operate, Own, Read};
    &[
        whole("add_device", Operate),
        whole("add_exclusions", Operate),
        whole("add_group", Operate),
        whole("add_token", Administer),
        whole("add_webhook", Administer),
        whole("approve_task", Approve),
        whole("cancel_forecast", Operate),
        whole("cancel_upgrade", Operate),
        whole("confirm_upgrade", Operate),
        whole("copy_task", Operate),
        whole("count_devices", Read),
        whole("create_task", Operate),
        whole("delete_package", Operate),
        whole("delete_task", Operate),
        whole("end_exclusion", Operate),
        whole("export_audit", Audit),
        whole("forecast_task", Operate),
        whole("get_audit_head", Audit),
        whole("get_cell", Read),
        whole("get_cell_series", Read),
        whole("get_device", Read),
        whole("get_device_series", Read),
        whole("get_forecast", Read),
        whole("get_group", Read),
        scoped("get_me", Own),
        scoped("get_package", Read),
        whole("get_task", Read),
        whole("get_task_forecast", Read),
        whole("get_task_series", Read),
        whole("get_token", Administer),
        whole("get_upgrade", Read),
        whole("get_webhook", Administer),
        whole("import_cells", Administer),
        whole("list_audit", Audit),
        whole("list_cells", Read),
        whole("list_deliveries", Administer),
        whole("list_device_upgrades", Read),
        whole("list_devices", Read),
        whole("list_exclusions", Read),
        whole("list_groups", Read),
        whole("list_newest_upgrades", Read),
        scoped("list_packages", Read),
        whole("list_tasks", Read),
        whole("list_tokens", Administer),
        whole("list_unknown_devices", Read),
        whole("list_upgrades", Read),
        whole("list_webhooks", Administer),
        whole("next_phase", Operate),
        whole("pause_task", Operate),
        whole("ping_webhook", Administer),
        whole("refuse_task", Approve),
        whole("remove_device", Operate),
        whole("remove_group", Operate),
        whole("remove_webhook", Administer),
        whole("replay_delivery", Administer),
        whole("replay_failed", Administer),
        whole("report_outage", Administer),
        whole("resume_task", Operate),
        whole("retry_task", Operate),
        whole("retry_upgrade", Operate),
        whole("revoke_token", Administer),
        whole("skip_upgrade", Operate),
        whole("stop_task", Operate),
        whole("stream_events", Read),
        whole("update_cell", Administer),
        whole("update_device", Operate),
        whole("update_group", Operate),
        whole("update_task", Operate),
        whole("upload_package", Operate),
    ]
};

impl Operation {
    /// The operation of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        OPERATIONS.iter().find(|operation| operation.name == name)
    }
}
