//! What devices of Huawei IoTDA say of upgrades, and what they are told: JSON on `$oc/devices/{id}/sys/events/…`.
//!
//! Shapes are those of IoTDA's documentation ("MQTT APIs", "Software and firmware upgrade") and of its device SDKs. Devices leave
//! fields out, make numbers texts, and give times in several forms or none; what is not needed is not looked at.

pub mod topology;

use std::io::Read as _;

use flate2::bufread::MultiGzDecoder;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::{clock::UtcMillis, ledger::MAX_DESCRIPTION, package::Version};
use topology::Topology;

/// The longest envelope that is read, in bytes. A device's properties may be longer, and are none of an upgrade's matter.
pub const MAX_ENVELOPE: usize = 64 * 1024;
/// An envelope that a device has compressed (`?encoding=gzip` behind its topic). `None` where it is no gzip, or longer than what is
/// read: no more than that is unpacked, whatever it claims to hold (RFC 1952).
pub fn inflate(payload: &[u8]) -> Option<Vec<u8>> {
    let mut envelope = Vec::new();
    let most = MAX_ENVELOPE as u64 + 1;
    let unpacked = (MultiGzDecoder::new(payload).take(most)).read_to_end(&mut envelope);
    (unpacked.is_ok() && envelope.len() <= MAX_ENVELOPE).then_some(envelope)
}

/// Events of an envelope that are looked at.
const MAX_EVENTS: usize = 32;

/// The result code of a device that runs what it is offered already ("the target version is the newest").
pub const NEWEST: i32 = 3;

/// What a device says of upgrades.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// `version_report`.
    Versions(Versions),
    /// `upgrade_progress_report`.
    Progress(Progress),
}

/// The versions of a device. A device may tell one of them, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Versions {
    /// Of its firmware.
    pub firmware: Option<Version>,
    /// Of its software.
    pub software: Option<Version>,
}

impl Versions {
    /// The one that is upgraded; the other, where only that is told.
    pub fn of(self, kind: Kind) -> Option<Version> {
        match kind {
            Kind::Firmware => self.firmware.or(self.software),
            Kind::Software => self.software.or(self.firmware),
        }
    }
}

/// How an upgrade goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// 0 where nothing has failed.
    pub code: i32,
    /// Percent, 0 to 100, where it says.
    pub percent: Option<u8>,
    /// The version that it names.
    pub version: Option<Version>,
    /// What it says in words, cut to [`MAX_DESCRIPTION`] characters.
    pub description: Option<String>,
    /// It says nothing of how far it is, or that it has done all.
    pub through: bool,
}

/// What was read of an envelope.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Read {
    /// The device behind the gateway of which all of it is; `None` where it is of the device itself.
    pub child: Option<String>,
    /// What is said of upgrades, in order.
    pub said: Vec<Said>,
    /// What the device says of those behind it, in order.
    pub topology: Vec<Topology>,
    /// Events that are about something else, such as logs.
    pub others: u32,
    /// Events about upgrades, or about devices behind it, that cannot be read.
    pub unreadable: u32,
}

/// A payload that is no envelope.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// It is too long.
    #[error("it has more than {MAX_ENVELOPE} bytes")]
    TooLong,
    /// It is no JSON of that shape.
    #[error("it is no envelope: {0}")]
    Shape(#[from] serde_json::Error),
}

#[derive(Deserialize)]
struct Envelope {
    #[serde(default, deserialize_with = "text")]
    object_device_id: Option<String>,
    #[serde(default)]
    services: Vec<Event>,
}

#[derive(Deserialize)]
#[expect(clippy::struct_field_names, reason = "they are the protocol's")]
struct Event {
    #[serde(default, deserialize_with = "text")]
    service_id: Option<String>,
    #[serde(default, deserialize_with = "text")]
    event_type: Option<String>,
    #[serde(default)]
    paras: Value,
}

#[derive(Deserialize)]
struct VersionParas {
    #[serde(default, deserialize_with = "text")]
    fw_version: Option<String>,
    #[serde(default, deserialize_with = "text")]
    sw_version: Option<String>,
}

