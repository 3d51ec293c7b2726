//! Messages of Huawei IoTDA, as its public device kits write and read them: topics, the envelope of events, the
//! password of a connection.
//!
//! Source: the device interface of IoTDA ("Reporting a Device Event", "Delivering an Event"), and the kits at
//! <https://github.com/huaweicloud>.

use hmac::{Hmac, KeyInit as _, Mac as _};
use serde::Deserialize;
use serde_json::{Value, json};
use sha2::Sha256;

/// The service of events about devices behind a gateway.
const MANAGER: &str = "$sub_device_manager";
/// More than a device would take.
const MOST_SERVICES: usize = 16;

/// The topic that the platform publishes on.
pub(super) fn topic_down(device: &str) -> String {
    format!("$oc/devices/{device}/sys/events/down")
}

/// The topic that the device publishes on.
pub(super) fn topic_up(device: &str) -> String {
    format!("$oc/devices/{device}/sys/events/up")
}

/// The password: HMAC-SHA256 in hexadecimal digits, the hour as its key, the secret as its message.
pub(super) fn password(secret: &str, hour: &str) -> String {
    // HMAC takes keys of any length
    Hmac::<Sha256>::new_from_slice(hour.as_bytes()).map_or_else(
        |_| String::new(),
        |mut hmac| {
            hmac.update(secret.as_bytes());
            hex::encode(hmac.finalize().into_bytes())
        },
    )
}

/// What the platform asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Asked {
    /// `version_query`.
    Version,
    /// One of the four upgrades.
    Upgrade(Offer),
}

/// The package that is offered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Offer {
    /// Whether the event's name ends in `_v2`.
    pub(super) second: bool,
    pub(super) url: String,
    pub(super) version: String,
    /// Bytes, 0 if it was not told.
    pub(super) size: u64,
    /// SHA-256 in hexadecimal digits; empty if it was not told.
    pub(super) sign: String,
    /// Of v1.
    pub(super) access_token: Option<String>,
}

#[derive(Deserialize)]
struct Envelope {
    object_device_id: Option<String>,
    #[serde(default)]
    services: Vec<Service>,
}

#[derive(Deserialize)]
struct Service {
    #[serde(rename = "service_id")]
    name: String,
    event_type: String,
    #[serde(default)]
    paras: Value,
}

/// What is asked of `device`, in order. What is meant for others, or is not known, is left out; `None` if it is no
/// event at all.
pub(super) fn asked(device: &str, payload: &[u8]) -> Option<Vec<Asked>> {
    let envelope: Envelope = serde_json::from_slice(payload).ok()?;
    let object = envelope.object_device_id.as_deref();
    if object.is_some_and(|object| object != device) {
        return Some(Vec::new());
    }
    let ota = |service: &&Service| service.name == "$ota";
    let services = envelope.services.iter().filter(ota).take(MOST_SERVICES);
    Some(services.filter_map(asked_by).collect())
}

fn asked_by(service: &Service) -> Option<Asked> {
    let second = match service.event_type.as_str() {
        "version_query" => return Some(Asked::Version),
        "firmware_upgrade" | "software_upgrade" => false,
        "firmware_upgrade_v2" | "software_upgrade_v2" => true,
        _ => return None,
    };
    let text = |name: &str| service.paras[name].as_str().map(str::to_owned);
    Some(Asked::Upgrade(Offer {
        second,
        url: text("url")?,
        version: text("version")?,
        size: super::number(&service.paras["file_size"]).unwrap_or(0),
        sign: text("sign").unwrap_or_default(),
        access_token: text("access_token"),
    }))
}

fn event(device: &str, service: &str, kind: &str, time: &str, paras: &Value) -> Vec<u8> {
    let event = json!({
        "object_device_id": device,
        "services": [{
            "service_id": service,
            "event_type": kind,
            "event_time": time,
            "event_id": "",
            "paras": paras,
        }],
    });
    event.to_string().into_bytes()
}

/// Of whom an event is; `None` if it does not say so, or is none.
pub(super) fn object(payload: &[u8]) -> Option<String> {
    let envelope: Envelope = serde_json::from_slice(payload).ok()?;
    envelope.object_device_id
}

/// A gateway's `sub_device_sync_request`.
pub(super) fn sync_request(gateway: &str, time: &str) -> Vec<u8> {
    let paras = json!({ "version": 0 });
    event(gateway, MANAGER, "sub_device_sync_request", time, &paras)
}

/// A gateway's `add_sub_device_request`.
pub(super) fn adds(gateway: &str, time: &str, devices: &[String]) -> Vec<u8> {
    let devices = devices.iter().map(|device| {
        json!({ "parent_device_id": gateway, "node_id": device, "device_id": device, "name": device })
    });
    let paras = json!({ "devices": devices.collect::<Vec<_>>() });
    event(gateway, MANAGER, "add_sub_device_request", time, &paras)
}

/// A gateway's `delete_sub_device_request`.
pub(super) fn deletes(gateway: &str, time: &str, devices: &[String]) -> Vec<u8> {
    let paras = json!({ "devices": devices });
    event(gateway, MANAGER, "delete_sub_device_request", time, &paras)
}

