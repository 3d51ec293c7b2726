//! When a task will be through, played in advance: the production planner ([`crate::task::plan`]), gate and admission
//! ([`crate::session::Gate`]) in virtual time, over the fleet as it is known. A transfer is a duration, not its segments. Pure.
//!
//! ```text
//! Given ─▶ courses: each device's cell, rhythm, tempo and fate, known or drawn ─▶ play ─▶ quantiles ─▶ Forecast
//! ```
//!
//! A course begins upgrades as the planner says, and grants slots as the gate does. What differs from course to course is what
//! nobody knows: how long downloads take on the whole (five courses stand for the five fifths of what is likely, and of many devices three do), how long
//! each device's takes, and where those are of whom nothing is known. So the median of the courses is P50, and the slowest P90.

mod chance;
mod course;
mod given;
mod lanes;
mod pace;
mod play;
mod quantiles;
mod routes;
mod unit;

use std::ops::ControlFlow;

pub use given::{Account, Given, PackageGiven, Place, Rhythm, Subject, TaskGiven};
pub use lanes::{Lanes, LanesId};
pub use routes::{Route, RouteId, Routes};

pub use quantiles::{
    Assumed, Count, Forecast, HeldBy, HoldForecast, LaneForecast, PhaseForecast, Share, Span,
};

use chance::Draws;
use play::Play;

/// In the middle of each fifth of what is likely: standard deviations from the mean.
const DEVIATIONS: [f64; 5] = [-1.282, -0.524, 0.0, 0.524, 1.282];
/// Of many devices three courses are played: what is drawn for each evens out among so many, and each course takes long.
const DEVIATIONS_OF_MANY: [f64; 3] = [-1.282, 0.0, 1.282];
/// So many are many.
const MANY: usize = 20_000;
/// Largest number of devices of a forecast, those of other tasks included.
pub const MOST_DEVICES: usize = 1_000_000;

/// Plays the task in advance. `go_on` hears how much is done, 0 to 1, and may end it: then there is no forecast.
pub fn forecast(given: &Given, mut go_on: impl FnMut(f64) -> ControlFlow<()>) -> Option<Forecast> {
    let all = share_of(given.devices.len().max(1), 1);
    let deviations: &[f64] = if given.devices.len() > MANY {
        &DEVIATIONS_OF_MANY
    } else {
        &DEVIATIONS
    };
    let mut courses = Vec::with_capacity(deviations.len());
    for (number, deviation) in (0_u32..).zip(deviations) {
        let draws = Draws {
            seed: u64::from(number) + 1,
            deviations: *deviation,
            around: true,
        };
        let before = f64::from(number);
        let course = Play::new(given, draws).run(|ended| {
            let done = (before + share_of(ended, 1) / all) / share_of(deviations.len(), 1);
            go_on(done.min(1.0))
        });
        match course {
            ControlFlow::Continue(course) => courses.push(course),
            ControlFlow::Break(()) => return None,
        }
    }
    Some(Forecast::of(given, &courses))
}

/// A part of a whole.
fn share_of(part: usize, whole: usize) -> f64 {
    let number = |it: usize| f64::from(u32::try_from(it).unwrap_or(u32::MAX));
    number(part) / number(whole).max(1.0)
}

#[cfg(test)]
mod tests;
