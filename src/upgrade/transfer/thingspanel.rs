//! The transfer to devices of `ThingsPanel` over MQTT.
//!
//! ```text
//! push ──▶ step 1 … 99 ──▶ step 100 ──▶ tells the target version: succeeded
//!  ▲  │                       │    └──▶ never tells versions, and was served the whole package: succeeded, unverified
//!  │  └──▶ step −1 … −4: failed
//!  └── tells another version (three times without getting further; the fourth fails)
//! ```
//!
//! Release 0.5 reports a version at start-up and after an upgrade. A device that reports the version that it was to leave did not
//! take the push, which is repeated. Some also report it with every connection: one that was served more of the package than ever
//! before since it was pushed to has taken the push, and its link broke. It is pushed to again, in case it has forgotten, and that does
//! not count. The package and the limit of the transfer bound that. Devices of release 1.x never report one: what they were served and their step 100 are all there
//! is. A push leaves with QoS 0, so that one that was not followed by anything leaves again after a reconnection.

use std::time::Duration;

use super::{
    Next,
    course::{Course, MAX_OFFERS_AGAIN, MqttInput, Resumed},
};
use crate::{
    clock::Instant,
    ledger::{Deadline, Failure, Outcome, Success},
    package::Version,
    upgrade::{Action, Input, Rules},
};

/// How long after it has connected a device tells its version at the latest, if it does.
const TELLS_IN: Duration = Duration::from_mins(1);

/// A transfer to a device of `ThingsPanel`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ThingsPanel {
    pub(super) course: Course,
    /// It has told its version at some time, as it said when it was through.
    tells_versions: bool,
}

impl ThingsPanel {
    /// The version is pushed.
    pub(super) fn begin(now: Instant, rules: &Rules<'_>) -> (Self, Vec<Action>) {
        let course = Course::begun(now, rules);
        (Self::new(course), vec![Action::Offer])
    }

    /// It goes on after a restart of the server. What may not have left is pushed again.
    pub(super) fn resume(stored: &Resumed) -> (Self, Vec<Action>) {
        let again = (!stored.confirmed).then_some(Action::Offer);
        let course = Course {
            done: stored.through_until.is_some(),
            done_until: stored.through_until,
            ..Course::resumed(stored)
        };
        (Self::new(course), again.into_iter().collect())
    }

    const fn new(course: Course) -> Self {
        let tells_versions = true;
        Self {
            course,
            tells_versions,
        }
    }

    /// It shows that it goes along, now.
    pub(super) fn goes_along(self, now: Instant) -> Self {
        Self {
            course: self.course.goes_along(now),
            ..self
        }
    }

    pub(super) fn on(self, now: Instant, event: Input, rules: &Rules<'_>) -> Next<Self> {
        let Self {
            course,
            mut tells_versions,
        } = self;
        let next = match event {
            Input::Connected => meet(course.connects(), now, rules),
            Input::Reached(Deadline::Nudge) if course.is_settled(now) => {
                Next::Ends(Outcome::Succeeded(Success::Unverified))
            }
            Input::HeardAgain | Input::MayBeThere => meet(course.heard_anew(), now, rules),
            Input::Reached(Deadline::Nudge) if course.is_looked_at(now) => look(course, now, rules),
            Input::VersionAnswered(_, Some(version), _) if version == rules.target => {
                course.claims(now, rules)
            }
            Input::VersionAnswered(_, Some(version), _) => {
                on_other_version(course.tells_other_version(), version)
            }
            Input::Mqtt(said) => {
                if let MqttInput::Done { tells_versions: it } = said {
                    tells_versions = it;
                }
                on_said(course, now, said, tells_versions, rules)
            }
            Input::Reached(deadline) => course.reached(deadline, rules),
            _ => Next::stays(course),
        };
        next.map(|course| Self {
            course,
            tells_versions,
        })
    }
}

/// It has connected. Where it took a push before, it may be through already, and is about to tell its version: one that was
/// pushed to at once would install the same twice.
fn meet(course: Course, now: Instant, rules: &Rules<'_>) -> Next<Course> {
    if !course.confirmed {
        return look(course, now, rules);
    }
    let told_by = now + TELLS_IN;
    let busy_until = busy_until(&course, now, rules);
    let look_at = Some(busy_until.map_or(told_by, |until| until.max(told_by)));
    Next::stays(Course { look_at, ..course })
}

