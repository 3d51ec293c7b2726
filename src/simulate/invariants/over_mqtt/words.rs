//! What devices say of their versions, and what they are told: read from the bytes, not as the server reads them.

use serde_json::Value;
use sim::mqtt::quecthing;

use crate::mqtt::endpoint::{Downlink, Uplink};

/// What a device says of its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Says {
    Runs(String),
    /// It is through: with the version that it names, where it does.
    Through(Option<String>),
}

/// What a message of a device says.
pub(super) fn says(uplink: Uplink, payload: &[u8]) -> Vec<Says> {
    if uplink == Uplink::Frames {
        return says_in_frames(payload);
    }
    let Ok(message) = serde_json::from_slice::<Value>(payload) else {
        return Vec::new();
    };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match uplink {
        Uplink::Events { gzip: false } => {
            let services = message["services"].as_array();
            let said = services.into_iter().flatten().filter_map(|service| {
                let paras = &service["paras"];
                match service["event_type"].as_str()? {
                    "version_report" => text(&paras["fw_version"]).map(Says::Runs),
                    "upgrade_progress_report"
                        if paras["result_code"] == 0 && paras["progress"] == 100 =>
                    {
                        Some(Says::Through(text(&paras["version"])))
                    }
                    _ => None,
                }
            });
            said.collect()
        }
        Uplink::Inform(_) => text(&message["params"]["version"])
            .map(Says::Runs)
            .into_iter()
            .collect(),
        Uplink::Progress(_) => {
            let through = message["step"] == 100 || message["step"] == "100";
            through.then_some(Says::Through(None)).into_iter().collect()
        }
        Uplink::Events { gzip: true } | Uplink::Frames | Uplink::Other => Vec::new(),
    }
}

/// What a device with `QuecThing` says. A success with a version tells that, as any answer does.
fn says_in_frames(payload: &[u8]) -> Vec<Says> {
    let said = quecthing::said(payload).map(|said| match said {
        quecthing::Said::Asks(version) | quecthing::Said::Succeeded(Some(version)) => {
            Says::Runs(version)
        }
        quecthing::Said::Succeeded(None) => Says::Through(None),
    });
    said.into_iter().collect()
}

/// What a device is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// It is asked for its version.
    Asked,
    /// It is offered its package.
    Offered,
    /// Something else: that there is no plan, or who is behind it.
    Nothing,
}

impl Told {
    pub(super) fn of(downlink: Downlink, payload: &[u8]) -> Self {
        let text = String::from_utf8_lossy(payload);
        match downlink {
            Downlink::Events if text.contains("\"version_query\"") => Self::Asked,
            Downlink::Events if text.contains("\"$sub_device_manager\"") => Self::Nothing,
            Downlink::Push if payload.first() == Some(&0xAA) && !quecthing::is_offer(payload) => {
                Self::Nothing
            }
            Downlink::Events | Downlink::Push | Downlink::PushV05 => Self::Offered,
        }
    }
}
