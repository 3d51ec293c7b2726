//! What the task has for each device: the packages that are for what the device runs, one after another, and no other.

use pcp::{DeviceMessage, PlatformMessage, ResultCode};
use sim::coap::Message;

use super::{Invariants, Rule, Subject};
use crate::{
    ledger::{Cancellation, Outcome},
    package::Version,
    simulate::offered::{Offered, Way, over_pcp},
};

/// What a device runs, and what is to become of it.
#[derive(Debug)]
pub(in super::super) struct Own {
    runs: Version,
    hardware: Option<Box<str>>,
    way: Way,
    /// What it said last that it runs, as the server has heard it.
    answered: Option<Version>,
    /// All versions that it has run.
    ran: Vec<Version>,
    /// The package that it was notified of last.
    notified_last: Option<usize>,
    /// The packages that it was notified of, each a bit.
    notified: u32,
}

impl Own {
    pub(in super::super) fn new(runs: pcp::Version, hardware: Option<&str>, way: Way) -> Self {
        let runs = Version::from(runs);
        Self {
            runs,
            hardware: hardware.map(Into::into),
            way,
            answered: None,
            ran: vec![runs],
            notified_last: None,
            notified: 0,
        }
    }

    /// The version with which it ends, where it is not skipped.
    pub(super) fn target(&self) -> Option<Version> {
        self.way.target().map(Version::from)
    }

    /// It runs that version.
    pub(super) fn is_current(&self) -> bool {
        self.target() == Some(self.runs)
    }

    /// Whether a package is for it, by what it runs or by what it has answered.
    fn is_offered(&self, offered: &Offered, package: usize) -> bool {
        let hardware = self.hardware.as_deref();
        let mut versions = [Some(self.runs), self.answered].into_iter().flatten();
        versions.any(|version| offered.is_for(package, version, hardware))
    }

    pub(super) fn was_notified(&self, package: usize) -> bool {
        self.notified & (1 << package) != 0
    }
}

impl Invariants {
    /// The server is about to hear a device: does that tell which version it runs?
    pub(super) fn answers(&mut self, device: usize, datagram: &[u8]) {
        let Ok(message) = Message::parse(datagram) else {
            return;
        };
        let answered = match DeviceMessage::decode(message.payload) {
            Ok(DeviceMessage::VersionResponse {
                result: ResultCode::SUCCESS,
                version: Some(version),
            }) => Version::from(version),
            _ => return,
        };
        if let Some(subject) = self.subjects.get_mut(device) {
            subject.own.answered = Some(answered);
        }
    }

    /// A device is notified of a new version: of a package that is for it. What is `repeated` was on its way before.
    pub(super) fn is_notified(&mut self, now_ms: u64, device: usize, frame: &[u8], repeated: bool) {
        let subject = &self.subjects[device];
        let offered = self.offered[subject.product].clone();
        let package = offered.packages().iter().position(|package| {
            let identity = over_pcp(package).offer;
            let mut buffer = [0; 64];
            let own = PlatformMessage::NewVersion {
                version: identity.version,
                segment_size: identity.segmentation.segment_size(),
                segment_count: identity.segmentation.segment_count(),
                check_code: identity.check_code,
            };
            own.encode(&mut buffer).is_ok_and(|own| own == frame)
        });
        let upgrade = subject.upgrade.0;
        let Some(package) = package else {
            return self.violated(now_ms, Rule::OwnPackage, || {
                format!("{upgrade}: is notified of a package other than its own")
            });
        };
        if !repeated && !subject.own.is_offered(&offered, package) {
            let (version, own) = (offered.packages()[package].version, &subject.own);
            let (runs, answered, hardware) = (own.runs, own.answered, own.hardware.clone());
            self.violated(now_ms, Rule::OwnPackage, || {
                format!(
                    "{upgrade}: is notified of {version}, which is not for it: it runs {runs}, has answered {answered:?}, and its \
                     hardware is {hardware:?}"
                )
            });
        }
        let own = &mut self.subjects[device].own;
        own.notified_last = Some(package);
        own.notified |= 1 << package;
    }

