//! The installation: from the command to upgrade (23) over the restart to the report (24).

use pcp::{DeviceMessage, ResultCode};

use super::{
    Device, Outcome,
    awaited::Uplink,
    object::Objects,
    upgrade::{Later, Stage},
};
use crate::fault::Fault;

impl Device {
    pub(super) fn is_installing(&self) -> bool {
        let by_object = |objects: &Objects| objects.is_installing();
        self.upgrade.stage == Stage::Installing || self.object.as_deref().is_some_and(by_object)
    }

    pub(super) fn on_execute(&mut self, now_ms: u64) {
        let result = match (self.upgrade.stage, self.spec.fault) {
            (Stage::Downloaded, Some(Fault::RefuseExecute(result))) => {
                self.stop_waiting();
                self.upgrade.outcome = Some(Outcome::Refused(result));
                result
            }
            (Stage::Downloaded, _) => {
                self.stop_waiting();
                self.upgrade.stage = Stage::Installing;
                let delay_ms = self.spec.timing.execute_delay_ms;
                self.put_off(now_ms, delay_ms, Later::Install);
                ResultCode::SUCCESS
            }
            // A repeated command changes nothing, not even when it comes after the restart.
            (Stage::Installing, _) => ResultCode::SUCCESS,
            _ if self.upgrade.outcome == Some(Outcome::Upgraded) => ResultCode::SUCCESS,
            _ => ResultCode::INTERNAL_ERROR,
        };
        if !self.has(Fault::NeverAnswersExecute) {
            self.send(now_ms, DeviceMessage::ExecuteResponse { result });
        }
    }

    pub(super) fn install(&mut self, now_ms: u64) {
        match self.spec.fault {
            Some(
                Fault::ClaimsTargetFails(_)
                | Fault::ClaimsTargetRestartsOld
                | Fault::ClaimsTargetLateSuccess,
            ) => self.fail_installation(now_ms),
            Some(Fault::ReportsBeforeRestart) => {
                self.ask(now_ms, Uplink::UpgradeReport(ResultCode::SUCCESS));
            }
            _ => self.restart(now_ms, self.spec.timing.install_ms),
        }
    }

    /// The installation fails, and the device is still up.
    fn fail_installation(&mut self, now_ms: u64) {
        let code = match self.spec.fault {
            Some(Fault::ClaimsTargetFails(code)) => {
                self.end(Outcome::InstallFailed(code));
                code
            }
            _ => ResultCode::INSTALL_FAILED,
        };
        self.ask(now_ms, Uplink::UpgradeReport(code));
    }

    /// The report of the upgrade was answered, or nobody answers it.
    pub(super) fn reported(&mut self, now_ms: u64) {
        self.stop_waiting();
        if self.is_installing() {
            let delay_ms = self.spec.timing.execute_delay_ms;
            self.put_off(now_ms, delay_ms, Later::Restart);
        }
    }

    /// Nobody has answered the report, often enough. Who stays up and claims the target goes on reporting: nobody could
    /// know otherwise that the claim is false.
    pub(super) fn report_unanswered(&mut self, now_ms: u64, report: Uplink) {
        if matches!(self.spec.fault, Some(Fault::ClaimsTargetFails(_))) {
            self.ask_with_repeats(now_ms, report, 0);
        } else {
            self.reported(now_ms);
        }
    }

    /// Restarts after what was reported before.
    pub(super) fn restart_at_last(&mut self, now_ms: u64) {
        let off_ms = match self.spec.fault {
            Some(Fault::ClaimsTargetRestartsOld) => self.spec.timing.restart_ms,
            _ => self.spec.timing.install_ms,
        };
        self.restart(now_ms, off_ms);
    }

    /// The device is on again, not yet registered.
    pub(super) fn on_restarted(&mut self, now_ms: u64) {
        self.upgrade.queried_since_restart = false;
        self.upgrade.claim = None;
        if self.object.is_some() {
            return self.object_restarted(now_ms);
        }
        if self.upgrade.stage != Stage::Installing {
            return;
        }
        self.upgrade.stage = Stage::Idle;
        let failure = match self.spec.fault {
            Some(Fault::ReportUpgrade(code) | Fault::ClaimsTargetFails(code)) => Some(code),
            Some(Fault::FailsInstallSilently | Fault::ClaimsTargetRestartsOld) => {
                Some(ResultCode::INSTALL_FAILED)
            }
            _ => None,
        };
        if let Some(code) = failure {
            self.end(Outcome::InstallFailed(code));
        } else {
            if let Some(held) = &self.upgrade.held {
                self.upgrade.version = held.version();
            }
            self.upgrade.outcome = Some(Outcome::Upgraded);
        }
        let report = Uplink::UpgradeReport(failure.unwrap_or(ResultCode::SUCCESS));
        if self.is_silent_after_installation() || self.has(Fault::ClaimsTargetRestartsOld) {
            return;
        }
        if self.has(Fault::LateReport) {
            let delay_ms = self.spec.timing.late_report_ms;
            self.put_off(now_ms, delay_ms, Later::Say(report));
        } else {
            self.await_answer(report, self.spec.timing.repeats);
        }
    }

    /// Whether the device says nothing after the restart, so that the server has to ask.
    pub(super) fn is_silent_after_installation(&self) -> bool {
        match self.spec.fault {
            Some(
                Fault::FailsInstallSilently
                | Fault::NeverReportsResult
                | Fault::OnlyServiceData
                | Fault::ClaimsTargetLateSuccess,
            ) => true,
            Some(Fault::ReportsBeforeRestart) => self.spec.seed.is_multiple_of(2),
            _ => false,
        }
    }
}
