//! What a token tells, or why it tells nothing.

use std::{borrow::Cow, fmt};

use serde_json::Value;

use crate::clock::UtcMillis;

/// Why a token is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::app) struct Refused(Cow<'static, str>);

impl Refused {
    pub(super) const fn new(why: &'static str) -> Self {
        Self(Cow::Borrowed(why))
    }

    pub(super) const fn owned(why: String) -> Self {
        Self(Cow::Owned(why))
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a signed token tells of somebody. Nothing of it is checked but that the issuer says so.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::app) struct Told {
    /// The user, as the issuer calls them.
    pub(in crate::app) user: String,
    /// The tenant; `None` where the settings name no claim for it.
    pub(in crate::app) tenant: Option<String>,
    /// The homes, and the roles there as they are written; `None` where the token does not tell.
    pub(in crate::app) homes: Option<Vec<(String, Value)>>,
    /// When it was made at the earliest: the issuer's clock may be ahead, and knows whole seconds only.
    pub(in crate::app) issued_at: UtcMillis,
    /// When it ends, with the leeway.
    pub(in crate::app) ends_at: UtcMillis,
}
