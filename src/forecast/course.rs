//! What came of one course.

use std::{collections::BTreeMap, iter, time::Duration};

use super::{
    Given,
    unit::{State, Unit},
};
use crate::{clock::Instant, ledger::Lane, task::HoldReason, upgrade::lower_bound};

/// Devices that are named, of those that do not make it.
pub(super) const NAMED: usize = 100;
/// Times that a course names at which the task is held.
const MOST_HELD: usize = 100;

/// What came of one course.
#[derive(Debug, Default)]
pub(super) struct Course {
    /// When the last device had its final outcome; `None` where some never have one.
    pub(super) finish: Option<Instant>,
    /// When devices had theirs, in order.
    pub(super) ends: Vec<Instant>,
    pub(super) succeeded: u64,
    pub(super) failed: BTreeMap<String, u64>,
    pub(super) skipped: BTreeMap<&'static str, u64>,
    pub(super) expired: u64,
    pub(super) stopped: u64,
    /// Devices that nothing would ever come of, or not within the time that is looked ahead.
    pub(super) unfinished: u64,
    pub(super) bytes: u64,
    pub(super) phases: Vec<PhaseCourse>,
    /// What came of cells, sites and gateways.
    pub(super) lanes: BTreeMap<Lane, LaneCourse>,
    /// When the task was held, and why.
    pub(super) held: Vec<(Instant, &'static str)>,
    /// The first of those that do not make it, by their numbers.
    pub(super) missed: Vec<u32>,
    /// When each had its slot.
    admitted: Vec<Option<Instant>>,
    /// Devices that are counted: those of the task, without those who join.
    counted: usize,
    /// How long each device held slots, ms.
    held_ms: Vec<u64>,
    began: Option<Instant>,
}

/// What came of a phase.
#[derive(Debug, Clone, Default)]
pub(super) struct PhaseCourse {
    pub(super) devices: u64,
    pub(super) began: Option<Instant>,
    pub(super) ended: Option<Instant>,
    pub(super) missed: u64,
}

/// What came of a cell, site or gateway.
#[derive(Debug, Clone, Default)]
pub(super) struct LaneCourse {
    pub(super) devices: u64,
    pub(super) ended: Option<Instant>,
    pub(super) missed: u64,
    pub(super) sleeping: u64,
    /// No order of admissions takes less, ms.
    pub(super) bound_ms: u64,
    /// From the first slot to the last end, ms.
    pub(super) took_ms: u64,
    /// Devices of it wait for another lane of theirs as long, whose slots are hardly ever idle.
    pub(super) elsewhere: bool,
}

impl LaneCourse {
    /// Its slots are hardly ever idle.
    pub(super) const fn is_full(&self) -> bool {
        self.bound_ms > self.took_ms / 5 * 4
    }
}

/// How long devices held the slots of a lane.
#[derive(Debug, Default)]
struct Served {
    held: Vec<(u32, Duration)>,
    first: Option<Instant>,
}

/// The lanes of a device: its cell, and the site and gateway for which it competes besides.
fn lanes_of(given: &Given, unit: &Unit) -> impl Iterator<Item = Lane> {
    iter::once(unit.lane).chain(given.lanes.get(unit.lanes).lanes())
}

impl Course {
    pub(super) fn new(given: &Given, units: &[Unit]) -> Self {
        let last = given.devices.iter().map(|it| it.phase as usize + 1).max();
        let phases = given.task.rules.phase_count().max(last.unwrap_or(1));
        let mut course = Self {
            phases: vec![PhaseCourse::default(); phases],
            admitted: vec![None; units.len()],
            counted: given.devices.len(),
            held_ms: vec![0; units.len()],
            ..Self::default()
        };
        for subject in &given.devices {
            course.phases[subject.phase as usize].devices += 1;
        }
        course
    }

    pub(super) fn began(&mut self, now: Instant) {
        self.began.get_or_insert(now);
        if let Some(phase) = self.phases.first_mut() {
            phase.began.get_or_insert(now);
        }
    }

    pub(super) fn phase_began(&mut self, phase: u32, now: Instant) {
        if let Some(phase) = self.phases.get_mut(phase as usize) {
            phase.began.get_or_insert(now);
        }
    }

    pub(super) fn held(&mut self, why: &HoldReason, now: Instant) {
        if self.held.len() < MOST_HELD {
            self.held.push((now, why.code()));
        }
    }

