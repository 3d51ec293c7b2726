//! Who may do what in a home.

use serde::{Deserialize, Serialize};

/// What somebody is in a home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Whose home it is.
    Owner,
    /// Who may do there what the owner may.
    Administrator,
    /// Who may look.
    Member,
}

/// What somebody does in a home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Looks at what can be upgraded, how it stands and what became of it, and follows that.
    Read,
    /// Starts upgrades.
    Start,
    /// Says that a start goes on over a weak signal, or does not.
    Continue,
    /// Cancels one that has not begun.
    Cancel,
    /// Confirms or refuses what a plan would do.
    Confirm,
    /// Has devices upgrade by themselves, or no longer.
    SetAutomatic,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Owner, Self::Administrator, Self::Member];

    /// Its number: 0, 1, 2.
    pub const fn code(self) -> u8 {
        match self {
            Self::Owner => 0,
            Self::Administrator => 1,
            Self::Member => 2,
        }
    }

    /// The one of that number.
    pub fn from_code(code: i64) -> Option<Self> {
        (Self::ALL.into_iter()).find(|role| i64::from(role.code()) == code)
    }

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Administrator => "administrator",
            Self::Member => "member",
        }
    }

    /// The one of that name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// Whether it may do that: members look, and no more.
    pub const fn may(self, action: Action) -> bool {
        match self {
            Self::Owner | Self::Administrator => true,
            Self::Member => matches!(action, Action::Read),
        }
    }
}

impl Action {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Read,
        Self::Start,
        Self::Continue,
        Self::Cancel,
        Self::Confirm,
        Self::SetAutomatic,
    ];
}
