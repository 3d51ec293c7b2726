//! What happens with a package that is there: the check, the update or the installation, the restart.

use super::{Ended, Phase};
use crate::{
    coap::Code,
    device::{Device, Outcome, timers::Timer},
    fault::{Fault, ObjectFault},
    object::{Character, UpdatesBy},
};

/// What is to happen next, in the instance of that index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// The update was deferred.
    Update(usize),
    Apply(usize),
    /// It runs the new version, and is about to be sure of that.
    Conclude(usize),
    /// The same, and tells it with a new registration.
    ConcludeAnew(usize),
}

impl Device {
    /// All of a package is there.
    pub(super) fn check_download(&mut self, index: usize) {
        let failure = match self.object_fault() {
            Some(ObjectFault::ReportsResult(result @ (5 | 6))) => Some(result),
            _ => None,
        };
        let Some(objects) = self.object.as_deref_mut() else {
            return;
        };
        let instance = &mut objects.instances[index];
        let images = &self.spec.object.images;
        let checked = (instance.received.as_mut()).and_then(|received| received.check(images));
        match (failure, checked) {
            (None, Some(version)) => {
                instance.phase = Phase::Downloaded;
                instance.ended = Ended::Nothing;
                instance.offered = Some(version);
            }
            (result, _) => {
                let result = result.unwrap_or(5);
                self.object_ends(index, Phase::Idle, Ended::With(result));
            }
        }
    }

    /// The command to update or to install.
    pub(super) fn carry_out(&mut self, now_ms: u64, index: usize) -> Code {
        let fault = self.object_fault();
        let Some(objects) = self.object.as_deref_mut() else {
            return Code::NOT_FOUND;
        };
        let instance = &mut objects.instances[index];
        if instance.installing || objects.due == Some(Due::Update(index)) {
            return Code::CHANGED; // a repeated command changes nothing
        }
        if instance.phase != Phase::Downloaded {
            return Code::METHOD_NOT_ALLOWED;
        }
        match fault {
            Some(ObjectFault::IgnoresUpdate) => self.falls_silent(),
            Some(ObjectFault::Defers) => {
                instance.ended = Ended::With(11);
                let after_ms = self.spec.timing.late_report_ms;
                self.object_later(now_ms, after_ms, Due::Update(index));
            }
            _ => self.begin_update(now_ms, index),
        }
        Code::CHANGED
    }

    fn begin_update(&mut self, now_ms: u64, index: usize) {
        let hides = self.object_fault() == Some(ObjectFault::HidesUpdating);
        let software = self.spec.updates_by == UpdatesBy::Software;
        let Some(objects) = self.object.as_deref_mut() else {
            return;
        };
        let instance = &mut objects.instances[index];
        instance.installing = true;
        instance.ended = Ended::Nothing;
        if !hides && !software {
            instance.phase = Phase::Updating;
        }
        let after_ms = if software {
            self.spec.timing.install_ms
        } else {
            self.spec.timing.execute_delay_ms
        };
        self.object_later(now_ms, after_ms, Due::Apply(index));
    }

    pub(super) fn object_later(&mut self, now_ms: u64, after_ms: u64, due: Due) {
        if let Some(objects) = self.object.as_deref_mut() {
            objects.due = Some(due);
        }
        self.timers.set(Timer::Object, now_ms, after_ms);
    }

    pub(in crate::device) fn object_due(&mut self, now_ms: u64) {
        let due = self.object.as_deref_mut().and_then(|it| it.due.take());
        match due {
            Some(Due::Update(index)) => self.begin_update(now_ms, index),
            Some(Due::Apply(index)) if self.spec.updates_by == UpdatesBy::Software => {
                self.install_software(index);
            }
            Some(Due::Apply(index)) => {
                let keeps = self.spec.object.character.keeps_what_failed();
                if keeps && self.object_fault() == Some(ObjectFault::ReportsResult(8)) {
                    self.object_ends(index, Phase::Downloaded, Ended::With(8));
                } else {
                    self.restart(now_ms, self.spec.timing.install_ms);
                }
            }
            Some(Due::Conclude(index)) => self.conclude(index),
            Some(Due::ConcludeAnew(index)) => {
                self.conclude(index);
                self.register(now_ms);
            }
            None => {}
        }
    }

    fn conclude(&mut self, index: usize) {
        if let Some(objects) = self.object.as_deref_mut() {
            objects.instances[index].phase = Phase::Idle;
            objects.instances[index].ended = Ended::Success;
            objects.untold = true;
        }
    }

    /// The device is on again, not yet registered.
    pub(in crate::device) fn object_restarted(&mut self, now_ms: u64) {
        let Some(objects) = self.object.as_deref_mut() else {
            return;
        };
        let deferred = objects.due.take();
        for index in 0..objects.instances.len() {
            self.instance_restarted(now_ms, index, deferred);
        }
    }

