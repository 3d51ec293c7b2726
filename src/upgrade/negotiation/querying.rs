//! Up to the slot: the device is heard, asked for its version, its coverage, its cell, and waits. Over MQTT it waits as soon as its version
//! is known, where it has a site or a gateway, and else is offered the package at once.

use super::{Action, Input, Negotiation, Place, Rules, Step, Transfer, failed, stay};
use crate::{
    clock::Instant,
    ledger::{Coverage, Deadline, Failure, Lane},
};

impl Negotiation {
    pub(super) fn on_querying_version(self, now: Instant, event: Input, rules: &Rules<'_>) -> Step {
        let Self::QueryingVersion { until, .. } = self else {
            return stay(self);
        };
        let ask_again = || {
            let repeat_at = now + Deadline::RepeatQuestion.duration(rules.upgrade);
            (
                Self::QueryingVersion { until, repeat_at },
                vec![Action::AskVersion],
            )
        };
        match event {
            Input::VersionAnswered(code, ..) if !code.is_success() => {
                failed(Failure::VersionQueryRefused(code))
            }
            // Another version, or the target from a device that took it and has not restarted since.
            Input::VersionAnswered(..) => go_on(now, rules),
            // It tells its version at start-up or never: what it runs is not known.
            Input::Reached(Deadline::RepeatQuestion) if rules.protocol.tells_by_itself() => {
                go_on(now, rules)
            }
            Input::Registered { .. }
            | Input::Connected
            | Input::HeardAgain
            | Input::Reached(Deadline::RepeatQuestion) => ask_again(),
            Input::Reached(Deadline::Version) => failed(Failure::VersionQueryTimedOut),
            _ => stay(self),
        }
    }

    pub(super) fn on_querying_coverage(
        self,
        now: Instant,
        event: Input,
        rules: &Rules<'_>,
    ) -> Step {
        let Self::QueryingCoverage { place, .. } = self else {
            return stay(self);
        };
        match event {
            Input::CoverageAnswered(Some(coverage)) if coverage.cell.is_some() => {
                queue(now, coverage, place, rules)
            }
            Input::CoverageAnswered(coverage) => {
                query_cell(now, coverage.unwrap_or_default(), place, rules)
            }
            Input::Registered { .. } => (self, vec![Action::ReadCoverage]),
            Input::Reached(Deadline::Coverage) => match place {
                Some(place) => stay(Self::WaitingForSlot { place }),
                None => query_cell(now, Coverage::default(), None, rules),
            },
            _ => stay(self),
        }
    }

    pub(super) fn on_querying_cell(self, now: Instant, event: Input, rules: &Rules<'_>) -> Step {
        let Self::QueryingCell {
            coverage, place, ..
        } = self
        else {
            return stay(self);
        };
        match event {
            Input::CellAnswered(Some(cell)) => {
                let coverage = Coverage {
                    cell: Some(cell),
                    ..coverage
                };
                queue(now, coverage, place, rules)
            }
            Input::CellAnswered(None) => failed(Failure::CellUnknown),
            Input::Registered { .. } => (self, vec![Action::ReadCell]),
            Input::Reached(Deadline::Cell) => match place {
                // what was told besides the cell is the newest there is
                Some(place) if coverage.measured().is_some() => relocate(place, coverage, rules),
                Some(place) => stay(Self::WaitingForSlot { place }),
                None => failed(Failure::CellQueryTimedOut),
            },
            _ => stay(self),
        }
    }
}

pub(super) fn on_waiting_for_device(
    until: Instant,
    now: Instant,
    event: Input,
    rules: &Rules<'_>,
) -> Step {
    match event {
        Input::Registered { .. }
        | Input::Restarted
        | Input::Connected
        | Input::HeardAgain
        | Input::MayBeThere
        | Input::Heard => Negotiation::ask_version(now, rules),
        Input::Reached(Deadline::DeviceHeard) => failed(Failure::DeviceNotHeard),
        _ => stay(Negotiation::WaitingForDevice { until }),
    }
}

