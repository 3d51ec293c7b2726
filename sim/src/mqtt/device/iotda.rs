//! What devices of Huawei IoTDA do.

use super::{
    Connect, Device, Output,
    upgrade::{Check, Package},
};
use crate::mqtt::{
    fault::Fault,
    iotda::{self, Asked, Offer},
    spec::Secret,
    style::{Client, Style},
};

/// How event times are written, and how the hour of a client ID.
const EVENT_TIME: &str = "%Y%m%dT%H%M%SZ";
const HOUR: &str = "%Y%m%d%H";

impl Device {
    pub(super) fn iotda_connect(&self, now_ms: u64) -> Connect {
        let hour = self.clock(now_ms, HOUR);
        let device = &self.spec.device;
        let check = u8::from(self.spec.check_stamp);
        Connect {
            client_id: format!("{device}_0_{check}_{hour}"),
            user_name: device.clone(),
            password: Some(Secret(iotda::password(&self.secret(), &hour))),
            keep_alive_s: self.spec.keep_alive_s,
        }
    }

    /// On an ordinary broker somebody has to subscribe.
    pub(super) fn iotda_subscribe(&mut self) {
        let topic = iotda::topic_down(&self.spec.device);
        self.outputs.push_back(Output::Subscribe { topic, qos: 1 });
    }

    /// The kits subscribe to nothing: the platform publishes to them all the same.
    pub(super) fn iotda_connected(&mut self, now_ms: u64) {
        if self.spec.client != Client::Python {
            return;
        }
        let since_ms = i64::try_from(now_ms).unwrap_or(i64::MAX);
        let unix_ms = self
            .spec
            .epoch_s
            .saturating_mul(1_000)
            .saturating_add(since_ms);
        let time = self.clock(now_ms, EVENT_TIME);
        let log = iotda::log(&self.spec.device, &time, unix_ms);
        self.event(log);
    }

    /// Whether the message is understood.
    pub(super) fn iotda_message(&mut self, now_ms: u64, topic: &str, payload: &[u8]) -> bool {
        let device = &self.spec.device;
        if topic != iotda::topic_down(device) {
            return false;
        }
        let Some(asked) = iotda::asked(device, payload) else {
            return false;
        };
        for asked in asked {
            match asked {
                Asked::Version => self.iotda_version(now_ms),
                Asked::Upgrade(offer) => self.iotda_offer(now_ms, offer),
            }
        }
        true
    }

    fn iotda_version(&mut self, now_ms: u64) {
        self.counters.questions += 1;
        // the kits' gateways are silent when they are asked themselves
        if self.has(Fault::NoVersion) || self.is_gateway() {
            return;
        }
        self.counters.versions_told += 1;
        let time = self.clock(now_ms, EVENT_TIME);
        let report = iotda::version(&self.spec.device, &time, &self.version);
        self.event(report);
    }

    fn iotda_offer(&mut self, now_ms: u64, offer: Offer) {
        if offer.second && self.spec.style == Style::Iotda {
            self.counters.offers += 1;
            self.counters.offers_ignored += 1;
            return;
        }
        let check = match (self.spec.client, offer.second) {
            (Client::Python, true) => Check::None,
            (Client::Python, false) | (Client::C, _) => Check::Sha256Exactly,
            (Client::Java, _) => Check::Sha256,
        };
        let package = Package {
            url: offer.url,
            version: offer.version,
            size: offer.size,
            sign: offer.sign,
            check,
            bearer: offer.access_token.filter(|_| !offer.second).map(Secret),
            module: String::new(),
        };
        self.begin(now_ms, package);
    }

    /// The kits report no progress of their own; this is what a burst consists of.
    pub(super) fn iotda_progress(&mut self, now_ms: u64, percent: u8) {
        if self.has(Fault::ProgressBurst) {
            let version = self.version.clone();
            self.iotda_report(now_ms, 0, percent, &version, "downloading");
        }
    }

    /// The Java kit reports that it has the package, with the version that it still runs.
    pub(super) fn iotda_download_done(&mut self, now_ms: u64) {
        if self.spec.client == Client::Java {
            let version = self.version.clone();
            self.iotda_report(now_ms, 0, 100, &version, "downloaded");
        }
    }

    pub(super) fn iotda_success(&mut self, now_ms: u64, target: &str) {
        self.iotda_report(now_ms, 0, 100, target, "upgraded");
    }

    /// The C kit names the version that it did not get, the others that they run.
    pub(super) fn iotda_failure(&mut self, now_ms: u64, code: u8, target: &str) {
        let version = match self.spec.client {
            Client::C => target.to_owned(),
            Client::Python | Client::Java => self.version.clone(),
        };
        self.iotda_report(now_ms, code, 0, &version, "failed");
    }

    fn iotda_report(&mut self, now_ms: u64, code: u8, percent: u8, version: &str, words: &str) {
        let time = self.clock(now_ms, EVENT_TIME);
        let report = iotda::progress(&self.spec.device, &time, code, percent, version, words);
        self.event(report);
    }

    /// The time of an event.
    pub(super) fn event_time(&self, now_ms: u64) -> String {
        self.clock(now_ms, EVENT_TIME)
    }

    pub(super) fn event(&mut self, payload: Vec<u8>) {
        let topic = iotda::topic_up(&self.spec.device);
        self.publish(topic, payload);
    }
}