#[derive(Deserialize)]
struct ProgressParas {
    #[serde(deserialize_with = "number")]
    result_code: Option<i64>,
    #[serde(default, deserialize_with = "number")]
    progress: Option<i64>,
    #[serde(default, deserialize_with = "text")]
    version: Option<String>,
    #[serde(default, deserialize_with = "text")]
    description: Option<String>,
}

/// A text; what is no text is none.
pub(super) fn text<'de, D: Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    Ok(match Value::deserialize(value)? {
        Value::String(text) => Some(text),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    })
}

/// A whole number, also as a text; what is none is none.
pub(super) fn number<'de, D: Deserializer<'de>>(value: D) -> Result<Option<i64>, D::Error> {
    Ok(match Value::deserialize(value)? {
        Value::Number(number) => (number.as_i64()).or_else(|| whole(number.as_f64()?)),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    })
}

fn whole(number: f64) -> Option<i64> {
    let fits = number.fract() == 0.0 && number.abs() < 1e9;
    #[expect(
        clippy::cast_possible_truncation,
        reason = "whole, and below a thousand millions"
    )]
    fits.then_some(number as i64)
}

/// A version as a device tells it, unless it tells an empty one.
pub(super) fn version(text: Option<&str>) -> Option<Version> {
    let text = text.filter(|text| !text.is_empty())?;
    Some(Version::told(text.as_bytes()))
}

/// The beginning of what a device says in words.
pub(super) fn cut(text: Option<String>) -> Option<String> {
    let text = text.filter(|text| !text.is_empty())?;
    Some(text.chars().take(MAX_DESCRIPTION).collect())
}

/// Reads what the device with this name says on `sys/events/up`.
///
/// # Errors
/// The payload is no envelope.
pub fn read(device: &str, payload: &[u8]) -> Result<Read, Unreadable> {
    if payload.len() > MAX_ENVELOPE {
        return Err(Unreadable::TooLong);
    }
    let envelope: Envelope = serde_json::from_slice(payload)?;
    let about = envelope.object_device_id.filter(|id| !id.is_empty());
    let child = about.filter(|id| id != device);
    let own = child.is_none();
    let mut read = Read {
        child,
        ..Read::default()
    };
    for (index, event) in envelope.services.into_iter().enumerate() {
        let kind = event.event_type.as_deref().unwrap_or_default();
        let service = event.service_id.as_deref().filter(|_| index < MAX_EVENTS);
        let said = match (service, kind) {
            (Some("$ota"), "version_report") => versions(event.paras),
            (Some("$ota"), "upgrade_progress_report") => progress(event.paras),
            (Some(topology::SERVICE), kind) if own => {
                match topology::read(kind, event.paras) {
                    Some(Some(told)) => read.topology.push(told),
                    Some(None) => read.unreadable += 1,
                    None => read.others += 1,
                }
                continue;
            }
            _ => {
                read.others += 1; // fewer than the bytes of the payload
                continue;
            }
        };
        match said {
            Some(said) => read.said.push(said),
            None => read.unreadable += 1,
        }
    }
    Ok(read)
}

fn versions(paras: Value) -> Option<Said> {
    let paras: VersionParas = serde_json::from_value(paras).ok()?;
    let versions = Versions {
        firmware: version(paras.fw_version.as_deref()),
        software: version(paras.sw_version.as_deref()),
    };
    (versions != Versions::default()).then_some(Said::Versions(versions))
}

fn progress(paras: Value) -> Option<Said> {
    let paras: ProgressParas = serde_json::from_value(paras).ok()?;
    Some(Said::Progress(Progress {
        code: i32::try_from(paras.result_code?).ok()?,
        percent: paras.progress.and_then(percent),
        version: version(paras.version.as_deref()),
        description: cut(paras.description),
        through: paras.progress.is_none_or(|progress| progress == 100),
    }))
}

/// 0 to 100; anything else says nothing.
pub(super) fn percent(number: i64) -> Option<u8> {
    u8::try_from(number).ok().filter(|percent| *percent <= 100)
}

/// What of a device is upgraded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// Its firmware: `firmware_upgrade`, `fw_version`.
    #[default]
    Firmware,
    /// Its software: `software_upgrade`, `sw_version`.
    Software,
}