/// The device is to be upgraded: it competes for a slot, or begins at once where there is none to compete for.
fn go_on(now: Instant, rules: &Rules<'_>) -> Step {
    if !rules.protocol.is_mqtt() {
        return query_coverage(now, None, rules);
    }
    if let Some(lane) = rules.home {
        let place = Place {
            lane,
            limit: u32::MAX,
            since: now,
            until: now + Deadline::Slot.duration(rules.upgrade),
            slots_returned: 0,
        };
        return stay(Negotiation::WaitingForSlot { place });
    }
    let (transfer, actions) = Transfer::begin(now, rules);
    let place = None;
    (Negotiation::Transferring { place, transfer }, actions)
}

fn query_coverage(now: Instant, place: Option<Place>, rules: &Rules<'_>) -> Step {
    let until = now + Deadline::Coverage.duration(rules.upgrade);
    (
        Negotiation::QueryingCoverage { until, place },
        vec![Action::ReadCoverage],
    )
}

fn query_cell(now: Instant, coverage: Coverage, place: Option<Place>, rules: &Rules<'_>) -> Step {
    let state = Negotiation::QueryingCell {
        until: now + Deadline::Cell.duration(rules.upgrade),
        coverage,
        place,
    };
    (state, vec![Action::ReadCell])
}

/// Takes a place in the queue of the cell, or keeps the one it had.
fn queue(now: Instant, coverage: Coverage, place: Option<Place>, rules: &Rules<'_>) -> Step {
    let Some(cell) = coverage.cell else {
        return failed(Failure::CellUnknown);
    };
    let limit = coverage.limit(rules.admission);
    let place = place.map_or_else(
        || Place {
            lane: Lane::Cell(cell),
            limit,
            since: now,
            until: now + Deadline::Slot.duration(rules.upgrade),
            slots_returned: 0,
        },
        |place| Place {
            lane: Lane::Cell(cell),
            limit,
            ..place
        },
    );
    stay(Negotiation::WaitingForSlot { place })
}

pub(super) fn on_waiting_for_slot(
    place: Place,
    now: Instant,
    event: Input,
    rules: &Rules<'_>,
) -> Step {
    match event {
        Input::MeasureAnew => query_coverage(now, Some(place), rules),
        Input::SlotGranted => {
            let (transfer, actions) = Transfer::begin(now, rules);
            let place = Some(place);
            (Negotiation::Transferring { place, transfer }, actions)
        }
        // A late answer to a question whose limit has run out: what it tells counts from now on.
        Input::CoverageAnswered(Some(coverage)) => relocate(place, coverage, rules),
        Input::CellAnswered(cell @ Some(_)) => {
            let coverage = Coverage {
                cell,
                ..Coverage::default()
            };
            relocate(place, coverage, rules)
        }
        // No time counts in which it could not have been served; what is left is never more than the whole.
        Input::Slept(slept) => {
            let whole = now + Deadline::Slot.duration(rules.upgrade);
            let until = (place.until + slept).min(whole).max(place.until);
            let place = Place { until, ..place };
            stay(Negotiation::WaitingForSlot { place })
        }
        Input::Reached(Deadline::Slot) => failed(Failure::SlotTimedOut),
        Input::Reached(Deadline::DeviceHeard) => failed(Failure::DeviceNotHeard),
        _ => stay(Negotiation::WaitingForSlot { place }),
    }
}

/// The same place in the queue, of another cell if it is in another, with the limit of its coverage now.
fn relocate(place: Place, coverage: Coverage, rules: &Rules<'_>) -> Step {
    let place = Place {
        lane: coverage.cell.map_or(place.lane, Lane::Cell),
        limit: coverage.limit(rules.admission),
        ..place
    };
    stay(Negotiation::WaitingForSlot { place })
}
