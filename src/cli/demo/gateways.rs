//! Devices behind gateways. Half of them are upgraded silently; of the others each upgrade is confirmed, at once or for a time, or refused by the
//! owner of its device, whose application the demo plays.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use sim::mqtt::{Fleet, Spec};

use super::{
    DemoArgs, Shown,
    authority::Certificate,
    blocking,
    fleet::{self, Plan},
    lanes::{self, LaneLine},
    mqtt, prepare,
    report::Report,
    watch::{Seen, Until, Watch},
};
use crate::{
    cli::{client::Client, output::remark},
    server::Server,
};

/// The owner refuses one upgrade in so many.
const REFUSES_ONE_IN: usize = 10;
/// He confirms one in so many for a time, which comes so much later.
const FOR_A_TIME_ONE_IN: usize = 3;
const LATER: Duration = Duration::from_secs(4);
/// Who answers.
const OWNER: &str = "the owner's app";

/// Who is upgraded how.
#[derive(Debug, Clone, Default)]
struct Ways {
    silent: Vec<String>,
    manual: Vec<String>,
    /// Those of the manual ones whose owner refuses.
    refused: BTreeSet<String>,
    /// The gateway of each.
    gateways: BTreeMap<String, String>,
}

impl Ways {
    /// Behind each gateway every second one is upgraded silently.
    fn of(specs: &[Spec]) -> Self {
        let mut ways = Self::default();
        for gateway in specs {
            for (index, behind) in gateway.behind.iter().enumerate() {
                let name = &behind.device;
                let gateway = gateway.device.clone();
                ways.gateways.insert(name.clone(), gateway);
                if index % 2 == 0 {
                    ways.silent.push(name.clone());
                    continue;
                }
                if ways.manual.len() % REFUSES_ONE_IN == REFUSES_ONE_IN / 2 {
                    ways.refused.insert(name.clone());
                }
                ways.manual.push(name.clone());
            }
        }
        ways
    }

    /// A task for each way that somebody is upgraded in.
    fn tasks(&self) -> Vec<Value> {
        let silent = json!({ "name": "silent", "devices": self.silent });
        let manual =
            json!({ "name": "manual", "devices": self.manual, "confirmation": "device_owner" });
        let both = [(silent, &self.silent), (manual, &self.manual)];
        let tasks = both.into_iter().filter(|(_, devices)| !devices.is_empty());
        tasks.map(|(task, _)| task).collect()
    }
}

/// Has the server upgrade devices through gateways.
pub(super) async fn show(
    args: &DemoArgs,
    server: &Server,
    client: &Arc<Client>,
    certificate: &Certificate,
) -> Result<Shown, String> {
    let specs = mqtt::specs(args, args.devices)?;
    let ways = Ways::of(&specs);
    let mut plan = Plan::of(&[]);
    for spec in specs.iter().flat_map(mqtt::upgradable) {
        let succeeds = mqtt::succeeds(spec) && !ways.refused.contains(&spec.device);
        plan.succeeds.insert(spec.device.clone(), succeeds);
    }
    let inventory: Vec<Value> = specs.iter().flat_map(mqtt::entries).collect();
    let content = fleet::content(args.package_kib as usize * 1024, args.seed);
    let (prepared, tasks) = (Arc::clone(client), ways.tasks());
    let tasks = blocking(move || prepare(&prepared, &inventory, (content, None), tasks)).await?;

    let devices = mqtt::switched_on(specs, server, certificate)?;
    let watch = Watch::begin(Duration::from_secs(args.timeout_s));
    if let [_, manual] = tasks[..] {
        let (owner, ways) = (Arc::clone(client), ways.clone());
        blocking(move || answer(&owner, manual, &ways)).await?;
    }
    let mut ended: Option<Seen> = None;
    for task in tasks {
        let (client, plan) = (Arc::clone(client), plan.clone());
        let seen = blocking(move || {
            let seen = watch.until(&client, task, &plan, Until::Over);
            seen.map_err(|error| error.to_string())
        });
        let seen = seen.await?;
        match &mut ended {
            None => ended = Some(seen),
            Some(ended) => ended.goes_on_with(seen),
        }
    }
    let ended = ended.ok_or("there is nobody to upgrade")?;
    let mut surprises = surprises(&ways, &ended, &devices);
    let asked = Arc::clone(client);
    let ids: Vec<(i64, String)> = (ended.upgrades.iter())
        .map(|upgrade| (upgrade.id, upgrade.endpoint.clone()))
        .collect();
    let gateways = ways.gateways.clone();
    let lanes = blocking(move || lanes::read(&asked, &ids, &gateways)).await?;
    surprises.extend(lanes.iter().filter_map(LaneLine::surprise));
    let downloaded = devices.stats().bytes_downloaded;
    let report = Report::new(&plan, ended, (0, Some(downloaded)), None, None);
    Ok((report.with_lanes(lanes, surprises), devices.into()))
}

