//! A device in a play: what is known of it, and what is not, drawn from what is known of the others.

use std::time::Duration;

use super::{
    Given, Place, Rhythm, Subject,
    chance::{Chance, Draw},
    pace::{AROUND, Pace},
};
use crate::{
    clock::{Instant, UtcMillis},
    ledger::{DeviceId, Lane},
    session::{Comes, KeptAwake, Presence},
};

/// Where no cell of any device is known, so many devices are taken to be in one.
const IN_A_CELL: u32 = 100;
/// No cell of a network has such a number: they have 28 bits.
const NO_CELL: u32 = 1 << 30;

/// A device in a play.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub(super) struct Unit {
    pub(super) lane: Lane,
    pub(super) limit: u32,
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
    /// The version is there already.
    pub(super) current: bool,
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
}

impl Likeness {
    pub(super) fn new(given: &Given) -> Self {
        let all = || given.devices.iter().chain(&given.others);
        let cells = all().filter_map(|it| it.cell.map(|cell| (cell, it.limit)));
        let periods = all().filter_map(|it| match it.rhythm {
            Rhythm::Learnt(period_s) => Some(period_s),
            Rhythm::Listens | Rhythm::Sleeps(_) | Rhythm::Away => None,
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
        }
    }

    /// Where a device is taken to be, and how many may upgrade there for it to be one of them.
    fn cell(&self, number: u32, chance: Chance, unmeasured: u32) -> (u32, u32) {
        let like = chance.below(number, Draw::Likeness, self.cells.len());
        let like = self.cells.get(like).copied();
        like.unwrap_or((NO_CELL + number / IN_A_CELL, unmeasured))
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
    /// The device of that number. `tempo` is how long all downloads take against the mean; `around` how far single ones lie from
    /// it.
    pub(super) fn new(
        given: &Given,
        (number, subject): (u32, &Subject),
        (likeness, pace, chance): (&Likeness, &Pace, Chance),
        tempo: f64,
        around: bool,
    ) -> Self {
        let now = instant(given.now);
        let unmeasured = given.config.admission.limit_unmeasured;
        let (cell, limit) = match subject.cell {
            Some(cell) => (cell, subject.limit),
            None => likeness.cell(number, chance, unmeasured),
        };
        let lane = Lane::Cell(cell);
        let period_s = match subject.rhythm {
            Rhythm::Listens | Rhythm::Away => 0,
            Rhythm::Learnt(period_s) => period_s,
            Rhythm::Sleeps(every_s) => likeness.period_s(number, chance).unwrap_or(every_s),
        };
        let period = Duration::from_secs(u64::from(period_s.max(10)));
        let heard_at = subject.heard_at.map(instant);
        let single = if around {
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
        let mut unit = Self {
            lane,
            limit: limit.max(1),
            state: State::Waits,
            attempts: subject.attempts,
            attempts_before: subject.attempts_before,
            lot: None,
            sleeps: matches!(subject.rhythm, Rhythm::Learnt(_) | Rhythm::Sleeps(_)),
            away: subject.rhythm == Rhythm::Away,
            current: subject.current,
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
            left: given.package.bytes,
            tempo: tempo * (1.0 + single),
            round_trip: pace.round_trip(lane, limit),
            ended_at: None,
            since: subject.not_before.max(given.task.start_at),
            begun_at: (subject.attempts > 0).then_some(now),
            taken_back: false,
            downloads: None,
        };
        unit.wakes_at = unit.wakes_after(now, chance.share(number, Draw::Phase));
        unit.stands(subject.place, now);
        unit
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
        self.sleeps && !awake
    }

    /// What the gate is told of it.
    pub(super) fn presence(&self, number: u32, pace: &Pace, given: &Given) -> Presence {
        let admission = &given.config.admission;
        let listening = pace.habits.listening;
        let max_age = Duration::from_secs(admission.coverage_max_age_s);
        let heard_at = self.heard_at.unwrap_or(Instant::ZERO);
        let expected = self.sleeps && self.regular;
        Presence {
            reachable: !self.away,
            sleeps: self.sleeps,
            probing: self.probing,
            awake_until: heard_at + listening.window(),
            nods_at: heard_at + listening.ping_after(number.into()),
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
