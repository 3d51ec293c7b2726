//! What devices with QuecThing do.

use super::{
    Connect, Device, Ending, Output,
    upgrade::{Check, Package, Wrong},
};
use crate::mqtt::{
    fault::Fault,
    quecthing::{self, Told, status},
    spec::Secret,
};

/// Errors of a download with which it has failed.
const DOWNLOAD_ERRORS: u8 = 6;

impl Device {
    /// The client ID is the device's own, and stands in its topics.
    pub(super) fn quecthing_connect(&self) -> Connect {
        Connect {
            client_id: self.spec.device.clone(),
            user_name: self.spec.device.clone(),
            password: Some(Secret(self.secret())),
            keep_alive_s: self.spec.keep_alive_s,
        }
    }

    pub(super) fn quecthing_subscribe(&mut self) {
        let topic = quecthing::filter(&self.spec);
        self.outputs.push_back(Output::Subscribe { topic, qos: 1 });
    }

    /// It asks for its plan, unless it has one.
    pub(super) fn quecthing_subscribed(&mut self) {
        if self.upgrade.is_none() {
            self.counters.versions_told += 1;
            let payload = quecthing::asks(self.packet(), &self.version);
            self.publish(quecthing::topic_up(&self.spec), payload);
        }
    }

    /// Whether the message is understood.
    pub(super) fn quecthing_message(&mut self, now_ms: u64, topic: &str, payload: &[u8]) -> bool {
        if topic != quecthing::topic_down(&self.spec) {
            return false;
        }
        let Some(told) = quecthing::read(payload) else {
            return false;
        };
        match told {
            _ if self.twin.is_some() => {}
            Told::NoPlan => {}
            Told::Plan => self.takes_plan(),
            Told::Package {
                url,
                version,
                size,
                sha256,
            } => {
                if self.upgrade.is_none() && !self.has(Fault::ClaimsWithoutDownload) {
                    self.quecthing_status(status::BEGINS, None, "");
                }
                let package = Package {
                    url,
                    version,
                    size,
                    sign: sha256,
                    check: Check::Sha256,
                    bearer: None,
                    module: String::new(),
                };
                self.begin(now_ms, package);
            }
        }
        true
    }

    fn takes_plan(&mut self) {
        self.quecthing_status(status::PLAN_RECEIVED, None, "");
        if self.upgrade.is_some() || self.owes_report {
            self.counters.offers += 1;
            self.counters.offers_ignored += 1;
        } else if let Some(Fault::Refuses(code)) = self.spec.fault {
            self.counters.offers += 1;
            let words = format!("battery {code} %");
            self.quecthing_status(status::REFUSED, None, &words);
            self.end(Ending::Failed);
        } else {
            self.quecthing_status(status::CONFIRMED, None, "");
        }
    }

    pub(super) fn quecthing_progress(&mut self) {
        self.quecthing_status(status::DOWNLOADING, None, "");
    }

    pub(super) fn quecthing_download_done(&mut self) {
        self.quecthing_status(status::DOWNLOADED, None, "");
        self.quecthing_status(status::UPDATING, None, "");
    }

    /// What is wrong with a package is a failure; a download fails with the sixth error.
    pub(super) fn quecthing_failure(&mut self, wrong: Wrong) {
        match wrong {
            Wrong::Check => self.quecthing_status(status::FAILED, None, "the hash is another"),
            Wrong::Download => {
                for _ in 0..DOWNLOAD_ERRORS {
                    self.quecthing_status(status::DOWNLOAD_ERROR, None, "");
                }
            }
        }
    }

    /// It tells the version that it runs, or the one that it claims to.
    pub(super) fn quecthing_success(&mut self, target: &str) {
        let claims = self.has(Fault::ClaimsWithoutDownload);
        let version = if claims { target } else { &self.version }.to_owned();
        self.quecthing_status(status::SUCCEEDED, Some(&version), "");
    }

    fn quecthing_status(&mut self, status: u8, version: Option<&str>, words: &str) {
        let payload = quecthing::reports(self.packet(), status, version, words);
        self.publish(quecthing::topic_up(&self.spec), payload);
    }

    /// Neither 0 nor 0xFFFF.
    fn packet(&mut self) -> u16 {
        self.message_id = self.message_id % 0xFFFE + 1;
        u16::try_from(self.message_id).unwrap_or(1)
    }
}
