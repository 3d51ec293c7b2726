//! A device in a play: what is known of it, and what is not, drawn from what is known of the others.

use std::time::Duration;

use super::{
    Given, LanesId, Place, Rhythm, RouteId, Subject,
    chance::{Chance, Draw, Draws},
    pace::{AROUND, Pace},
};
use crate::{
    clock::{Instant, UtcMillis},
    config::AdmissionConfig,
    ledger::{DeviceId, Lane},
    session::{Comes, KeptAwake, Presence},
};

/// Where no cell of any device is known, so many devices are taken to be in one,
const IN_A_CELL: f64 = 100.0;
/// and of a hundred so many in good coverage, and so many in good or fair coverage.
const USUAL: [f64; 2] = [0.6, 0.9];
/// A device that was never heard and will listen comes within this time, where others of the task are known.
const COMES_WITHIN: Duration = Duration::from_hours(1);
/// Where nothing is known of any device, each is heard once in this time.
const SPREAD: Duration = Duration::from_hours(24);
/// No cell of a network has such a number: they have 28 bits.
const NO_CELL: u32 = 1 << 30;

/// A device in a play.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Unit {
    pub(super) lane: Lane,
    pub(super) limit: u32,
    /// The site and gateway for which it competes besides.
    pub(super) lanes: LanesId,
    pub(super) state: State,
    /// Attempts that have begun.
    pub(super) attempts: u32,
    /// Of these, those before it was taken up again.
    pub(super) attempts_before: u32,
    /// The phase and zone; `None` for a device of another task.
    pub(super) lot: Option<u32>,
    pub(super) sleeps: bool,
    /// Nothing is heard from it.
    pub(super) away: bool,
    /// It was not heard before: it comes then.
    pub(super) absent_until: Instant,
    /// What it downloads, and how many packages of that it has installed.
    pub(super) route: RouteId,
    pub(super) step: usize,
    /// Its upgrade fails, for the reason of that number.
    pub(super) fails: Option<usize>,
    /// From one wake-up to the next.
    pub(super) period: Duration,
    /// The server knows that period.
    pub(super) regular: bool,
    pub(super) comes_when_told: bool,
    pub(super) appointed: Option<Instant>,
    pub(super) heard_at: Option<Instant>,
    pub(super) measured_at: Option<Instant>,
    pub(super) wakes_at: Instant,
    /// When it is woken up next: other wake-ups in the queue of events were put off.
    pub(super) wake_planned: Option<Instant>,
    pub(super) probing: bool,
    pub(super) kept: KeptAwake,
    pub(super) queued_at: Instant,
    /// Bytes that are left to download.
    pub(super) left: u64,
    /// How long its downloads take, against the mean.
    pub(super) tempo: f64,
    pub(super) round_trip: Duration,
    /// When its upgrade ended.
    pub(super) ended_at: Option<Instant>,
    /// Since when it may begin: one that is taken back keeps its turn.
    pub(super) since: UtcMillis,
    /// When its first attempt began.
    pub(super) begun_at: Option<Instant>,
    /// It waits because its last attempt was taken back.
    pub(super) taken_back: bool,
    /// From when to when it downloads, while it does.
    pub(super) downloads: Option<(Instant, Instant)>,
}

/// How far its upgrade is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// It waits for its time.
    Waits,
    /// It was not heard since it began.
    Sought,
    /// It is asked for its version and its coverage.
    Asked,
    Queued,
    Downloading,
    Installing,
    /// It has a final outcome.
    Over,
}

/// What is known of the fleet, for those of whom it is not.
#[derive(Debug)]
pub(super) struct Likeness {
    cells: Vec<(u32, u32)>,
    periods: Vec<u32>,
    /// How those that were heard can be reached: so many seconds from one wake-up to the next, or at any time.
    rhythms: Vec<Option<u32>>,
    routes: Vec<RouteId>,
    /// Where those are that join.
    lanes: Vec<LanesId>,
}

impl Likeness {
    pub(super) fn new(given: &Given) -> Self {
        let all = || given.devices.iter().chain(&given.others);
        let cells = all().filter_map(|it| it.cell.map(|cell| (cell, it.limit)));
        let periods = all().filter_map(|it| match it.rhythm {
            Rhythm::Learnt(every_s) => Some(every_s),
            Rhythm::Listens | Rhythm::Sleeps(_) | Rhythm::Away | Rhythm::Unheard => None,
        });
        let rhythms = all().filter_map(|it| match it.rhythm {
            Rhythm::Listens => Some(None),
            Rhythm::Learnt(every_s) | Rhythm::Sleeps(every_s) => Some(Some(every_s)),
            Rhythm::Away | Rhythm::Unheard => None,
        });
        let mut periods: Vec<u32> = periods.collect();
        periods.sort_unstable();
        // a few were learnt from a wake-up that was missed
        let odd = periods.len() / 10;
        periods.truncate(periods.len() - odd);
        periods.drain(..odd.min(periods.len()));
        Self {
            cells: cells.collect(),
            periods,
            rhythms: rhythms.collect(),
            routes: given.devices.iter().filter_map(|it| it.route).collect(),
            lanes: (given.devices.iter())
                .filter(|_| given.joining_per_day.is_some() && !given.lanes.is_empty())
                .map(|it| it.lanes)
                .collect(),
        }
    }

