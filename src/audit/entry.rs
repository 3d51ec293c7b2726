use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::canonical;
use crate::{clock::UtcMillis, tenant::DEFAULT};

/// Longest reason that a caller may give, characters.
pub const MAX_REASON: usize = 500;
/// Longest number of a request that is written down, bytes.
pub const MAX_REQUEST: usize = 255;
/// So much is written down of what was there before, and of what is there after, bytes of JSON each.
const MAX_SIDE: usize = 4 * 1024;
/// A field that is longer is left out of what is too long.
const MAX_FIELD: usize = 512;

/// What somebody has done, or was not let do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Entry {
    /// When it was asked for.
    #[serde(skip)]
    pub at: UtcMillis,
    /// Who: `admin-token`, `token:7:nightly-import`, `system`; `nobody` was not let in.
    pub who: String,
    /// Whose matter it is, where it is a tenant's. The tenant `default` is not written down: nobody has to know of it.
    #[serde(default, skip_serializing_if = "is_not_told")]
    pub tenant: Option<String>,
    /// The address that it was asked from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The name of the operation (`operationId`).
    pub operation: String,
    /// What it is about: `devices/urn:imei:1`, `tasks/7`; the kind alone where it is about many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Fields that are other now, as they were.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<Map<String, Value>>,
    /// The same, as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<Map<String, Value>>,
    /// How many of what, where it is about many.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub counts: BTreeMap<String, u64>,
    /// Why, if it was said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// What the caller calls its request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// What came of it.
    pub result: EntryResult,
    /// The HTTP status, where it was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The kind of problem, where it was not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// How often, where more than once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// When for the last time, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_at: Option<String>,
}

#[expect(clippy::ref_option, reason = "serde hands the field over")]
fn is_not_told(tenant: &Option<String>) -> bool {
    tenant.as_deref().is_none_or(|tenant| tenant == DEFAULT)
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryResult {
    /// It was done.
    #[default]
    Done,
    /// It was refused.
    Refused,
    /// The server failed.
    Failed,
    /// The server ended in the middle of it, or its caller went away: the counts say what was done.
    Interrupted,
}

impl EntryResult {
    /// Every result.
    pub const ALL: [Self; 4] = [Self::Done, Self::Refused, Self::Failed, Self::Interrupted];

    /// A stable word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Shortens what is too long to be written down: long fields are left out, and say how long they were.
pub fn cut(fields: Map<String, Value>) -> Map<String, Value> {
    let length = |value: &Value| canonical(value).len();
    let whole = Value::Object(fields);
    let bytes = length(&whole);
    let Value::Object(mut fields) = whole else {
        return Map::new(); // it was made of an object
    };
    if bytes <= MAX_SIDE {
        return fields;
    }
    for value in fields.values_mut() {
        let bytes = length(value);
        if bytes > MAX_FIELD {
            *value = json!({"cut_bytes": bytes});
        }
    }
    let cut = Value::Object(fields);
    match (length(&cut) <= MAX_SIDE, cut) {
        (true, Value::Object(fields)) => fields,
        _ => Map::from_iter([("cut_bytes".to_owned(), json!(bytes))]),
    }
}