    pub(super) fn failed(&mut self, reason: &str) {
        *self.failed.entry(reason.to_owned()).or_default() += 1;
    }

    pub(super) fn skipped(&mut self, reason: &'static str) {
        *self.skipped.entry(reason).or_default() += 1;
    }

    /// What had not begun is done away with.
    pub(super) fn gave_up(&mut self, number: u32, expired: bool) {
        if expired {
            self.expired += 1;
        } else {
            self.stopped += 1;
        }
        if expired && self.missed.len() < NAMED {
            self.missed.push(number);
        }
    }

    pub(super) fn admitted(&mut self, number: u32, now: Instant) {
        if let Some(admitted) = self.admitted.get_mut(number as usize) {
            *admitted = Some(now);
        }
    }

    pub(super) const fn downloaded(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    /// The slot is given back; so much of a download that did not end was there.
    pub(super) fn released(&mut self, number: u32, now: Instant, bytes: u64) {
        let at = number as usize;
        if at < self.counted {
            self.bytes += bytes;
        }
        if let (Some(admitted), Some(held_ms)) = (
            self.admitted.get(at).copied().flatten(),
            self.held_ms.get_mut(at),
        ) {
            *held_ms += now.as_millis() - admitted.as_millis().min(now.as_millis());
        }
    }

    /// Nothing more happens.
    pub(super) fn close(mut self, given: &Given, units: &[Unit]) -> Self {
        let usual = given.config.admission.per_gateway;
        let mut served: BTreeMap<Lane, Served> = BTreeMap::new();
        for (at, (subject, unit)) in given.devices.iter().zip(units).enumerate() {
            let phase = &mut self.phases[subject.phase as usize];
            let unfinished = unit.state != State::Over || unit.ended_at.is_none();
            if unfinished {
                self.unfinished += 1;
                if self.missed.len() < NAMED {
                    self.missed.push(u32::try_from(at).unwrap_or(u32::MAX));
                }
            }
            let held = Duration::from_millis(self.held_ms[at]);
            let began = self.admitted[at].map(|last| last.before(held));
            let expired = unit.ended_at.is_some() && unit.attempts == 0;
            let missed = u64::from(unfinished || expired);
            phase.missed += missed;
            self.ends.extend(unit.ended_at);
            phase.ended = phase.ended.max(unit.ended_at);
            for lane in lanes_of(given, unit) {
                let it = self.lanes.entry(lane).or_default();
                it.devices += 1;
                it.sleeping += u64::from(unit.sleeps);
                it.missed += missed;
                it.ended = it.ended.max(unit.ended_at);
                let limit = match lane {
                    Lane::Cell(_) => unit.limit,
                    Lane::Site(_) | Lane::Gateway(_) => given.lanes.limit(lane, usual),
                };
                let served = served.entry(lane).or_default();
                served
                    .held
                    .extend((!held.is_zero()).then_some((limit, held)));
                served.first = served.first.into_iter().chain(began).min();
            }
        }
        self.ends.sort_unstable();
        self.finish = (self.ends.last().copied()).filter(|_| self.unfinished == 0);
        for (lane, served) in served {
            let bound = lower_bound(served.held);
            if let Some(it) = self.lanes.get_mut(&lane) {
                it.bound_ms = u64::try_from(bound.as_millis()).unwrap_or(u64::MAX);
                let took = it.ended.zip(served.first);
                it.took_ms = took.map_or(0, |(ended, first)| {
                    u64::try_from(ended.since(first).as_millis()).unwrap_or(u64::MAX)
                });
            }
        }
        if !given.lanes.is_empty() {
            self.find_full(given, units);
        }
        (self.admitted, self.held_ms) = (Vec::new(), Vec::new());
        self
    }

    /// Which lanes wait for others: those of whose devices others take about as long, and are full.
    fn find_full(&mut self, given: &Given, units: &[Unit]) {
        for (_, unit) in given.devices.iter().zip(units) {
            for lane in lanes_of(given, unit) {
                let took_ms = self.lanes.get(&lane).map_or(0, |it| it.took_ms);
                let elsewhere = lanes_of(given, unit).any(|other| {
                    let other = self.lanes.get(&other).filter(|_| other != lane);
                    other.is_some_and(|it| it.is_full() && it.took_ms > took_ms / 5 * 4)
                });
                if elsewhere && let Some(it) = self.lanes.get_mut(&lane) {
                    it.elsewhere = true;
                }
            }
        }
    }
}
