//! The transfer to devices with `QuecThing` over MQTT.
//!
//! ```text
//! plan ──▶ confirmed ──▶ where the package is ──▶ downloads, installs ──▶ "succeeded", with a version
//!              ▲                  │    6 errors of the download: failed
//!              └── confirmed again ┘   refused, failed: failed
//! ```
//!
//! Beside that it goes as with a device of `ThingsPanel` that tells its version: what is offered again, and what shows a success, is the
//! same ([`ThingsPanel`]).

use super::{
    Next,
    course::{Course, MqttInput, Resumed},
    thingspanel::ThingsPanel,
};
use crate::{
    clock::Instant,
    ledger::Failure,
    upgrade::{Action, Input, Rules},
};

/// The code of a device that has refused the plan: no other device over MQTT reports it.
pub const REFUSED: i32 = -103;
/// The code of a device whose download has failed as often as it may.
pub const DOWNLOAD_ERRORS: i32 = -106;
/// The code of a device that says that the upgrade has failed.
pub const FAILED: i32 = -112;

/// Errors of the download with which it has failed.
const MAX_DOWNLOAD_ERRORS: u8 = 6;
/// How often a device is told where the package is, in an attempt.
const MAX_TELLINGS: u8 = 20;

/// A transfer to a device with `QuecThing`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuecThing {
    inner: ThingsPanel,
    download_errors: u8,
    tellings: u8,
}

impl QuecThing {
    const fn new(inner: ThingsPanel) -> Self {
        Self {
            inner,
            download_errors: 0,
            tellings: 0,
        }
    }

    /// The plan is sent.
    pub(super) fn begin(now: Instant, rules: &Rules<'_>) -> (Self, Vec<Action>) {
        let (inner, actions) = ThingsPanel::begin(now, rules);
        (Self::new(inner), actions)
    }

    /// It goes on after a restart of the server.
    pub(super) fn resume(stored: &Resumed) -> (Self, Vec<Action>) {
        let (mut inner, actions) = ThingsPanel::resume(stored);
        // after a claim, the next connection shows it
        let claimed = stored.through_until.is_some();
        inner.course.agreed = stored.confirmed && !stored.begun && !stored.whole && !claimed;
        let resumed = Self {
            download_errors: stored.download_errors,
            ..Self::new(inner)
        };
        (resumed, actions)
    }

    /// Errors of the download so far.
    pub(super) const fn download_errors(&self) -> u8 {
        self.download_errors
    }

    /// How far it is.
    pub(super) const fn course(&self) -> &Course {
        &self.inner.course
    }

    pub(super) fn on(self, now: Instant, event: Input, rules: &Rules<'_>) -> Next<Self> {
        match event {
            Input::Mqtt(MqttInput::Confirmed) => self.confirmed(now),
            Input::Mqtt(MqttInput::DownloadError) => {
                let download_errors = self.download_errors.saturating_add(1);
                if download_errors >= MAX_DOWNLOAD_ERRORS {
                    return Next::fails(Failure::Reported(DOWNLOAD_ERRORS));
                }
                Next::stays(Self {
                    inner: self.inner.goes_along(now),
                    download_errors,
                    ..self
                })
            }
            event => {
                let Self {
                    inner,
                    download_errors,
                    tellings,
                } = self;
                inner.on(now, event, rules).map(|inner| Self {
                    inner,
                    download_errors,
                    tellings,
                })
            }
        }
    }

    /// It waits for the URL, and not longer than 30 s.
    fn confirmed(self, now: Instant) -> Next<Self> {
        let may_tell = self.tellings < MAX_TELLINGS;
        let tells = may_tell.then_some(Action::TellPackage);
        let mut inner = self.inner.goes_along(now);
        // it has nothing yet that a restart could have it run
        inner.course.agreed = !inner.course.further && !inner.course.whole;
        let told = Self {
            inner,
            tellings: self.tellings.saturating_add(1),
            ..self
        };
        Next::Goes(told, tells.into_iter().collect())
    }
}

#[cfg(test)]
mod tests;
