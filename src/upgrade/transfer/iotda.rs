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
//! After each connection it is asked, because the last report may be lost; one that was served something lately when that has
//! ended, because its download may go on beside the connection that broke. Silence ends by the limit alone.
//!
//! Over a broker that tells nothing of connections, a device that is heard after a silence may have connected anew. It is asked, and
//! offered again what it did not take up; but the version that it tells then shows nothing: it neither ends a claim well nor badly.
//!
//! Two codes are no failures. "In use" is said by a device that is at work on what it was offered before. "The newest already"
//! is said by one that runs the target, which its version shows.

use super::{
    Next,
    course::{Course, MAX_OFFERS_AGAIN, MqttInput, Resumed},
};
use crate::{
    clock::Instant,
    ledger::{Deadline, Failure, Outcome, Refusal, Success},
    upgrade::{Action, Input, Rules},
};

/// It is at work on an upgrade already.
const IN_USE: i32 = 1;
/// It runs the newest version already.
const NEWEST: i32 = 3;

/// A transfer to a device of IoTDA.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Iotda(pub(super) Course);

impl Iotda {
    /// The version is offered.
    pub(super) fn begin(now: Instant, rules: &Rules<'_>) -> (Self, Vec<Action>) {
        (Self(Course::begun(now, rules)), vec![Action::Offer])
    }

    /// It goes on after a restart of the server. What may not have left is offered again.
    pub(super) fn resume(stored: &Resumed) -> (Self, Vec<Action>) {
        let again = (!stored.confirmed).then_some(Action::Offer);
        let course = Course {
            claimed_until: stored.through_until,
            // its answer decides
            look_at: stored
                .through_until
                .filter(|_| stored.lost)
                .map(|_| stored.at),
            ..Course::resumed(stored)
        };
        (Self(course), again.into_iter().collect())
    }

    pub(super) fn on(self, now: Instant, event: Input, rules: &Rules<'_>) -> Next<Self> {
        let course = self.0;
        let next = match event {
            Input::Connected => look(course.connects(), now, rules),
            Input::Reached(Deadline::Nudge) if course.is_settled(now) => {
                Next::Ends(Outcome::Succeeded(Success::Unverified))
            }
            Input::HeardAgain => look(course.heard_anew(), now, rules),
            Input::Reached(Deadline::Nudge) if course.is_looked_at(now) => look(course, now, rules),
            Input::VersionAnswered(_, Some(version), _) if version == rules.target => {
                course.claims(now, rules)
            }
            Input::VersionAnswered(_, Some(_), _) => {
                on_other_version(course.tells_other_version(), now)
            }
            Input::Mqtt(said) => on_said(course, now, said, rules),
            Input::Reached(deadline) => course.reached(deadline, rules),
            _ => Next::stays(course),
        };
        next.map(Self)
    }
}

/// It is asked what it runs, unless it is downloading.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the state is consumed and yields the next one"
)]
fn look(course: Course, now: Instant, rules: &Rules<'_>) -> Next<Course> {
    let look_at = course.busy_until(now).filter(|_| !course.is_claimed());
    let course = Course { look_at, ..course };
    if look_at.is_some() {
        return Next::stays(course);
    }
    Next::Goes(course.asked(now, rules), vec![Action::AskVersion])
}

/// It tells another version than the target.
fn on_other_version(course: Course, now: Instant) -> Next<Course> {
    if course.newest {
        return Next::fails(Failure::Reported(NEWEST));
    }
    if !course.reconnected && !course.heard_again {
        return Next::stays(course); // it was not asked: a device may well tell the old version until it restarts
    }
    if course.is_claimed() && course.reconnected {
        return Next::fails(Failure::NotDownloaded);
    }
    if course.is_claimed() || course.whole || course.offered_again >= MAX_OFFERS_AGAIN {
        return Next::stays(course);
    }
    if let Some(until) = course.busy_until(now) {
        let look_at = Some(until);
        return Next::stays(Course { look_at, ..course });
    }
    // what it was offered, or its download, was lost with its connection
    let again = if course.further {
        0
    } else {
        course.offered_again + 1
    };
    Next::Goes(course.offers_again(again), vec![Action::Offer])
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
        MqttInput::Fetched { further, in_flight } => course.fetches(now, further, in_flight),
        MqttInput::FetchedAll if course.waits_for_whole() => {
            Next::Ends(Outcome::Succeeded(Success::Upgraded))
        }
        MqttInput::FetchedAll => Next::stays(Course {
            whole: true,
            ..course.goes_along(now)
        }),
        MqttInput::FailureReported(code) if fails_with(&course, code) => Next::fails(failure(code)),
        MqttInput::FailureReported(NEWEST) => {
            let course = Course {
                newest: true,
                ..course
            };
            Next::Goes(course, vec![Action::AskVersion])
        }
        MqttInput::FailureReported(_) => Next::stays(course.goes_along(now)),
        // its devices have no word for these
        MqttInput::Confirmed | MqttInput::DownloadError => Next::stays(course),
    }
}

/// What a code tells: of a condition that may pass, or of anything else.
const fn failure(code: i32) -> Failure {
    let refusal = match code {
        IN_USE => Refusal::InUse,
        2 => Refusal::Signal,
        4 => Refusal::Battery,
        5 => Refusal::Space,
        9 => Refusal::Memory,
        _ => return Failure::Reported(code),
    };
    Failure::Refused(refusal, code)
}

/// Whether the device has failed when it reports that code.
pub(super) const fn fails_with(course: &Course, code: i32) -> bool {
    match code {
        IN_USE => !course.repeated && !course.confirmed,
        NEWEST => course.newest,
        _ => true,
    }
}

#[cfg(test)]
mod tests;
