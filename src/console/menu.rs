//! The pages that the menu leads to.

use super::viewer::Viewer;

/// An entry.
#[derive(Debug, Clone, Copy)]
pub(super) struct Item {
    /// Where it leads.
    pub(super) path: &'static str,
    /// The name of its text.
    pub(super) text: &'static str,
    /// It is shown to whom this operation is permitted.
    operation: &'static str,
}

const fn item(path: &'static str, text: &'static str, operation: &'static str) -> Item {
    Item {
        path,
        text,
        operation,
    }
}

const ITEMS: [Item; 12] = [
    item("/now", "menu-now", "get_me"),
    item("/tasks", "menu-tasks", "list_tasks"),
    item("/approvals", "menu-approvals", "approve_task"),
    item("/devices", "menu-devices", "list_devices"),
    item("/cells", "menu-cells", "list_cells"),
    item("/packages", "menu-packages", "list_packages"),
    item("/homes", "menu-homes", "list_homes"),
    item("/gateways", "menu-gateways", "list_devices"),
    item("/webhooks", "menu-webhooks", "list_webhooks"),
    item("/people", "menu-people", "list_users"),
    item("/audit", "menu-audit", "list_audit"),
    item("/settings", "menu-settings", "get_settings"),
];

impl Viewer {
    /// The entries of the menu.
    pub(super) fn menu(&self) -> impl Iterator<Item = Item> {
        ITEMS.into_iter().filter(|item| self.may(item.operation))
    }

    /// Whether the page is an entry's, or below it.
    pub(super) fn is_below(&self, path: &str) -> bool {
        let here = self.here.split('?').next().unwrap_or_default();
        let rest = here.strip_prefix(path);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }

    /// What was just done, as the address of the page says: `?done=task-paused`.
    pub(super) fn done(&self) -> Option<String> {
        let (_, query) = self.here.split_once('?')?;
        let query = super::fields::Fields::parse(query.as_bytes());
        let what = query.some("done")?;
        self.language.say(&format!("done-{what}"), &[])
    }
}
