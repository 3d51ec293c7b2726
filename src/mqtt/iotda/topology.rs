//! What gateways of Huawei IoTDA say of the devices behind them, and what they are told: `$sub_device_manager` events.
//!
//! Shapes are those of IoTDA's documentation ("Gateway and child device management") and of its device SDKs.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{Addressed, text};

/// The service of these events.
pub(super) const SERVICE: &str = "$sub_device_manager";
/// Children that are named in one event at most; what is beyond is not looked at.
pub const MAX_NAMED: usize = 1_000;
/// Children that the server names in one event at most.
pub const MAX_TOLD: usize = 50;
/// Bytes of a name that is looked at. No endpoint name is longer.
const MAX_NAME: usize = 128;

/// What a gateway says of its children.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Topology {
    /// `sub_device_sync_request`: it wants to be told which children it has.
    Asks,
    /// `add_sub_device_request`: these are behind it.
    Adds(Vec<String>),
    /// `delete_sub_device_request`: these are not behind it any more.
    Removes(Vec<String>),
    /// `sub_device_update_status`: whether these can be reached through it.
    Status(Vec<(String, bool)>),
}

#[derive(Deserialize)]
struct AddedParas {
    devices: Vec<AddedDevice>,
}

#[derive(Deserialize)]
struct AddedDevice {
    #[serde(default, deserialize_with = "text")]
    device_id: Option<String>,
    #[serde(default, deserialize_with = "text")]
    node_id: Option<String>,
}

#[derive(Deserialize)]
struct RemovedParas {
    devices: Vec<String>,
}

#[derive(Deserialize)]
struct StatusParas {
    device_statuses: Vec<DeviceStatus>,
}

#[derive(Deserialize)]
struct DeviceStatus {
    device_id: String,
    status: String,
}

fn is_name(name: &str) -> bool {
    (1..=MAX_NAME).contains(&name.len())
}

/// Reads an event: `None` where it is none of these, and `Some(None)` where it is one that cannot be read.
#[expect(
    clippy::option_option,
    reason = "none of these, or one that cannot be read"
)]
pub(super) fn read(event_type: &str, paras: Value) -> Option<Option<Topology>> {
    Some(match event_type {
        "sub_device_sync_request" => Some(Topology::Asks),
        "add_sub_device_request" => adds(paras),
        "delete_sub_device_request" => removes(paras),
        "sub_device_update_status" => status(paras),
        _ => return None,
    })
}

fn adds(paras: Value) -> Option<Topology> {
    let paras: AddedParas = serde_json::from_value(paras).ok()?;
    let names = (paras.devices.into_iter().take(MAX_NAMED))
        .filter_map(|it| it.device_id.filter(|id| is_name(id)).or(it.node_id))
        .filter(|name| is_name(name));
    Some(Topology::Adds(names.collect()))
}

fn removes(paras: Value) -> Option<Topology> {
    let paras: RemovedParas = serde_json::from_value(paras).ok()?;
    let names = paras.devices.into_iter().take(MAX_NAMED);
    Some(Topology::Removes(
        names.filter(|name| is_name(name)).collect(),
    ))
}

fn status(paras: Value) -> Option<Topology> {
    let paras: StatusParas = serde_json::from_value(paras).ok()?;
    let told = (paras.device_statuses.into_iter().take(MAX_NAMED)).filter_map(|it| {
        let online = match it.status.as_str() {
            "ONLINE" => true,
            "OFFLINE" => false,
            _ => return None,
        };
        is_name(&it.device_id).then_some((it.device_id, online))
    });
    Some(Topology::Status(told.collect()))
}

#[derive(Serialize)]
struct ChildrenParas<'a> {
    devices: Vec<ChildInfo<'a>>,
    version: u64,
}

#[derive(Serialize)]
struct ChildInfo<'a> {
    parent_device_id: &'a str,
    node_id: &'a str,
    device_id: &'a str,
    name: &'a str,
    product_id: &'a str,
}

#[derive(Serialize)]
struct AnswerParas<'a, S> {
    successful_devices: Vec<S>,
    failed_devices: Vec<Failed<'a>>,
}

#[derive(Serialize)]
struct Failed<'a> {
    node_id: &'a str,
    device_id: &'a str,
    error_code: &'a str,
    error_msg: &'a str,
}

/// A child as its gateway is told of it.
#[derive(Debug, Clone, Copy)]
pub struct Child<'a> {
    /// Its endpoint name.
    pub name: &'a str,
    /// Its product.
    pub product: &'a str,
}

/// A child that a gateway may not speak for.
#[derive(Debug, Clone, Copy)]
pub struct Refused<'a> {
    /// Its endpoint name, as the gateway says.
    pub name: &'a str,
    /// A stable word for programs.
    pub code: &'a str,
    /// The same for people.
    pub detail: &'a str,
}

