use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::Role;
use crate::{
    filter::Filter,
    tenant::{NoTenantId, TenantId},
};

/// Grants of one caller.
pub const MAX_GRANTS: usize = 10;
/// Comparisons in all filters of one caller: each question that it asks has them in it.
const MAX_COMPARISONS: usize = 50;
/// Characters of the filter that stands for all of them. It is kept with tasks, together with theirs.
const MAX_CHARACTERS: usize = 2_000;

/// A role, on a tenant, for all of its devices or for some.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// What for.
    pub role: Role,
    /// Whose devices, packages, tasks and the like.
    #[serde(default)]
    pub tenant: Tenants,
    /// Only those that this lets through; `None`: all.
    #[serde(default)]
    pub filter: Option<Filter>,
}

/// Whose things a grant is for. It is kept as the tenant's name, or `*`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Tenants {
    /// Everybody's.
    #[default]
    All,
    /// Those of this tenant.
    One(TenantId),
}

/// Stands for all tenants.
const ALL: &str = "*";

impl Tenants {
    /// Those that a grant with this filter is on where nobody has named one: all, and of some devices those of the tenant `default`.
    pub fn usual(filter: Option<&Filter>) -> Self {
        match filter {
            None => Self::All,
            Some(_) => Self::One(TenantId::default()),
        }
    }

    /// The tenant, where it is one.
    pub const fn one(&self) -> Option<&TenantId> {
        match self {
            Self::All => None,
            Self::One(tenant) => Some(tenant),
        }
    }
}

impl TryFrom<String> for Tenants {
    type Error = NoTenantId;

    fn try_from(text: String) -> Result<Self, NoTenantId> {
        if text == ALL {
            return Ok(Self::All);
        }
        text.parse().map(Self::One)
    }
}

impl From<Tenants> for String {
    fn from(tenants: Tenants) -> Self {
        match tenants {
            Tenants::All => ALL.to_owned(),
            Tenants::One(tenant) => tenant.into(),
        }
    }
}

/// Why grants are none.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum GrantError {
    /// None, or too many.
    #[error("give 1 to {MAX_GRANTS} grants")]
    Count,
    /// A role that concerns the whole.
    #[error("the role {} concerns the whole and cannot be narrowed to some devices; leave the filter out", .0.name())]
    Narrowed(Role),
    /// Too long filters.
    #[error(
        "the filters have more than {MAX_CHARACTERS} characters together; name devices by a tag"
    )]
    Length,
    /// Too many comparisons.
    #[error(
        "the filters have more than {MAX_COMPARISONS} comparisons together; name devices by a tag"
    )]
    Comparisons,
}

impl Grant {
    /// A role for everything.
    pub const fn of(role: Role) -> Self {
        Self {
            role,
            tenant: Tenants::All,
            filter: None,
        }
    }
}

/// Checks what somebody is to be granted. An error of one grant comes with its place.
pub fn check_grants(grants: &[Grant]) -> Result<(), (Option<usize>, GrantError)> {
    if !(1..=MAX_GRANTS).contains(&grants.len()) {
        return Err((None, GrantError::Count));
    }
    let odd = |grant: &Grant| grant.filter.is_some() && !grant.role.can_be_narrowed();
    if let Some(at) = grants.iter().position(odd) {
        return Err((Some(at), GrantError::Narrowed(grants[at].role)));
    }
    let filters = grants.iter().filter_map(|grant| grant.filter.clone());
    let Some(joint) = Filter::any(filters.collect()) else {
        return Ok(());
    };
    if joint.root().comparisons() > MAX_COMPARISONS {
        return Err((None, GrantError::Comparisons));
    }
    if joint.to_string().chars().count() > MAX_CHARACTERS {
        return Err((None, GrantError::Length));
    }
    Ok(())
}