    /// Whether a segment is of a package that its device was notified of.
    pub(super) fn is_own_segment(&self, subject: &Subject, number: u16, frame: &[u8]) -> bool {
        let packages = self.offered[subject.product].packages();
        let notified = (packages.iter().enumerate()).filter(|(i, _)| subject.own.was_notified(*i));
        (notified.into_iter())
            .any(|(_, package)| over_pcp(package).frames.get(number).as_deref() == Some(frame))
    }

    /// An attempt goes on with its next step: the device runs what the step before has led to.
    pub(super) fn step_is_done(&mut self, now_ms: u64, device: usize) {
        let subject = &self.subjects[device];
        let offered = &self.offered[subject.product];
        let led_to = (subject.own.notified_last).map(|package| offered.packages()[package].version);
        if led_to != Some(subject.own.runs) {
            let (upgrade, runs) = (subject.upgrade.0, subject.own.runs);
            self.violated(now_ms, Rule::TrueOutcome, || {
                format!("{upgrade} of device {device}: the step to {led_to:?} is taken for done, and the device runs {runs}")
            });
        }
    }

    /// A device runs another version from now on.
    pub(in super::super) fn switched(&mut self, now_ms: u64, device: usize, version: pcp::Version) {
        let version = Version::from(version);
        let Some(subject) = self.subjects.get_mut(device) else {
            return;
        };
        let upgrade = subject.upgrade.0;
        let again = subject.own.ran.contains(&version);
        subject.own.runs = version;
        subject.own.ran.push(version);
        subject.current = subject.own.is_current();
        if again {
            self.violated(now_ms, Rule::Steps, || {
                format!(
                    "{upgrade} of device {device}: has installed {version}, which it has run before"
                )
            });
        }
    }

    /// An upgrade ends: one is skipped only if it is to be, and by the reason that it has.
    pub(super) fn is_skipped(&mut self, now_ms: u64, device: usize, outcome: &Outcome) {
        let subject = &self.subjects[device];
        let skipped = match outcome {
            Outcome::Cancelled(Cancellation::NoPackage | Cancellation::Downgrade) => {
                outcome.reason()
            }
            _ => return,
        };
        if subject.own.way != Way::Skipped(skipped) {
            let (upgrade, way) = (subject.upgrade.0, subject.own.way);
            self.violated(now_ms, Rule::Steps, || {
                format!("{upgrade} of device {device}: is skipped by {skipped}, and was to end so: {way:?}")
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ledger::UpgradeId, simulate::Scenario};

    fn checker() -> Invariants {
        let scenario = Scenario::new(1, 1, 1);
        let offered = scenario.offered().unwrap();
        let member = &scenario.fleet(&offered).unwrap().members[0];
        let way = offered[0].way(member.spec.version, None);
        let own = Own::new(member.spec.version, None, way);
        let subject = Subject::new(UpgradeId(1), 0, member.spec.coverage, own, false);
        let (config, retry) = (scenario.config.clone(), scenario.retry);
        Invariants::new(config, retry, offered, vec![subject], 1_001, 1, 1)
    }

    #[test]
    fn a_version_that_is_installed_twice_is_noticed() {
        let mut checker = checker();
        let [first, second] = ["V1.0", "V2.0"].map(|it| pcp::Version::new(it).unwrap());
        checker.switched(1, 0, second);
        assert!(checker.subjects[0].current && checker.count() == 0);
        checker.switched(2, 0, first);
        assert!(!checker.subjects[0].current);
        assert_eq!(checker.violations()[0].rule, Rule::Steps);
    }

    #[test]
    fn a_device_that_is_skipped_and_was_not_to_be_is_noticed() {
        let mut checker = checker();
        checker.is_skipped(1, 0, &Outcome::Cancelled(Cancellation::TaskStopped));
        assert_eq!(checker.count(), 0);
        checker.is_skipped(2, 0, &Outcome::Cancelled(Cancellation::NoPackage));
        assert_eq!(checker.violations()[0].rule, Rule::Steps);
    }

    #[test]
    fn a_step_that_is_taken_for_done_is_noticed() {
        let mut checker = checker();
        let version = pcp::Version::new("V2.0").unwrap();
        checker.subjects[0].own.notified_last = Some(0);
        checker.step_is_done(1, 0);
        assert_eq!(checker.violations()[0].rule, Rule::TrueOutcome);
        checker.switched(2, 0, version);
        checker.step_is_done(3, 0);
        assert_eq!(checker.count(), 1);
    }
}
