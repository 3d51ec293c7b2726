//! Devices that join the task in a course: nobody knows which, and how often was observed. They are as the others of which nothing is
//! known, and are not counted.

use std::time::Duration;

use super::{Event, FURTHEST, Play};
use crate::forecast::{
    MOST_DEVICES, Rhythm, Subject,
    unit::{Unit, instant},
};

impl Play<'_> {
    /// The next device joins, where some do.
    pub(super) fn plan_joining(&mut self) {
        let rate = self.given.joining_per_day.unwrap_or(0.0);
        let pause = Duration::try_from_secs_f64(86_400.0 / rate).unwrap_or(Duration::MAX);
        if rate > 0.0 && pause < FURTHEST && self.units.len() < MOST_DEVICES {
            let starts = instant(self.given.task.start_at);
            self.push(self.now.max(starts) + pause, Event::Joins);
        }
    }

    /// A device joins the phase that runs. Where nobody may join now, it is taken to be one of those that come later.
    pub(super) fn joins(&mut self) {
        let now = self.clock();
        self.plan_joining();
        let Some(phase) = self.rollout.joined_phase(now.utc) else {
            return;
        };
        let number = self.unit_count();
        let subject = Subject {
            phase,
            not_before: now.utc,
            rhythm: Rhythm::Unheard,
            lanes: self.likeness.lanes(number, self.chance),
            ..Subject::default()
        };
        let known = (&self.likeness, &self.pace);
        let mut unit = Unit::new(self.given, (number, &subject), known, self.draws);
        unit.is_put_off(now.instant.since(instant(self.given.now)));
        unit.lot = self.rollout.takes_up(number, phase, now.utc);
        self.units.push(unit);
        self.look_at(now.instant);
    }
}
