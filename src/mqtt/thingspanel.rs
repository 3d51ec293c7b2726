//! What devices of `ThingsPanel` say of upgrades, and what they are told: JSON on `ota/…`.
//!
//! Shapes are those of its documentation ("OTA", "MQTT access") and of its community edition's server. Numbers come as texts too, and
//! the fields of a report stand at its top or in `params`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::iotda::{cut, number, percent, text, version};
use crate::package::Version;

/// The longest report that is read, in bytes.
pub const MAX_REPORT: usize = 16 * 1024;
/// The part of a device that is upgraded where nobody says another one.
pub const WHOLE: &str = "default";

/// An edition of `ThingsPanel`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Release {
    /// 0.5: devices report their version.
    V05,
    /// 1.x: they do not.
    V1,
}

/// A payload that is no report.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It is too long.
    #[error("it has more than {MAX_REPORT} bytes")]
    TooLong,
    /// It is no JSON of that shape.
    #[error("it is no report: {0}")]
    Shape(#[from] serde_json::Error),
    /// What it is about is missing.
    #[error("it has no {0}")]
    Missing(&'static str),
}

/// A version that a device reports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inform {
    /// The part of the device: [`WHOLE`] where it does not say.
    pub module: String,
    /// Its version.
    pub version: Version,
}

/// How an upgrade goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// The part of the device: [`WHOLE`] where it does not say.
    pub module: String,
    /// How it goes.
    pub step: Step,
    /// What it says in words.
    pub description: Option<String>,
}

/// A step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Percent, 0 to 99.
    Percent(u8),
    /// 100.
    Through,
    /// A failure: −1 of the upgrade, −2 of the download, −3 of the check, −4 of the writing, or another one.
    Failed(i32),
}

#[derive(Deserialize)]
struct Report {
    #[serde(default)]
    params: Option<Value>,
    #[serde(flatten)]
    top: Map<String, Value>,
}

#[derive(Deserialize)]
struct Fields {
    #[serde(default, deserialize_with = "text")]
    version: Option<String>,
    #[serde(default, deserialize_with = "text")]
    module: Option<String>,
    #[serde(default, deserialize_with = "number")]
    step: Option<i64>,
    #[serde(default, deserialize_with = "text")]
    desc: Option<String>,
}

fn fields(payload: &[u8]) -> Result<Fields, Unreadable> {
    if payload.len() > MAX_REPORT {
        return Err(Unreadable::TooLong);
    }
    let report: Report = serde_json::from_slice(payload)?;
    let fields = match report.params {
        Some(params @ Value::Object(_)) => params,
        _ => Value::Object(report.top),
    };
    Ok(serde_json::from_value(fields)?)
}

fn module(fields: &Fields) -> String {
    let told = fields.module.as_deref().filter(|module| !module.is_empty());
    told.unwrap_or(WHOLE).chars().take(64).collect()
}

impl Inform {
    /// What a device publishes on `ota/device/inform`.
    ///
    /// # Errors
    /// It tells no version.
    pub fn read(payload: &[u8]) -> Result<Self, Unreadable> {
        let fields = fields(payload)?;
        Ok(Self {
            module: module(&fields),
            version: version(fields.version.as_deref()).ok_or(Unreadable::Missing("version"))?,
        })
    }
}

impl Progress {
    /// What a device publishes on `ota/device/progress` or `ota/devices/progress`.
    ///
    /// # Errors
    /// It tells no step, or one above 100.
    pub fn read(payload: &[u8]) -> Result<Self, Unreadable> {
        let fields = fields(payload)?;
        let step = match fields.step {
            Some(100) => Step::Through,
            Some(failed) if failed < 0 => {
                Step::Failed(i32::try_from(failed).map_err(|_| Unreadable::Missing("step"))?)
            }
            Some(step) => Step::Percent(percent(step).ok_or(Unreadable::Missing("step"))?),
            None => return Err(Unreadable::Missing("step")),
        };
        Ok(Self {
            module: module(&fields),
            step,
            description: cut(fields.desc),
        })
    }
}

/// The push of a package.
#[derive(Debug, Clone, Copy)]
pub struct Push<'a> {
    /// Tells it from others: nine digits.
    pub id: u32,
    /// The version.
    pub version: &'a str,
    /// Bytes of the package.
    pub size_bytes: u64,
    /// Where it is fetched.
    pub url: &'a str,
    /// Its SHA-256, in lower-case hexadecimal digits.
    pub sha256: &'a str,
    /// The part of the device that it is for.
    pub module: &'a str,
}

/// A number, or the same as a text: releases differ.
#[derive(Serialize)]
#[serde(untagged)]
enum Either {
    Number(u64),
    Text(String),
}

#[derive(Serialize)]
struct PushBody<'a> {
    id: String,
    code: Either,
    params: PushParams<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PushParams<'a> {
    version: &'a str,
    size: Either,
    url: &'a str,
    sign_method: &'a str,
    sign: &'a str,
    module: &'a str,
    ext_data: Map<String, Value>,
}

impl Push<'_> {
    /// As that release writes it.
    pub fn to_bytes(self, release: Release) -> Vec<u8> {
        let either = |number: u64| match release {
            Release::V05 => Either::Number(number),
            Release::V1 => Either::Text(number.to_string()),
        };
        let body = PushBody {
            id: format!("{:09}", self.id % 1_000_000_000),
            code: either(200),
            params: PushParams {
                version: self.version,
                size: either(self.size_bytes),
                url: self.url,
                sign_method: "SHA256",
                sign: self.sha256,
                module: self.module,
                ext_data: Map::new(),
            },
        };
        // texts and numbers have a form in JSON
        serde_json::to_vec(&body).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests;
