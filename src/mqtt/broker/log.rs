//! The one sign of a connection that devices of Huawei IoTDA give by themselves: the event that its kits for Python and Java send when
//! they have connected, `$log`, `log_report`, with a content that begins with "connect complete".

use serde::Deserialize;
use serde_json::Value;

use crate::mqtt::iotda;

/// Events that are looked at.
const MAX_EVENTS: usize = 32;

#[derive(Deserialize)]
struct Envelope {
    #[serde(default)]
    object_device_id: Value,
    #[serde(default)]
    services: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    #[serde(default)]
    service_id: Value,
    #[serde(default)]
    paras: Value,
}

/// Whether the device of that name says that it has just connected.
pub(super) fn has_connected(device: &str, payload: &[u8]) -> bool {
    const MARK: &[u8] = b"$log";
    if payload.len() > iotda::MAX_ENVELOPE || !payload.windows(MARK.len()).any(|it| it == MARK) {
        return false;
    }
    let Ok(envelope) = serde_json::from_slice::<Envelope>(payload) else {
        return false;
    };
    // a gateway may speak for its children
    let about = envelope.object_device_id.as_str().unwrap_or_default();
    if !about.is_empty() && about != device {
        return false;
    }
    envelope.services.iter().take(MAX_EVENTS).any(|event| {
        let content = event.paras.get("content").and_then(Value::as_str);
        event.service_id == "$log" && content.is_some_and(|it| it.starts_with("connect complete"))
    })
}

#[cfg(test)]
mod tests {
    use super::has_connected;

    #[test]
    fn a_kit_says_when_it_has_connected() {
        let said = |content: &str, service: &str| {
            let payload = format!(
                r#"{{"object_device_id":"d","services":[{{"service_id":"{service}","event_type":"log_report",
                    "event_time":"","paras":{{"timestamp":"1","type":"DEVICE_STATUS","content":"{content}"}}}}]}}"#
            );
            has_connected("d", payload.as_bytes())
        };
        assert!(said("connect complete", "$log"));
        assert!(said("connect complete,the url is ssl://h:8883", "$log"));
        assert!(!said("connect lost, $log", "$log"));
        assert!(!said("connect complete $log", "$ota"));
        let child = br#"{"object_device_id":"child","services":[{"service_id":"$log","paras":{"content":"connect complete"}}]}"#;
        assert!(has_connected("child", child) && !has_connected("d", child));
        for broken in [
            &b"$log"[..],
            b"{\"services\":[{\"service_id\":\"$log\",\"paras\":7}]}",
            b"",
        ] {
            assert!(!has_connected("d", broken));
        }
    }
}