/// The owner's application: confirms most of the upgrades that wait for that, and refuses some.
fn answer(client: &Client, task: i64, ways: &Ways) -> Result<(), String> {
    let upgrades = client.list(&format!("/v1/tasks/{task}/upgrades"), &[], usize::MAX);
    let (upgrades, _) = upgrades.map_err(|error| error.to_string())?;
    let mut confirmed = 0;
    for (index, upgrade) in upgrades.iter().enumerate() {
        if upgrade["awaits_confirmation"] != true {
            return Err(format!(
                "the upgrade of {} began unasked",
                upgrade["endpoint"]
            ));
        }
        let refuses = (upgrade["endpoint"].as_str()).is_some_and(|it| ways.refused.contains(it));
        confirmed += usize::from(!refuses);
        let mut body = json!({ "confirmed": !refuses, "by": OWNER });
        if !refuses && index % FOR_A_TIME_ONE_IN == 0 {
            body["at"] = json!(soon());
        }
        let path = format!("/v1/upgrades/{}/confirm", upgrade["id"]);
        (client.post(&path, &body)).map_err(|error| error.to_string())?;
    }
    let refused = upgrades.len() - confirmed;
    remark(&format!(
        "owners have confirmed {confirmed} upgrades, and refused {refused}"
    ));
    Ok(())
}

/// A time that comes while the demo runs.
#[allow(clippy::disallowed_methods)] // a wall clock is what the owner looks at
fn soon() -> String {
    (jiff::Timestamp::now() + LATER).to_string()
}

/// What is not as it should be of what owners have refused.
fn surprises(ways: &Ways, ended: &Seen, devices: &Fleet) -> Vec<String> {
    let offered: BTreeSet<String> = (devices.reports().into_iter())
        .filter(|(_, report)| report.counters.offers > 0)
        .map(|(name, _)| name)
        .collect();
    let mut surprises = Vec::new();
    for upgrade in &ended.upgrades {
        let name = &upgrade.endpoint;
        let refused = ways.refused.contains(name);
        if refused != (upgrade.reason == "refused_by_owner") {
            surprises.push(format!("{name} ended as {}", upgrade.reason));
        }
        if refused && offered.contains(name) {
            surprises.push(format!("{name} was offered what its owner has refused"));
        }
    }
    surprises
}

#[cfg(test)]
mod tests {
    use super::*;
    use sim::mqtt::Style;

    #[test]
    fn every_second_device_is_upgraded_silently_and_some_of_the_others_are_refused() {
        let mut gateway = Spec::new("gw", Style::Iotda, "V1");
        let behind = (0..20).map(|index| Spec::new(format!("d{index}"), Style::Iotda, "V1"));
        gateway.behind = behind.collect();
        let ways = Ways::of(&[gateway]);
        assert_eq!((ways.silent.len(), ways.manual.len()), (10, 10));
        assert_eq!(ways.refused.len(), 1);
        assert!((ways.refused.iter()).all(|it| ways.manual.contains(it)));
        assert_eq!(ways.tasks().len(), 2);
        let mut one = Spec::new("gw", Style::Iotda, "V1");
        one.behind = vec![Spec::new("d", Style::Iotda, "V1")];
        assert_eq!(Ways::of(&[one]).tasks().len(), 1);
    }
}