    /// Where a device is taken to be, and how many may upgrade there for it to be one of them.
    fn cell(&self, number: u32, draws: Draws, admission: &AdmissionConfig) -> (u32, u32) {
        let chance = draws.chance();
        let like = chance.below(number, Draw::Likeness, self.cells.len());
        if let Some(like) = self.cells.get(like) {
            return *like;
        }
        let in_a_cell = IN_A_CELL * draws.guessed();
        let cell = (f64::from(number) / in_a_cell.max(1.0)).floor();
        let cell = Duration::from_secs_f64(cell).as_secs(); // rounded as is wanted
        let dice = chance.share(number, Draw::Likeness);
        let limits = [
            admission.limit_good,
            admission.limit_fair,
            admission.limit_weak,
        ];
        let class = USUAL.iter().filter(|below| dice >= **below).count();
        (NO_CELL + u32::try_from(cell).unwrap_or(0), limits[class])
    }

    /// How a device can be reached that was never heard, and how long it may take to come.
    fn rhythm(&self, number: u32, draws: Draws) -> (Option<Duration>, Duration) {
        let like = draws
            .chance()
            .below(number, Draw::Rhythm, self.rhythms.len());
        match self.rhythms.get(like) {
            Some(Some(period_s)) => {
                let period_s = self.period_s(number, draws.chance()).unwrap_or(*period_s);
                let period = Duration::from_secs(period_s.into());
                (Some(period), period)
            }
            Some(None) => (None, COMES_WITHIN),
            None => {
                let period = SPREAD.mul_f64(draws.guessed());
                (Some(period), period)
            }
        }
    }

    /// What a device is taken to download of which it is not known what it runs: where there is one package for all, that.
    fn route(&self, number: u32, chance: Chance, several: bool) -> RouteId {
        let like = chance.below(number, Draw::Route, self.routes.len());
        let like = self.routes.get(like).copied().filter(|_| several);
        like.unwrap_or_default()
    }

    /// At which site, and behind which gateway, a device is taken to be that joins.
    pub(super) fn lanes(&self, number: u32, chance: Chance) -> LanesId {
        let like = chance.below(number, Draw::Lanes, self.lanes.len());
        self.lanes.get(like).copied().unwrap_or_default()
    }

    fn period_s(&self, number: u32, chance: Chance) -> Option<u32> {
        let like = chance.below(number, Draw::Likeness, self.periods.len());
        self.periods.get(like).copied()
    }
}

/// A time as an instant: both clocks are one in a play.
pub(super) fn instant(at: UtcMillis) -> Instant {
    Instant::from_millis(u64::try_from(at.0).unwrap_or(0))
}

/// An instant as a time.
pub(super) fn utc(at: Instant) -> UtcMillis {
    UtcMillis(i64::try_from(at.as_millis()).unwrap_or(i64::MAX))
}

impl Unit {
    /// The device of that number, as it is known, or drawn.
    #[expect(clippy::too_many_lines, reason = "one field after the other")]
    pub(super) fn new(
        given: &Given,
        (number, subject): (u32, &Subject),
        (likeness, pace): (&Likeness, &Pace),
        draws: Draws,
    ) -> Self {
        let now = instant(given.now);
        let chance = draws.chance();
        let (cell, limit) = match subject.cell {
            Some(cell) => (cell, subject.limit),
            None => likeness.cell(number, draws, &given.config.admission),
        };
        let lane = Lane::Cell(cell);
        let seconds = |seconds: u32| Some(Duration::from_secs(seconds.into()));
        let (period, absent) = match subject.rhythm {
            Rhythm::Listens | Rhythm::Away => (None, None),
            Rhythm::Learnt(period_s) => (seconds(period_s), None),
            Rhythm::Sleeps(every_s) => {
                let like = likeness.period_s(number, chance);
                (seconds(like.unwrap_or(every_s)), None)
            }
            Rhythm::Unheard => {
                let (period, within) = likeness.rhythm(number, draws);
                let absent = within.mul_f64(chance.share(number, Draw::Phase));
                (period, Some(now + absent))
            }
        };
        let sleeps = period.is_some();
        let period = period.unwrap_or_default().max(Duration::from_secs(10));
        let heard_at = subject.heard_at.map(instant);
        let single = if draws.around {
            (chance.share(number, Draw::Tempo) * 2.0 - 1.0) * AROUND
        } else {
            0.0
        };
        let dice = chance.share(number, Draw::Failure);
        let mut below = 0.0;
        let fails = given.failures.iter().position(|(_, share)| {
            below += share;
            dice < below
        });
        let several = given.routes.are_several();
        let route = (subject.route).unwrap_or_else(|| likeness.route(number, chance, several));
        let first = given.routes.get(route).steps.first();
        let mut unit = Self {
            lane,
            limit: limit.max(1),
            lanes: subject.lanes,
            state: State::Waits,
            attempts: subject.attempts,
            attempts_before: subject.attempts_before,
            lot: None,
            sleeps,
            away: subject.rhythm == Rhythm::Away,
            absent_until: absent.unwrap_or(Instant::ZERO),
            route,
            step: 0,
            fails,
            period,
            regular: matches!(subject.rhythm, Rhythm::Learnt(_)),
            comes_when_told: subject.comes_when_told,
            appointed: None,
            heard_at,
            measured_at: subject.measured_at.map(instant),
            wakes_at: now,
            wake_planned: None,
            probing: false,
            kept: KeptAwake::default(),
            queued_at: now,
            left: first.map_or(0, |it| it.bytes),
            tempo: (draws.deviations * pace.doubt(limit)).exp() * (1.0 + single),
            round_trip: pace.round_trip(lane, limit),
            ended_at: None,
            since: subject.not_before.max(given.task.start_at),
            begun_at: (subject.attempts > 0).then_some(now),
            taken_back: false,
            downloads: None,
        };
        unit.wakes_at =
            absent.unwrap_or_else(|| unit.wakes_after(now, chance.share(number, Draw::Phase)));
        unit.stands(subject.place, now);
        unit
    }

