use serde::{Deserialize, Serialize};

/// What somebody is let in for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads.
    Viewer,
    /// Devices, packages, tasks, groups, exclusions, upgrades and forecasts; and reads.
    Operator,
    /// Approves tasks that somebody else has made, or refuses to; and reads.
    Approver,
    /// Users, tokens, webhooks and cells; reads, and who did what.
    Administrator,
    /// Who did what; and reads.
    Auditor,
}

/// What an operation needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Permission {
    /// Nothing: whoever is to be let in asks for that.
    Open,
    /// To be let in, and no more: it concerns the caller alone.
    Own,
    /// To read.
    Read,
    /// To change devices, packages, tasks, groups, exclusions and upgrades, and to forecast.
    Operate,
    /// To answer for a task that waits for approval.
    Approve,
    /// To say who is let in, where events go, and what holds for cells.
    Administer,
    /// To read who did what.
    Audit,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] = [
        Self::Viewer,
        Self::Operator,
        Self::Approver,
        Self::Administrator,
        Self::Auditor,
    ];

    /// A stable word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Operator => "operator",
            Self::Approver => "approver",
            Self::Administrator => "administrator",
            Self::Auditor => "auditor",
        }
    }

    /// Whether it lets do what needs `permission`.
    pub const fn permits(self, permission: Permission) -> bool {
        match permission {
            Permission::Open | Permission::Own | Permission::Read => true,
            Permission::Operate => matches!(self, Self::Operator),
            Permission::Approve => matches!(self, Self::Approver),
            Permission::Administer => matches!(self, Self::Administrator),
            Permission::Audit => matches!(self, Self::Auditor | Self::Administrator),
        }
    }

    /// Whether it can be narrowed to some devices. What the others are for concerns the whole.
    pub const fn can_be_narrowed(self) -> bool {
        matches!(self, Self::Viewer | Self::Operator | Self::Approver)
    }
}

impl Permission {
    /// Every permission.
    pub const ALL: [Self; 7] = [
        Self::Open,
        Self::Own,
        Self::Read,
        Self::Operate,
        Self::Approve,
        Self::Administer,
        Self::Audit,
    ];

    /// The roles that give it, as they are told to whoever has none of them.
    pub const fn roles(self) -> &'static str {
        match self {
            Self::Open | Self::Own | Self::Read => "any role",
            Self::Operate => "the role operator",
            Self::Approve => "the role approver",
            Self::Administer => "the role administrator",
            Self::Audit => "the role auditor or administrator",
        }
    }
}
