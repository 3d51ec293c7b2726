//! What somebody is told who asks why a device is not upgraded.

use fluent_bundle::FluentValue;
use serde::Deserialize;

use super::Device;
use crate::console::{texts::Said as _, viewer::Viewer};

/// An upgrade of a device.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Upgrade {
    pub(super) id: i64,
    pub(super) task_id: i64,
    pub(super) task_name: String,
    pub(super) version: String,
    pub(super) state: String,
    pub(super) progress_percent: u32,
    pub(super) outcome: Option<Outcome>,
    pub(super) created_at: String,
    pub(super) ended_at: Option<String>,
}

impl Upgrade {
    pub(super) fn is_downloading(&self) -> bool {
        self.state == "downloading"
    }
}

#[derive(Debug, Clone, Deserialize)]
pub(super) struct Outcome {
    pub(super) reason: String,
    pub(super) detail: String,
}

/// What the upgrade waits for, in a sentence of the API.
#[derive(Debug, Deserialize)]
pub(super) struct Waits {
    pub(super) waiting_for: Option<String>,
}

/// The answer.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Why<'a> {
    Excluded { reason: &'a str },
    UnderWay,
    Succeeded,
    Failed,
    Cancelled,
    NeverHeard,
    NotHeard { since: &'a str },
    NoTask,
}

/// Of its upgrades the one that tells most of it: that which runs, else the newest that has not ended, else the newest.
pub(super) fn telling<'u>(device: &Device, upgrades: &'u [Upgrade]) -> Option<&'u Upgrade> {
    let running = upgrades.iter().find(|it| Some(it.id) == device.upgrade_id);
    let open = || upgrades.iter().find(|it| it.ended_at.is_none());
    running.or_else(open).or_else(|| upgrades.first())
}

/// Why a device is not upgraded, or that it is.
pub(super) fn why<'a>(device: &'a Device, upgrade: Option<&Upgrade>) -> Why<'a> {
    let runs = device.upgrade_id.is_some();
    if let Some(reason) = device.exclusion_reason.as_deref().filter(|_| !runs) {
        return Why::Excluded { reason };
    }
    if let Some(upgrade) = upgrade {
        return match &*upgrade.state {
            "succeeded" => Why::Succeeded,
            "failed" => Why::Failed,
            "cancelled" => Why::Cancelled,
            _ => Why::UnderWay,
        };
    }
    match &device.last_heard_at {
        None => Why::NeverHeard,
        Some(since) if !device.registered && device.connected.is_none() => Why::NotHeard { since },
        Some(_) => Why::NoTask,
    }
}

/// The sentence.
pub(super) fn told(
    at: &Viewer,
    device: &Device,
    upgrade: Option<&Upgrade>,
    waits: Option<&str>,
) -> String {
    let why = why(device, upgrade);
    let Some(upgrade) = upgrade else {
        return without(at, &why);
    };
    let ended = at.time(upgrade.ended_at.as_deref().unwrap_or_default());
    let detail = upgrade.outcome.as_ref().map_or("", |it| &*it.detail);
    let state = at.word("fleet-state", &upgrade.state);
    let arguments: [(&str, FluentValue<'_>); 5] = [
        ("task", upgrade.task_name.said()),
        ("version", upgrade.version.said()),
        ("time", ended.said()),
        ("detail", detail.said()),
        ("state", state.said()),
    ];
    let [task, version, time, detail, state] = arguments;
    match why {
        Why::UnderWay => match waits {
            Some(waits) => at.say(
                "why-waits",
                &[task, version, state, ("waits", waits.said())],
            ),
            None => at.say("why-under-way", &[task, version, state]),
        },
        Why::Succeeded => at.say("why-succeeded", &[task, version, time]),
        Why::Failed => at.say("why-failed", &[task, version, time, detail]),
        Why::Cancelled => at.say("why-cancelled", &[task, version, time, detail]),
        other => without(at, &other),
    }
}

fn without(at: &Viewer, why: &Why<'_>) -> String {
    match why {
        Why::Excluded { reason } => at.t1("why-excluded", "reason", *reason),
        Why::NeverHeard => at.t("why-never-heard"),
        Why::NotHeard { since } => at.t1("why-not-heard", "ago", at.ago(since)),
        _ => at.t("why-no-task"),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn device(change: &[(&str, Value)]) -> Device {
        let mut device = json!({
            "endpoint": "a", "product": "p", "protocol": "lwm2m", "mqtt": null, "via": null, "children": null,
            "gateway_limit": null, "connected": null, "secure": false, "psk_identity": null, "registered": true,
            "registration": null, "last_heard_at": "2027-03-01T02:00:00Z", "last_heard_is_stored": false,
            "wake_ups": null, "version": null, "coverage": null, "upgrade_id": null, "model": null,
            "hardware": null, "site": null, "time_zone": null, "tags": {}, "month": null,
            "exclusion_reason": null, "created_at": "2027-03-01T02:00:00Z",
        });
        for (field, value) in change {
            device[*field] = value.clone();
        }
        serde_json::from_value(device).unwrap()
    }

    fn upgrade(id: i64, state: &str) -> Upgrade {
        let ended = ["succeeded", "failed", "cancelled"].contains(&state);
        Upgrade {
            id,
            task_id: 1,
            task_name: "t".into(),
            version: "V2".into(),
            state: state.into(),
            progress_percent: 0,
            outcome: None,
            created_at: String::new(),
            ended_at: ended.then(|| "2027-03-01T02:00:00Z".into()),
        }
    }

    #[test]
    fn the_reason_that_counts_is_told() {
        let plain = device(&[]);
        assert_eq!(why(&plain, None), Why::NoTask);
        let never = device(&[("last_heard_at", Value::Null)]);
        assert_eq!(why(&never, None), Why::NeverHeard);
        let gone = device(&[("registered", json!(false))]);
        let since = "2027-03-01T02:00:00Z";
        assert_eq!(why(&gone, None), Why::NotHeard { since });
        let failed = upgrade(3, "failed");
        assert_eq!(why(&gone, Some(&failed)), Why::Failed);
        let excluded = [("exclusion_reason", json!("lab"))];
        let reason = "lab";
        assert_eq!(
            why(&device(&excluded), Some(&failed)),
            Why::Excluded { reason }
        );
        // what runs goes on
        let [excluded] = excluded;
        let runs = device(&[excluded, ("upgrade_id", json!(4))]);
        let running = upgrade(4, "downloading");
        assert_eq!(why(&runs, Some(&running)), Why::UnderWay);
    }

    #[test]
    fn the_upgrade_that_runs_tells_more_than_a_newer_one() {
        let upgrades = ["succeeded", "pending", "downloading", "failed"];
        let upgrades: Vec<Upgrade> = (upgrades.iter().zip(1..))
            .map(|(state, id)| upgrade(id, state))
            .collect();
        let found = |device: &Device| telling(device, &upgrades).unwrap().id;
        assert_eq!(found(&device(&[("upgrade_id", json!(3))])), 3);
        assert_eq!(found(&device(&[])), 2);
        assert_eq!(telling(&device(&[]), &upgrades[3..]).unwrap().id, 4);
        assert!(telling(&device(&[]), &[]).is_none());
    }
}