    /// It comes so much later.
    pub(super) fn is_put_off(&mut self, later: Duration) {
        self.absent_until = self.absent_until + later;
        self.wakes_at = self.wakes_at + later;
    }

    fn stands(&mut self, place: Place, now: Instant) {
        match place {
            Place::Waits => {}
            Place::Begun => self.state = State::Sought,
            Place::Queued(since) => {
                self.state = State::Queued;
                self.queued_at = instant(since);
            }
            Place::Downloading(left) => {
                self.state = State::Downloading;
                self.left = left;
                self.heard_at = Some(now);
            }
            Place::Installing(_) => {
                self.state = State::Installing;
                self.left = 0;
            }
        }
    }

    /// When it wakes up next: in its rhythm since it was heard, or at any point of that.
    fn wakes_after(&self, now: Instant, share: f64) -> Instant {
        let Some(heard_at) = self.heard_at.filter(|heard| *heard <= now) else {
            return now + self.period.mul_f64(share);
        };
        let since_ms = now.since(heard_at).as_millis();
        let period_ms = self.period.as_millis().max(1);
        let missed = u32::try_from(since_ms / period_ms).unwrap_or(u32::MAX);
        heard_at + self.period.saturating_mul(missed.saturating_add(1))
    }

    /// Its identity in the gate: what looks like chance, and its number.
    pub(super) fn id(number: u32, chance: Chance) -> DeviceId {
        let high = chance.bits(number, Draw::Number) & 0xFFFF_FFFF_0000_0000;
        DeviceId::from_bytes((high | u64::from(number)).to_be_bytes())
    }

    /// The number of a device by its identity in the gate.
    pub(super) fn number(id: DeviceId) -> u32 {
        u32::try_from(id.number() & 0xFFFF_FFFF).unwrap_or(0)
    }

    /// Something is heard from it.
    pub(super) fn heard(&mut self, now: Instant) {
        self.heard_at = Some(now);
        self.wakes_at = now + self.period;
        self.appointed = None;
        self.probing = false;
        self.kept.answered(now);
    }

    /// It has fallen asleep.
    pub(super) fn is_asleep(&self, now: Instant, listens: Duration) -> bool {
        let awake = self.heard_at.is_some_and(|at| now < at + listens);
        now < self.absent_until || (self.sleeps && !awake)
    }

    /// What the gate is told of it.
    pub(super) fn presence(&self, number: u32, pace: &Pace, given: &Given) -> Presence {
        let admission = &given.config.admission;
        let listening = pace.habits.listening;
        let max_age = Duration::from_secs(admission.coverage_max_age_s);
        let heard_at = self.heard_at.unwrap_or(Instant::ZERO);
        let expected = self.sleeps && self.regular;
        // what is tried out meanwhile takes pings, and changes nothing else
        let nods_after = listening.window() * 2 / 3;
        Presence {
            reachable: !self.away,
            sleeps: self.sleeps,
            probing: self.probing,
            awake_until: heard_at + listening.window(),
            nods_at: heard_at + listening.ping_after(number.into()).max(nods_after),
            spare: self.kept.spare(admission),
            fresh_until: self.measured_at.map_or(Instant::ZERO, |at| at + max_age),
            comes: if self.comes_when_told {
                Comes::WhenTold
            } else {
                Comes::AsItDoes
            },
            expected_at: self.appointed.or(expected.then_some(self.wakes_at)),
        }
    }

    /// Has it come at about that time. Its client updates its registration then.
    pub(super) fn appoint(&mut self, at: Instant) {
        self.appointed = Some(at);
        self.wakes_at = at;
    }
}
