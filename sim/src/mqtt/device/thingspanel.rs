//! What devices of `ThingsPanel` do.

use super::{
    Connect, Device, Output,
    upgrade::{Check, Package},
};
use crate::mqtt::{fault::Fault, style::Style, thingspanel};

impl Device {
    /// The access token is the user name. What the client ID is does not matter, as long as nobody else has it.
    pub(super) fn thingspanel_connect(&self) -> Connect {
        Connect {
            client_id: format!("mqtt_{}", self.spec.device),
            user_name: self.secret(),
            password: self.spec.password.clone(),
            keep_alive_s: self.spec.keep_alive_s,
        }
    }

    pub(super) fn subscribe(&mut self) {
        let topic = thingspanel::topic_inform(&self.spec);
        let qos = u8::from(self.spec.style != Style::ThingsPanel05);
        self.outputs.push_back(Output::Subscribe { topic, qos });
    }

    /// At start-up release 0.5 reports its version. It does so after a report of success too, of itself.
    pub(super) fn thingspanel_subscribed(&mut self) {
        self.thingspanel_version();
    }

    /// Whether the message is understood.
    pub(super) fn thingspanel_message(&mut self, now_ms: u64, topic: &str, payload: &[u8]) -> bool {
        if topic != thingspanel::topic_inform(&self.spec) {
            return false;
        }
        let Some(push) = thingspanel::push(payload) else {
            return false;
        };
        if let Some(Fault::OldVersionFirst(times)) = self.spec.fault
            && self.old_versions < times
            && self.twin.is_none()
        {
            self.old_versions += 1;
            self.counters.offers += 1;
            self.thingspanel_version();
            return true;
        }
        let check = if push.method.eq_ignore_ascii_case("md5") {
            Check::Md5
        } else {
            Check::Sha256
        };
        let package = Package {
            url: push.url,
            version: push.version,
            size: push.size,
            sign: push.sign,
            check,
            bearer: None,
            module: push.module.unwrap_or_else(|| self.spec.module.clone()),
        };
        self.begin(now_ms, package);
        true
    }

    pub(super) fn thingspanel_progress(&mut self, percent: u8) {
        let module = match &self.upgrade {
            Some(upgrade) => upgrade.package.module.clone(),
            None => self.spec.module.clone(),
        };
        let step = i8::try_from(percent.clamp(1, 99)).unwrap_or(99);
        self.thingspanel_step(step, "downloading", &module);
    }

    /// Half of the devices write steps as numbers.
    pub(super) fn thingspanel_step(&mut self, step: i8, words: &str, module: &str) {
        let as_number = self.spec.seed % 2 == 1;
        let topic = thingspanel::topic_progress(&self.spec);
        let payload = thingspanel::progress(step, as_number, words, module);
        self.publish(topic, payload);
    }

    pub(super) fn thingspanel_version(&mut self) {
        if self.spec.style != Style::ThingsPanel05 {
            return;
        }
        self.message_id += 1;
        self.counters.versions_told += 1;
        let payload = thingspanel::version(self.message_id, &self.version, &self.spec.module);
        self.publish(thingspanel::topic_version(&self.spec), payload);
    }
}