/// Whether a gateway is told that some of the devices that it has named are not behind it.
pub(super) fn refuses_to_add(payload: &[u8]) -> bool {
    let Ok(envelope) = serde_json::from_slice::<Envelope>(payload) else {
        return false;
    };
    envelope.services.iter().any(|service| {
        let refused = service.paras["failed_devices"].as_array();
        service.event_type == "add_sub_device_response" && refused.is_some_and(|it| !it.is_empty())
    })
}

/// Which of the devices that a gateway has said are behind it no more it need not name again, and whether it is to name the
/// others later. `None` if it is told nothing of that.
pub(super) fn deleted(payload: &[u8]) -> Option<(Vec<String>, bool)> {
    let envelope: Envelope = serde_json::from_slice(payload).ok()?;
    let answer = (envelope.services.iter())
        .find(|service| service.event_type == "delete_sub_device_response")?;
    let list = |name: &str| answer.paras[name].as_array().cloned().unwrap_or_default();
    let (refused_for_now, refused): (Vec<Value>, Vec<Value>) = (list("failed_devices").into_iter())
        .partition(|device| device["error_code"].as_str() == Some("TRY_LATER"));
    let mut done = list("successful_devices");
    done.extend(
        refused
            .into_iter()
            .map(|device| device["device_id"].clone()),
    );
    let names = done.iter().filter_map(Value::as_str).map(str::to_owned);
    Some((names.collect(), !refused_for_now.is_empty()))
}

/// A gateway's `sub_device_update_status`.
pub(super) fn status(gateway: &str, time: &str, told: &[(String, bool)]) -> Vec<u8> {
    let status = |there: bool| if there { "ONLINE" } else { "OFFLINE" };
    let told: Vec<Value> = (told.iter())
        .map(|(device, there)| json!({ "device_id": device, "status": status(*there) }))
        .collect();
    let paras = json!({ "device_statuses": told });
    event(gateway, MANAGER, "sub_device_update_status", time, &paras)
}

/// What the Python kit says when it is connected.
pub(super) fn log(device: &str, time: &str, unix_ms: i64) -> Vec<u8> {
    let paras = json!({
        "timestamp": unix_ms.to_string(),
        "type": "DEVICE_STATUS",
        "content": "connect complete",
    });
    event(device, "$log", "log_report", time, &paras)
}

/// `version_report`.
pub(super) fn version(device: &str, time: &str, version: &str) -> Vec<u8> {
    let paras = json!({ "fw_version": version, "sw_version": version });
    event(device, "$ota", "version_report", time, &paras)
}

/// `upgrade_progress_report`.
pub(super) fn progress(
    device: &str,
    time: &str,
    code: u8,
    percent: u8,
    version: &str,
    description: &str,
) -> Vec<u8> {
    let paras = json!({
        "result_code": code,
        "progress": percent,
        "version": version,
        "description": description,
    });
    event(device, "$ota", "upgrade_progress_report", time, &paras)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hour_is_the_key_and_the_secret_the_message() {
        // printf secret | openssl dgst -sha256 -hmac 2026113005
        assert_eq!(password("secret", "2026113005"), PASSWORD);
    }

    const PASSWORD: &str = "8fea6db87a1c1359f895ba048dfa334b98e90ce1b7dbe72b45e5cf68d1e46b7a";

    #[test]
    fn reads_offers_of_both_generations() {
        let payload = br#"{"object_device_id":"d","services":[
            {"service_id":"$ota","event_type":"version_query","paras":{}},
            {"service_id":"$sub_device_manager","event_type":"version_query","paras":{}},
            {"service_id":"$ota","event_type":"firmware_upgrade","event_time":"","paras":
             {"url":"https://h:1/f","version":"V2","file_size":7,"access_token":"t","expires":86400,"sign":"ab"}},
            {"service_id":"$ota","event_type":"software_upgrade_v2","paras":{"url":"https://h:1/g","version":"V3"}}]}"#;
        let asked = asked("d", payload).unwrap();
        assert_eq!(asked.len(), 3);
        assert_eq!(asked[0], Asked::Version);
        let Asked::Upgrade(first) = &asked[1] else {
            panic!("{asked:?}")
        };
        assert_eq!((first.size, first.access_token.as_deref()), (7, Some("t")));
        let Asked::Upgrade(second) = &asked[2] else {
            panic!("{asked:?}")
        };
        assert!(second.second && !first.second && second.access_token.is_none());
    }

    #[test]
    fn what_is_for_others_or_is_no_event_asks_for_nothing() {
        let other = br#"{"object_device_id":"child","services":[{"service_id":"$ota","event_type":"version_query"}]}"#;
        assert_eq!(asked("d", other), Some(Vec::new()));
        for broken in [&b"{"[..], b"[]", br#"{"services":[{}]}"#, b"\xff"] {
            assert_eq!(asked("d", broken), None);
        }
    }
}