/// An event for a device, with what all of them have.
#[derive(Debug, Clone, Copy)]
pub struct Addressed<'a> {
    /// The device.
    pub device: &'a str,
    /// When it is made.
    pub at: UtcMillis,
    /// Tells it from others.
    pub id: &'a str,
}

#[derive(Serialize)]
struct Down<'a, P> {
    object_device_id: &'a str,
    services: [Service<'a, P>; 1],
}

#[derive(Serialize)]
#[expect(clippy::struct_field_names, reason = "they are the protocol's")]
struct Service<'a, P> {
    service_id: &'a str,
    event_type: &'a str,
    event_time: String,
    event_id: &'a str,
    paras: P,
}

#[derive(Serialize)]
struct QueryParas<'a> {
    task_id: &'a str,
    // some devices take no object here
    task_ext_info: &'a str,
}

#[derive(Serialize)]
struct UpgradeParas<'a> {
    version: &'a str,
    url: &'a str,
    file_size: u64,
    file_name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_token: Option<&'a str>,
    expires: u64,
    sign: &'a str,
    custom_info: &'a str,
    task_id: &'a str,
    task_ext_info: &'a str,
    sub_device_count: u32,
}

impl Addressed<'_> {
    fn event<P: Serialize>(&self, event_type: &str, paras: P) -> Vec<u8> {
        self.event_of("$ota", event_type, paras)
    }

    fn event_of<P: Serialize>(&self, service_id: &str, event_type: &str, paras: P) -> Vec<u8> {
        let down = Down {
            object_device_id: self.device,
            services: [Service {
                service_id,
                event_type,
                event_time: event_time(self.at),
                event_id: self.id,
                paras,
            }],
        };
        // texts and numbers have a form in JSON
        serde_json::to_vec(&down).unwrap_or_default()
    }

    /// `version_query`.
    pub fn version_query(&self, task: &str) -> Vec<u8> {
        let paras = QueryParas {
            task_id: task,
            task_ext_info: "",
        };
        self.event("version_query", paras)
    }

    /// `firmware_upgrade` or `software_upgrade`, and the same of version 2 where the URL carries its own right.
    pub fn upgrade(&self, kind: Kind, offer: &Offer<'_>) -> Vec<u8> {
        let event_type = match (kind, offer.token) {
            (Kind::Firmware, Some(_)) => "firmware_upgrade",
            (Kind::Firmware, None) => "firmware_upgrade_v2",
            (Kind::Software, Some(_)) => "software_upgrade",
            (Kind::Software, None) => "software_upgrade_v2",
        };
        let paras = UpgradeParas {
            version: offer.version,
            url: offer.url,
            file_size: offer.size_bytes,
            file_name: offer.file_name,
            access_token: offer.token,
            expires: offer.expires_s,
            sign: offer.sha256,
            custom_info: offer.custom_info,
            task_id: offer.task,
            task_ext_info: "",
            sub_device_count: 0,
        };
        self.event(event_type, paras)
    }
}

/// A package that is offered.
#[derive(Debug, Clone, Copy)]
pub struct Offer<'a> {
    /// Its version.
    pub version: &'a str,
    /// Where it is fetched.
    pub url: &'a str,
    /// What is shown there in `Authorization: Bearer`; `None` where the URL carries it.
    pub token: Option<&'a str>,
    /// Bytes of it.
    pub size_bytes: u64,
    /// What its file is called.
    pub file_name: &'a str,
    /// For how long it can be fetched, in seconds.
    pub expires_s: u64,
    /// Its SHA-256, in lower-case hexadecimal digits.
    pub sha256: &'a str,
    /// What it is for, among the server's tasks.
    pub task: &'a str,
    /// What the operator has the device told besides: the conditions of the plan as JSON, or nothing.
    pub custom_info: &'a str,
}

/// `yyyyMMdd'T'HHmmss'Z'`.
fn event_time(at: UtcMillis) -> String {
    let text = at.to_string(); // 2026-11-30T05:20:19.000Z
    let digits = text.chars().filter(|c| !matches!(c, '-' | ':'));
    let mut text: String = digits.take_while(|c| *c != '.').collect();
    if !text.ends_with('Z') {
        text.push('Z');
    }
    text
}

#[cfg(test)]
mod tests;
