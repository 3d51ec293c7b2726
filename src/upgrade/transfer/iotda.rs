//! The transfer to devices of Huawei IoTDA over MQTT.
//!
//! ```text
//! offer (firmware_upgrade, software_upgrade) ──▶ fetches the package ──▶ installs it ──▶ result 0 with the target version
//!        ▲                                          │                       │                 │ whole package served: succeeded
//!        └── connects anew, old version ◀───────────┘                       │                 │ else: a claim, until it connects
//!       (three times without getting further)                              ▼                 │ anew or 30 min are over
//!                                          connects anew, target version: succeeded ◀─────────┘
//! ```
//!
//! A version decides, never a progress of 100: some devices report 100 with the old version after the download and go on. A report
//! with result 0 and the target version is the last one, and no version is asked for after it without a reconnection:
//! some devices tell the old one for as long as they run. Nothing is asked while it downloads: some devices read nothing meanwhile.
//! After each connection it is asked, because the last report may be lost. Silence ends by the limit alone.

use super::{
    Next,
    course::{Course, MAX_OFFERS_AGAIN, MqttInput},
};
use crate::{
    clock::Instant,
    ledger::{Failure, Outcome, Success},
    upgrade::{Action, Input, Rules},
};

/// A transfer to a device of IoTDA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Iotda(pub(super) Course);

impl Iotda {
    /// The version is offered.
    pub(super) fn begin(now: Instant, rules: &Rules<'_>) -> (Self, Vec<Action>) {
        (Self(Course::begun(now, rules)), vec![Action::Offer])
    }

    /// It goes on after a restart of the server. What may not have left is offered again.
    pub(super) fn resume(until: Instant, confirmed: bool, whole: bool) -> (Self, Vec<Action>) {
        let again = (!confirmed).then_some(Action::Offer);
        let course = Course::resumed(until, confirmed, whole);
        (Self(course), again.into_iter().collect())
    }

    pub(super) fn on(self, now: Instant, event: Input, rules: &Rules<'_>) -> Next<Self> {
        let course = self.0;
        let next = match event {
            Input::Connected => {
                let course = Course {
                    reconnected: true,
                    ..course
                };
                Next::Goes(course, vec![Action::AskVersion])
            }
            Input::VersionAnswered(_, Some(version), _) if version == rules.target => {
                course.claims(now, rules)
            }
            Input::VersionAnswered(_, Some(_), _) => on_other_version(course),
            Input::Mqtt(said) => on_said(course, now, said, rules),
            Input::Reached(deadline) => course.reached(deadline),
            _ => Next::stays(course),
        };
        next.map(Self)
    }
}

/// It tells another version than the target.
fn on_other_version(course: Course) -> Next<Course> {
    if !course.reconnected {
        return Next::stays(course); // it was not asked: a device may well tell the old version until it restarts
    }
    if course.is_claimed() {
        return Next::fails(Failure::NotDownloaded);
    }
    if course.whole || course.offered_again >= MAX_OFFERS_AGAIN {
        return Next::stays(course);
    }
    // what it was offered, or its download, was lost with its connection
    let took = course.further;
    let course = Course {
        reconnected: false,
        further: false,
        offered_again: if took { 0 } else { course.offered_again + 1 },
        ..course
    };
    Next::Goes(course, vec![Action::Offer])
}

fn on_said(course: Course, now: Instant, said: MqttInput, rules: &Rules<'_>) -> Next<Course> {
    match said {
        MqttInput::Progressed {
            as_target: true, ..
        } if course.whole => Next::Ends(Outcome::Succeeded(Success::Upgraded)),
        // a reconnection before it does not speak for it
        MqttInput::Progressed {
            as_target: true, ..
        } => course.claims_blindly(now, rules),
        MqttInput::Progressed { .. } | MqttInput::Done { .. } => Next::stays(Course {
            confirmed: true,
            ..course
        }),
        MqttInput::Fetched { further } => Next::stays(Course {
            confirmed: true,
            further: course.further || further,
            ..course
        }),
        MqttInput::FetchedAll if course.is_claimed() => {
            Next::Ends(Outcome::Succeeded(Success::Upgraded))
        }
        MqttInput::FetchedAll => Next::stays(Course {
            confirmed: true,
            whole: true,
            ..course
        }),
        MqttInput::FailureReported(code) => Next::fails(Failure::Reported(code)),
    }
}

#[cfg(test)]
mod tests;