/// Until when it is downloading, or may be installing what it has.
fn busy_until(course: &Course, now: Instant, rules: &Rules<'_>) -> Option<Instant> {
    let installs = Deadline::Execution.duration(rules.upgrade);
    let installs = (course.active_at.filter(|_| course.whole)).map(|at| at + installs);
    let installs = installs.filter(|until| *until > now);
    course.busy_until(now).or(installs)
}

/// A push may be lost, and so may the download that followed it. It is pushed to again, unless it is downloading, or may be
/// installing what it has.
fn look(course: Course, now: Instant, rules: &Rules<'_>) -> Next<Course> {
    if !course.confirmed {
        let course = Course {
            anticipated: true,
            repeated: true,
            ..course
        };
        return Next::Goes(course, vec![Action::Offer]);
    }
    let look_at = busy_until(&course, now, rules);
    let again = offered_again(&course);
    if look_at.is_some() || course.done || course.is_claimed() || again > MAX_OFFERS_AGAIN {
        return Next::stays(Course { look_at, ..course });
    }
    let course = Course {
        anticipated: true,
        ..course.offers_again(again)
    };
    Next::Goes(course, vec![Action::Offer])
}

/// How many pushes were not taken, with the last one. One that was taken has led further; but what has the whole package and
/// did not install it has not taken it.
const fn offered_again(course: &Course) -> u8 {
    if course.further && !course.whole && !course.done {
        0
    } else {
        course.offered_again.saturating_add(1)
    }
}

/// It tells another version than the target: the push did not take, unless it has got further since. What it was pushed to when
/// it connected it has not seen yet.
fn on_other_version(course: Course, version: Version) -> Next<Course> {
    let (again, offers) = match (course.anticipated, course.confirmed) {
        // that push was counted
        (true, true) => (course.offered_again, None),
        (true, false) => (offered_again(&course), None),
        (false, _) => (offered_again(&course), Some(Action::Offer)),
    };
    if again > MAX_OFFERS_AGAIN {
        return Next::fails(Failure::WrongVersion(version));
    }
    let course = Course {
        done: false,
        done_until: None,
        anticipated: false,
        ..course.offers_again(again)
    };
    Next::Goes(course, offers.into_iter().collect())
}

fn on_said(
    course: Course,
    now: Instant,
    said: MqttInput,
    tells_versions: bool,
    rules: &Rules<'_>,
) -> Next<Course> {
    const UNVERIFIED: Outcome = Outcome::Succeeded(Success::Unverified);
    match said {
        MqttInput::Progressed { percent, .. } => {
            // a claim, which counts where there is nothing better
            let percent = percent.filter(|_| !rules.counted).unwrap_or(0);
            Next::stays(Course {
                further: course.further || percent > course.most_percent,
                most_percent: course.most_percent.max(percent),
                ..course.goes_along(now)
            })
        }
        MqttInput::Fetched { further, in_flight } => course.fetches(now, further, in_flight),
        MqttInput::Done {
            tells_versions: true,
        } => Next::stays(course.through(now, rules)),
        // what it says is all there is; more of what it was served may have been known
        MqttInput::Done { .. } if course.whole || course.lost => Next::Ends(UNVERIFIED),
        MqttInput::Done { .. } => course.claims_blindly(now, rules),
        MqttInput::FetchedAll if course.waits_for_whole() => Next::Ends(if tells_versions {
            Outcome::Succeeded(Success::Upgraded)
        } else {
            UNVERIFIED
        }),
        MqttInput::FetchedAll => Next::stays(Course {
            whole: true,
            agreed: false,
            ..course.goes_along(now)
        }),
        MqttInput::FailureReported(code) => Next::fails(Failure::Reported(code)),
        // its devices have no word for these
        MqttInput::Confirmed | MqttInput::DownloadError => Next::stays(course),
    }
}

#[cfg(test)]
mod tests;