impl Addressed<'_> {
    fn infos<'c>(&'c self, children: &[Child<'c>]) -> Vec<ChildInfo<'c>> {
        let infos = children.iter().map(|child| ChildInfo {
            parent_device_id: self.device,
            node_id: child.name,
            device_id: child.name,
            name: child.name,
            product_id: child.product,
        });
        infos.collect()
    }

    /// `add_sub_device_notify`, or `delete_sub_device_notify`: these children are behind it, or are not any more. `version` rises with
    /// each.
    pub fn children_notify(&self, there: bool, children: &[Child<'_>], version: u64) -> Vec<u8> {
        let event_type = if there {
            "add_sub_device_notify"
        } else {
            "delete_sub_device_notify"
        };
        let paras = ChildrenParas {
            devices: self.infos(children),
            version,
        };
        self.event_of(SERVICE, event_type, paras)
    }

    /// `add_sub_device_response`.
    pub fn add_response(&self, children: &[Child<'_>], refused: &[Refused<'_>]) -> Vec<u8> {
        let paras = AnswerParas {
            successful_devices: self.infos(children),
            failed_devices: failed(refused),
        };
        self.event_of(SERVICE, "add_sub_device_response", paras)
    }

    /// `delete_sub_device_response`.
    pub fn delete_response(&self, children: &[&str], refused: &[Refused<'_>]) -> Vec<u8> {
        let paras = AnswerParas {
            successful_devices: children.to_vec(),
            failed_devices: failed(refused),
        };
        self.event_of(SERVICE, "delete_sub_device_response", paras)
    }
}

fn failed<'a>(refused: &[Refused<'a>]) -> Vec<Failed<'a>> {
    let failed = refused.iter().map(|it| Failed {
        node_id: it.name,
        device_id: it.name,
        error_code: it.code,
        error_msg: it.detail,
    });
    failed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UtcMillis;

    const TO: Addressed<'static> = Addressed {
        device: "gw-1",
        at: UtcMillis(1_796_016_019_123),
        id: "3",
    };
    const CHILD: Child<'static> = Child {
        name: "c-1",
        product: "sensor",
    };

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    /// Frozen: do not change. These are the bytes that deployed gateways parse.
    #[test]
    fn what_gateways_are_told_has_these_bytes() {
        assert_eq!(
            text(TO.children_notify(true, &[CHILD], 4)),
            r#"{"object_device_id":"gw-1","services":[{"service_id":"$sub_device_manager","event_type":"add_sub_device_notify","event_time":"20261130T052019Z","event_id":"3","paras":{"devices":[{"parent_device_id":"gw-1","node_id":"c-1","device_id":"c-1","name":"c-1","product_id":"sensor"}],"version":4}}]}"#
        );
        let gone = text(TO.children_notify(false, &[CHILD], 5));
        assert!(gone.contains(r#""event_type":"delete_sub_device_notify""#));
        let refused = Refused {
            name: "c-2",
            code: "OTHERS_CHILD",
            detail: "no",
        };
        assert_eq!(
            text(TO.add_response(&[CHILD], &[refused])),
            r#"{"object_device_id":"gw-1","services":[{"service_id":"$sub_device_manager","event_type":"add_sub_device_response","event_time":"20261130T052019Z","event_id":"3","paras":{"successful_devices":[{"parent_device_id":"gw-1","node_id":"c-1","device_id":"c-1","name":"c-1","product_id":"sensor"}],"failed_devices":[{"node_id":"c-2","device_id":"c-2","error_code":"OTHERS_CHILD","error_msg":"no"}]}}]}"#
        );
        assert_eq!(
            text(TO.delete_response(&["c-1"], &[])),
            r#"{"object_device_id":"gw-1","services":[{"service_id":"$sub_device_manager","event_type":"delete_sub_device_response","event_time":"20261130T052019Z","event_id":"3","paras":{"successful_devices":["c-1"],"failed_devices":[]}}]}"#
        );
    }

    #[test]
    fn what_gateways_say_is_read_within_bounds() {
        let told =
            |event_type: &str, paras: &str| read(event_type, serde_json::from_str(paras).unwrap());
        assert_eq!(
            told("sub_device_sync_request", r#"{"version":0}"#),
            Some(Some(Topology::Asks))
        );
        let names = |names: &[&str]| names.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            told(
                "add_sub_device_request",
                r#"{"devices":[{"node_id":"n","product_id":"p"},{"device_id":"d","node_id":"x"},{"device_id":""}]}"#
            ),
            Some(Some(Topology::Adds(names(&["n", "d"]))))
        );
        assert_eq!(
            told("delete_sub_device_request", r#"{"devices":["a",""]}"#),
            Some(Some(Topology::Removes(names(&["a"]))))
        );
        assert_eq!(
            told(
                "sub_device_update_status",
                r#"{"device_statuses":[{"device_id":"a","status":"ONLINE"},{"device_id":"b","status":"OFFLINE"},{"device_id":"c","status":"?"}]}"#
            ),
            Some(Some(Topology::Status(vec![
                ("a".to_owned(), true),
                ("b".to_owned(), false)
            ])))
        );
        assert_eq!(told("delete_sub_device_request", "{}"), Some(None));
        assert_eq!(told("properties_get", "{}"), None);
        let many = serde_json::json!({"devices": vec!["a"; MAX_NAMED + 9]});
        let Some(Some(Topology::Removes(read))) = read("delete_sub_device_request", many) else {
            panic!("it is such a request");
        };
        assert_eq!(read.len(), MAX_NAMED);
    }
}