    fn instance_restarted(&mut self, now_ms: u64, index: usize, due: Option<Due>) {
        let resumes = self.spec.object.character.resumes();
        let loses = matches!(self.spec.fault, Some(Fault::LosesProgress(_)));
        let software = self.spec.updates_by == UpdatesBy::Software;
        let Some(objects) = self.object.as_deref_mut() else {
            return;
        };
        let instance = &mut objects.instances[index];
        if instance.installing {
            return self.come_back_updated(now_ms, index);
        }
        let pulled = instance.phase == Phase::Downloading && !instance.pushed;
        match instance.phase {
            Phase::Downloading if resumes && pulled && !loses => self.resume_pull(now_ms),
            Phase::Downloaded if resumes || software => {
                if due == Some(Due::Update(index)) {
                    let after_ms = self.spec.timing.late_report_ms;
                    self.object_later(now_ms, after_ms, Due::Update(index));
                }
            }
            Phase::Downloading | Phase::Downloaded => {
                instance.phase = Phase::Idle;
                instance.ended = Ended::Nothing;
                instance.discard();
                self.forget_pull(index);
            }
            // it was not yet sure of its success
            Phase::Updating => {
                let after_ms = self.spec.timing.restart_ms;
                self.object_later(now_ms, after_ms, Due::Conclude(index));
            }
            Phase::Idle | Phase::Installed => {}
        }
    }

    /// The restart was for an update.
    fn come_back_updated(&mut self, now_ms: u64, index: usize) {
        let fault = self.spec.fault;
        let failure = match fault {
            Some(Fault::Object(ObjectFault::ReportsResult(8))) => Some(Ended::With(8)),
            Some(Fault::Object(ObjectFault::ClaimsSuccessWithOldVersion)) => Some(Ended::Success),
            Some(Fault::FailsInstallSilently) => Some(Ended::Nothing),
            _ => None,
        };
        if let Some(ended) = failure {
            return self.object_ends(index, Phase::Idle, ended);
        }
        self.runs_what_was_offered(index);
        let unsure_for_ms = match (fault, self.spec.object.character) {
            (Some(Fault::Object(ObjectFault::ResultAfterRegistration)), _) => {
                let after_ms = self.spec.timing.late_report_ms;
                return self.object_later(now_ms, after_ms, Due::ConcludeAnew(index));
            }
            (_, Character::Nrf) => Some(self.spec.timing.restart_ms),
            _ => None,
        };
        if let Some(after_ms) = unsure_for_ms {
            return self.object_later(now_ms, after_ms, Due::Conclude(index));
        }
        self.conclude(index);
        if fault == Some(Fault::NeverReportsResult)
            && let Some(objects) = self.object.as_deref_mut()
        {
            objects.instances[index].ended = Ended::Nothing;
        }
    }

    fn runs_what_was_offered(&mut self, index: usize) {
        let Some(objects) = self.object.as_deref_mut() else {
            return;
        };
        let instance = &mut objects.instances[index];
        instance.installing = false;
        instance.phase = Phase::Updating;
        instance.version = instance.offered;
        objects.untold = true;
        if let Some(version) = instance.version {
            self.upgrade.version = version;
        }
        self.upgrade.outcome = Some(Outcome::Upgraded);
    }

    /// Software is installed while the device goes on, and is to be activated then.
    fn install_software(&mut self, index: usize) {
        match self.object_fault() {
            Some(ObjectFault::InstallFails | ObjectFault::ReportsResult(8)) => {
                return self.object_ends(index, Phase::Downloaded, Ended::With(58));
            }
            Some(ObjectFault::ClaimsSuccessWithOldVersion) => {
                return self.object_ends(index, Phase::Installed, Ended::Success);
            }
            _ => {}
        }
        let Some(objects) = self.object.as_deref_mut() else {
            return;
        };
        let instance = &mut objects.instances[index];
        instance.installing = false;
        instance.phase = Phase::Installed;
        instance.active = false;
        instance.version = instance.offered;
        if instance.name.is_empty() {
            "package".clone_into(&mut instance.name);
        }
        if let Some(version) = instance.version {
            self.upgrade.version = version;
        }
    }

    /// Resources 10 and 11 of object 9.
    pub(super) fn activate(&mut self, index: usize, active: bool) -> Code {
        let Some(objects) = self.object.as_deref_mut() else {
            return Code::NOT_FOUND;
        };
        let instance = &mut objects.instances[index];
        if instance.phase != Phase::Installed {
            return Code::METHOD_NOT_ALLOWED;
        }
        instance.active = active;
        let runs = instance.offered.is_some() && instance.version == instance.offered;
        if active && runs {
            self.upgrade.outcome = Some(Outcome::Upgraded);
        }
        Code::CHANGED
    }

    /// Resource 6 of object 9: with an argument of 1 the software stays until it is updated.
    pub(super) fn uninstall(&mut self, argument: &[u8], index: usize) -> Code {
        let for_update = matches!(argument, b"1" | b"0='1'" | b"0=1");
        let fails = self.object_fault() == Some(ObjectFault::UninstallFails);
        let Some(objects) = self.object.as_deref_mut() else {
            return Code::NOT_FOUND;
        };
        let instance = &mut objects.instances[index];
        match instance.phase {
            _ if instance.installing => return Code::METHOD_NOT_ALLOWED,
            Phase::Installed if fails => {
                self.object_ends(index, Phase::Installed, Ended::With(59));
                return Code::CHANGED;
            }
            Phase::Installed if !for_update => {
                instance.version = None;
                instance.name.clear();
            }
            Phase::Installed | Phase::Downloaded => {}
            Phase::Idle | Phase::Downloading | Phase::Updating => return Code::METHOD_NOT_ALLOWED,
        }
        instance.phase = Phase::Idle;
        instance.ended = Ended::Nothing;
        instance.active = false;
        instance.discard();
        Code::CHANGED
    }
}
