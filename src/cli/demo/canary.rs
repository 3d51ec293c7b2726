//! A task in phases: the devices of one depot first. Some of them have low batteries, so that the task pauses by itself. Their batteries are
//! changed, they are tried again, and the task goes on to its end.

use std::{collections::BTreeSet, sync::Arc};

use serde::Serialize;
use serde_json::{Value, json};
use sim::{DeviceSpec, fleet::Fleet};

use super::{
    blocking,
    fleet::Plan,
    watch::{Until, Watch},
};
use crate::cli::{client::Client, output::remark};

/// Smaller fleets have nobody left for the phases after the first.
pub(super) const LEAST_DEVICES: u32 = 10;
/// The first phase has one device in so many,
const ONE_IN: usize = 8;
/// and no more than these.
const MOST: usize = 40;
/// Where the devices of the first phase are.
const SITE: &str = "depot-4";
/// What a device with a low battery answers.
const LOW_BATTERY: &str = "refuse-notification=0x04";

/// The devices of the first phase.
#[derive(Debug)]
pub(super) struct Canary {
    endpoints: BTreeSet<String>,
    /// Those with low batteries, as they are with new ones.
    weak: Vec<DeviceSpec>,
}

/// What the first phase came to.
#[derive(Debug, Serialize)]
pub(super) struct Pause {
    /// Why the task paused, a stable word.
    code: String,
    /// The same in a sentence.
    text: String,
    /// Devices of the first phase that had failed.
    failed: u64,
    /// Devices that were tried again.
    retried: u64,
    /// What is not as it should be.
    #[serde(skip)]
    pub(super) surprises: Vec<String>,
}

impl Canary {
    /// Chooses some of the devices without a fault. Every second one of them has a low battery.
    pub(super) fn choose(specs: &[DeviceSpec]) -> Self {
        let sound: Vec<&DeviceSpec> = specs.iter().filter(|spec| spec.fault.is_none()).collect();
        let count = (specs.len() / ONE_IN).clamp(1, MOST);
        let stride = (sound.len() / count).max(1);
        let chosen = sound.into_iter().step_by(stride).take(count);
        let chosen: Vec<&DeviceSpec> = chosen.collect();
        Self {
            endpoints: chosen.iter().map(|spec| spec.endpoint.clone()).collect(),
            weak: chosen.into_iter().step_by(2).cloned().collect(),
        }
    }

    /// Where a device is, for its entry in the inventory.
    pub(super) fn place(&self, endpoint: &str) -> Option<&'static str> {
        self.endpoints.contains(endpoint).then_some(SITE)
    }

    /// Takes the devices with low batteries out, as they are at first.
    pub(super) fn take_weak(&self, specs: &mut Vec<DeviceSpec>) -> Result<Vec<DeviceSpec>, String> {
        let fault = LOW_BATTERY
            .parse()
            .map_err(|error| format!("{LOW_BATTERY}: {error}"))?;
        let is_weak =
            |spec: &DeviceSpec| self.weak.iter().any(|weak| weak.endpoint == spec.endpoint);
        specs.retain(|spec| !is_weak(spec));
        let mut weak = self.weak.clone();
        for spec in &mut weak {
            spec.fault = Some(fault);
        }
        Ok(weak)
    }

    /// The phases of the task.
    pub(super) fn phases() -> Value {
        json!([
            { "filter": format!("site=={SITE}") },
            { "percent": 25, "success_percent": 50 },
            { "success_percent": 50 },
        ])
    }

    /// Waits until the task pauses, changes the batteries of `weak`, and has the failed ones tried again. Gives the devices with
    /// new batteries.
    pub(super) async fn play(
        &self,
        client: &Arc<Client>,
        (task, plan): (i64, &Plan),
        watch: Watch,
        weak: Fleet,
        server: std::net::SocketAddr,
    ) -> Result<(Pause, Fleet), String> {
        let (asked, its_plan) = (Arc::clone(client), plan.clone());
        let paused = blocking(move || {
            let paused = watch.until(&asked, task, &its_plan, Until::Held);
            paused.map_err(|error| error.to_string())
        });
        let paused = paused.await?;
        let stand = &paused.record["stand"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let mut pause = Pause {
            code: text(&stand["code"]),
            text: text(&stand["text"]),
            failed: paused.record["phases"][0]["failed"].as_u64().unwrap_or(0),
            retried: 0,
            surprises: Vec::new(),
        };
        remark(&format!("The task is paused: {}", pause.text));
        if pause.code != "phase_failed" {
            let surprise = format!(
                "the task did not pause after its first phase, it is {}",
                pause.code
            );
            pause.surprises.push(surprise);
        }
        if pause.failed != self.weak.len() as u64 {
            let (failed, weak) = (pause.failed, self.weak.len());
            let surprise =
                format!("{failed} devices of the first phase failed, {weak} have low batteries");
            pause.surprises.push(surprise);
        }
        let begun = paused
            .upgrades
            .iter()
            .filter(|upgrade| upgrade.state != "pending");
        for upgrade in begun.filter(|upgrade| !self.endpoints.contains(&upgrade.endpoint)) {
            let surprise = format!(
                "{} began before the first phase had come true",
                upgrade.endpoint
            );
            pause.surprises.push(surprise);
        }
        weak.stop().await;
        let mended = Fleet::start(self.weak.clone(), server);
        let mended = mended.await.map_err(|error| error.to_string())?;
        let asked = Arc::clone(client);
        let retried = blocking(move || {
            let retried = asked.post(&format!("/v1/tasks/{task}/retry"), &json!({}));
            retried.map_err(|error| error.to_string())
        });
        pause.retried = retried.await?["retried"].as_u64().unwrap_or(0);
        remark(&format!(
            "Batteries are changed, and {} failed upgrades are tried again",
            pause.retried
        ));
        Ok((pause, mended))
    }
}

impl Pause {
    /// Looks at the task as it ended.
    pub(super) fn ended(&mut self, record: &Value) {
        let phases = record["phases"].as_array().map_or(0, Vec::len);
        if record["phase"] != phases {
            let surprise = format!("the task ended in phase {} of {phases}", record["phase"]);
            self.surprises.push(surprise);
        }
        if record["phases"][0]["passed"] != true {
            let surprise = "the first phase has not come true after the retry".to_owned();
            self.surprises.push(surprise);
        }
    }

    /// What happened, for a person.
    pub(super) fn told(&self) -> String {
        format!(
            "The task paused by itself: {}.\n{} of the first phase had failed; {} were tried again with new batteries.",
            self.text, self.failed, self.retried
        )
    }
}
