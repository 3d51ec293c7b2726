//! To whom devices, packages, tasks and the like belong: names of tenants, and what a product is called among all tenants.
//!
//! A product's name is one of its tenant's: two tenants may both have a product `meter`. Below the API a product goes by its key,
//! which is its name for the tenant `default`, and `acme/meter` for another: `/` is in no name. So whatever keeps devices and
//! packages of one product together keeps tenants apart.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// Whose everything is where nobody has made tenants.
pub const DEFAULT: &str = "default";
/// Characters of the longest name.
pub const MAX_CHARACTERS: usize = 32;
/// What stands between a tenant and the name of its product.
const STROKE: char = '/';

/// The name of a tenant: 1 to 32 characters out of `a-z 0-9 -`, of which `-` is neither the first nor the last.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TenantId(String);

/// A text is no name of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error(
    "a tenant has 1 to {MAX_CHARACTERS} characters out of a-z 0-9 -, and begins and ends with a letter or a digit"
)]
pub struct NoTenantId;

impl TenantId {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the one whose everything is where nobody has made tenants.
    pub fn is_default(&self) -> bool {
        self.0 == DEFAULT
    }

    /// The key of its product of this name.
    pub fn product_key(&self, name: &str) -> String {
        if self.is_default() {
            name.to_owned()
        } else {
            format!("{}{STROKE}{name}", self.0)
        }
    }
}

impl Default for TenantId {
    fn default() -> Self {
        Self(DEFAULT.to_owned())
    }
}

impl FromStr for TenantId {
    type Err = NoTenantId;

    fn from_str(text: &str) -> Result<Self, NoTenantId> {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        let ends = text.starts_with('-') || text.ends_with('-');
        if (1..=MAX_CHARACTERS).contains(&text.len()) && text.bytes().all(plain) && !ends {
            Ok(Self(text.to_owned()))
        } else {
            Err(NoTenantId)
        }
    }
}

impl TryFrom<String> for TenantId {
    type Error = NoTenantId;

    fn try_from(text: String) -> Result<Self, NoTenantId> {
        text.parse()
    }
}

impl From<TenantId> for String {
    fn from(tenant: TenantId) -> Self {
        tenant.0
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whose product the one with this key is.
pub fn owner(key: &str) -> &str {
    key.split_once(STROKE).map_or(DEFAULT, |(owner, _)| owner)
}

/// What the tenant of the product with this key calls it.
pub fn product_name(key: &str) -> &str {
    key.split_once(STROKE).map_or(key, |(_, name)| name)
}

/// The owner of a product, unless it is the one of everything: where there is one tenant, nobody is told of it.
pub fn told(key: &str) -> Option<String> {
    Some(owner(key))
        .filter(|owner| *owner != DEFAULT)
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked() {
        for name in ["a", "0", "acme", "a-b", "default", &"a".repeat(32)] {
            assert_eq!(name.parse::<TenantId>().unwrap().as_str(), name);
            let read: TenantId = serde_json::from_str(&format!("{name:?}")).unwrap();
            assert_eq!(serde_json::to_value(read).unwrap(), name);
        }
        for none in [
            "",
            "-",
            "-a",
            "a-",
            "A",
            "a/b",
            "a b",
            "ä",
            "*",
            &"a".repeat(33),
        ] {
            assert_eq!(none.parse::<TenantId>(), Err(NoTenantId), "{none}");
        }
        assert!(TenantId::default().is_default());
        assert_eq!(DEFAULT.parse(), Ok(TenantId::default()));
    }

    #[test]
    fn a_key_tells_owner_and_name() {
        let acme: TenantId = "acme".parse().unwrap();
        for (tenant, key) in [(&acme, "acme/meter"), (&TenantId::default(), "meter")] {
            assert_eq!(tenant.product_key("meter"), key);
            assert_eq!((owner(key), product_name(key)), (tenant.as_str(), "meter"));
        }
        assert_eq!(told("acme/meter").as_deref(), Some("acme"));
        assert_eq!(told("meter"), None);
    }
}
