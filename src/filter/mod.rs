//! Which devices are meant, as an operator writes it: RSQL, the language that hawkBit's users know.
//!
//! `product==meter;version<V1.10,tag.owner=in=(north,south)`. [`Filter::parse`] reads it, [`Filter::matches`] answers for one
//! device, and a store makes a question of its own of the tree ([`Filter::root`]) that gives the same answers.
//! docs/fleet-and-filters.md describes the language.
//!
//! An attribute that a device does not have is not equal to anything, and is in no order: `==`, `=in=`, `<` and the like are
//! false of it, `!=` and `=out=` are true.

mod display;
mod parse;
mod pattern;
mod tree;
mod unheard;

#[cfg(test)]
pub(crate) mod tests;

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub use pattern::Pattern;
pub use tree::{
    Claim, Comparison, Facts, FlagField, Node, NumberField, Order, Test, TextField, TimeField,
    Unit, When,
};
pub use unheard::Unheard;

use crate::{clock::UtcMillis, tenant::TenantId};

/// Characters in the longest filter.
pub const MAX_CHARACTERS: usize = 4_096;
/// Comparisons in a filter.
pub const MAX_COMPARISONS: usize = 100;
/// Values in a list.
pub const MAX_VALUES: usize = 200;
/// Parentheses in each other.
pub const MAX_DEPTH: usize = 32;
/// Characters in the longest key of a tag.
pub const MAX_TAG_KEY: usize = 64;

/// A filter that has been understood. Its canonical text is what it displays as; that is never longer than what was read, and
/// reading it gives the same filter; it is kept as that.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Filter {
    root: Node,
}

/// Why a text is no filter.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("at character {position}: {reason}")]
pub struct FilterError {
    /// The character at which it ceases to be one, from 1; one more than there are at the end.
    pub position: usize,
    /// What is expected there.
    pub reason: String,
}

impl Filter {
    /// Understands a text of at most [`MAX_CHARACTERS`] characters.
    ///
    /// # Errors
    /// Where it is no filter, and what is expected there.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        parse::parse(text).map(|root| Self { root })
    }

    /// Whether it lets a device through; times that are relative are before `now`.
    pub fn matches(&self, device: &impl Facts, now: UtcMillis) -> bool {
        self.root.holds(device, now)
    }

    /// What it consists of.
    pub fn root(&self) -> &Node {
        &self.root
    }

    /// Those of its conditions that a device has to meet, one and all.
    pub fn conditions(&self) -> &[Node] {
        match &self.root {
            Node::All(nodes) => nodes,
            one => std::slice::from_ref(one),
        }
    }

    /// What lets through whom both let through.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            root: Node::all(vec![self.root, other.root]),
        }
    }
}

impl Filter {
    /// What lets through whoever belongs to a tenant.
    pub fn of_tenant(tenant: &TenantId) -> Self {
        Self::exactly(TextField::Tenant, tenant.as_str())
    }

    /// What lets through whoever has a product of this name, whosesoever it is.
    pub fn of_product(name: &str) -> Self {
        Self::exactly(TextField::Product, name)
    }

    fn exactly(field: TextField, value: &str) -> Self {
        let value = Test::Equal(Pattern::new(vec![value.to_owned()]));
        Self {
            root: Node::One(Comparison {
                negated: false,
                claim: Claim::Text(field, value),
            }),
        }
    }

    /// What lets through whom one of these lets through; `None` where there is none.
    pub fn any(filters: Vec<Self>) -> Option<Self> {
        let roots: Vec<Node> = filters.into_iter().map(|filter| filter.root).collect();
        (!roots.is_empty()).then(|| Self {
            root: Node::any(roots),
        })
    }
}

impl FromStr for Filter {
    type Err = FilterError;

    fn from_str(text: &str) -> Result<Self, FilterError> {
        Self::parse(text)
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root.fmt(f)
    }
}

impl TryFrom<String> for Filter {
    type Error = FilterError;

    fn try_from(text: String) -> Result<Self, FilterError> {
        Self::parse(&text)
    }
}

impl From<Filter> for String {
    fn from(filter: Filter) -> Self {
        filter.to_string()
    }
}
