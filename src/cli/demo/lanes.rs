//! Gateways, and how many of the devices behind each had a slot at once.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;
use serde_json::Value;

use crate::{cli::client::Client, config::Config};

/// A gateway, as the devices behind it compete for it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct LaneLine {
    gateway: String,
    limit_max: u32,
    concurrent_peak: u64,
    devices: u64,
}

impl LaneLine {
    /// What is not as it should be.
    pub(super) fn surprise(&self) -> Option<String> {
        (self.concurrent_peak > u64::from(self.limit_max)).then(|| {
            let Self {
                gateway,
                limit_max,
                concurrent_peak,
                ..
            } = self;
            format!("gateway {gateway}: {concurrent_peak} at once, {limit_max} allowed")
        })
    }
}

/// A line of a table.
impl fmt::Display for LaneLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:<17}  {:>7}  {:>12}  {:>5}",
            self.gateway, self.devices, self.concurrent_peak, self.limit_max
        )
    }
}

/// Of a gateway: how many devices it has, and when one had a slot (1), or had none any more (−1).
type Turns = (u64, Vec<(String, i64)>);

/// How many devices of each gateway had a slot at once, by the timelines of their upgrades.
pub(super) fn read(
    client: &Client,
    upgrades: &[(i64, String)],
    gateways: &BTreeMap<String, String>,
) -> Result<Vec<LaneLine>, String> {
    let limit_max = Config::default().admission.per_gateway;
    let mut changes: BTreeMap<&str, Turns> = BTreeMap::new();
    for (id, endpoint) in upgrades {
        let Some(gateway) = gateways.get(endpoint) else {
            continue;
        };
        let upgrade = client.get(&format!("/v1/upgrades/{id}"), &[]);
        let upgrade = upgrade.map_err(|error| error.to_string())?;
        let (devices, changes) = changes.entry(gateway).or_default();
        *devices += 1;
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let events = upgrade["events"].as_array().map_or(&[][..], |it| it);
        let begun = events.iter().find(|it| it["code"] == "slot_granted_at");
        let times = begun.and_then(|begun| text(&begun["at"]).zip(text(&upgrade["ended_at"])));
        if let Some((from, to)) = times {
            changes.extend([(from, 1), (to, -1)]);
        }
    }
    let line = |(gateway, (devices, mut changes)): (&str, Turns)| {
        // what is given back in a moment is given back before it is taken again
        changes.sort();
        let at_once = changes.iter().scan(0, |now, (_, change)| {
            *now += change;
            Some(*now)
        });
        LaneLine {
            gateway: gateway.to_owned(),
            limit_max,
            concurrent_peak: at_once.max().unwrap_or(0).unsigned_abs(),
            devices,
        }
    };
    Ok(changes.into_iter().map(line).collect())
}
