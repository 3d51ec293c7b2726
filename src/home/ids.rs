//! What homes, users and offers are called.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::tenant::TenantId;

/// Characters of the longest name of a home.
const MAX_HOME: usize = 64;
/// Characters of the longest name of a user.
const MAX_USER: usize = 128;

/// What an integrator calls a home: 1 to 64 characters out of `A-Z a-z 0-9 . _ ~ : @ -`. It is one of its tenant's.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HomeId(String);

/// A text is no name of a home.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a home has 1 to {MAX_HOME} characters out of A-Z a-z 0-9 . _ ~ : @ -")]
pub struct NoHomeId;

/// What an integrator calls a user, as the claim of its tokens has it: 1 to 128 printable characters of ASCII without spaces.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct UserId(String);

/// A text is no name of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a user has 1 to {MAX_USER} printable ASCII characters, and no spaces")]
pub struct NoUserId;

/// Number of an offer. It is never given twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct OfferId(pub i64);

/// A home among those of all tenants.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HomeKey {
    /// Whose it is.
    pub tenant: TenantId,
    /// What that calls it.
    pub id: HomeId,
}

/// A user among those of all tenants.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserKey {
    /// Whose user it is.
    pub tenant: TenantId,
    /// What that calls the user.
    pub id: UserId,
}

impl HomeKey {
    /// What tells it from all others: no tenant has a stroke in its name.
    pub fn text(&self) -> String {
        format!("{}/{}", self.tenant, self.id)
    }

    /// The same of a device in it: no home has a stroke in its name either.
    pub fn device_text(&self, endpoint: &str) -> String {
        format!("{}/{endpoint}", self.text())
    }
}

impl UserKey {
    /// What tells the user from all others: no tenant has a stroke in its name.
    pub fn text(&self) -> String {
        format!("{}/{}", self.tenant, self.id)
    }
}

impl HomeId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl UserId {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for HomeId {
    type Err = NoHomeId;

    fn from_str(text: &str) -> Result<Self, NoHomeId> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._~:@-".contains(&byte);
        // a segment of a path that is only dots means another one
        let dots = matches!(text, "." | "..");
        if (1..=MAX_HOME).contains(&text.len()) && text.bytes().all(plain) && !dots {
            Ok(Self(text.to_owned()))
        } else {
            Err(NoHomeId)
        }
    }
}

impl FromStr for UserId {
    type Err = NoUserId;

    fn from_str(text: &str) -> Result<Self, NoUserId> {
        let dots = matches!(text, "." | "..");
        let fits = (1..=MAX_USER).contains(&text.len());
        if fits && text.bytes().all(|byte| byte.is_ascii_graphic()) && !dots {
            Ok(Self(text.to_owned()))
        } else {
            Err(NoUserId)
        }
    }
}

impl TryFrom<String> for HomeId {
    type Error = NoHomeId;

    fn try_from(text: String) -> Result<Self, NoHomeId> {
        text.parse()
    }
}

impl TryFrom<String> for UserId {
    type Error = NoUserId;

    fn try_from(text: String) -> Result<Self, NoUserId> {
        text.parse()
    }
}

impl From<HomeId> for String {
    fn from(id: HomeId) -> Self {
        id.0
    }
}

impl From<UserId> for String {
    fn from(id: UserId) -> Self {
        id.0
    }
}

impl fmt::Display for HomeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
