//! What several courses come to.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use super::{
    Given, Rhythm, Route,
    course::{Course, LaneCourse, NAMED, PhaseCourse},
    pace::Pace,
    play::RESUMED_AFTER,
    unit::utc,
};
use crate::{
    clock::{Instant, UtcMillis},
    ledger::Lane,
};

/// Parts of the devices of which it is said when they are through, percent.
const PERCENTS: [u8; 6] = [10, 25, 50, 75, 90, 99];
/// Points of the progress that is expected.
const POINTS: usize = 100;

/// When a task will be through, and what that takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Forecast {
    /// When it was made.
    pub made_at: UtcMillis,
    /// Devices without a final outcome then.
    pub devices: u64,
    /// When the last of them has one.
    pub finish: Span,
    /// When parts of them have.
    pub shares: Vec<Share>,
    /// Devices that succeed.
    pub succeeded: Count,
    /// Devices that fail, by reason.
    pub failed: BTreeMap<String, Count>,
    /// Devices that are skipped, by reason.
    pub skipped: BTreeMap<&'static str, Count>,
    /// Devices that have not begun by the last time.
    pub expired: Count,
    /// Devices whose upgrade is cancelled when the task stops by itself.
    pub stopped: Count,
    /// Devices of which nothing comes within 400 days.
    pub unfinished: Count,
    /// The first 100 of those that have not begun by the last time, or of which nothing comes.
    pub missed: Vec<Box<str>>,
    /// Bytes of packages that devices download.
    pub bytes: Count,
    /// Its phases.
    pub phases: Vec<PhaseForecast>,
    /// Its cells, those that are through last first. `None`: no cell of any device is known, and it stands for some of them.
    pub cells: Vec<LaneForecast<Option<u32>>>,
    /// Its sites that have a limit, in the same order.
    pub sites: Vec<LaneForecast<Box<str>>>,
    /// Its gateways, in the same order.
    pub gateways: Vec<LaneForecast<Box<str>>>,
    /// When it will be held by itself.
    pub holds: Vec<HoldForecast>,
    /// How many devices have a final outcome at which time, in the middle course.
    pub progress: Vec<(UtcMillis, u64)>,
    /// What was taken for granted.
    pub assumed: Assumed,
}

/// A time, as likely later as earlier, and one after which it is with one in ten. `None`: never, as far as is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Span {
    /// With one in two it is earlier.
    pub p50: Option<UtcMillis>,
    /// With nine in ten it is earlier.
    pub p90: Option<UtcMillis>,
}

/// A number in the same sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Count {
    /// With one in two it is smaller.
    pub p50: u64,
    /// With nine in ten it is smaller.
    pub p90: u64,
}

/// When a part of the devices is through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    /// So many percent of them.
    pub percent: u8,
    /// When.
    pub at: Span,
}

/// A phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PhaseForecast {
    /// From 0.
    pub phase: u32,
    /// Its devices that have no final outcome.
    pub devices: u64,
    /// When it begins; `None` where it has begun, or never does.
    pub begins: Span,
    /// When its last device has a final outcome.
    pub ends: Span,
    /// Devices that do not make it.
    pub missed: Count,
}

/// A cell, site or gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneForecast<N> {
    /// Its number or name.
    pub lane: N,
    /// Its devices that have no final outcome.
    pub devices: u64,
    /// Of these, so many sleep.
    pub sleeping: u64,
    /// When its last device has a final outcome.
    pub ends: Span,
    /// No order of admissions takes less time, seconds.
    pub lower_bound_s: u64,
    /// What it waits for most.
    pub held_by: HeldBy,
    /// Devices that do not make it.
    pub missed: Count,
}

/// What a cell, site or gateway waits for most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldBy {
    /// Its slots: it is never idle.
    Slots,
    /// Slots of another lane of its devices: a cell for those of a site or gateway, or the other way round.
    Elsewhere,
    /// Devices that sleep.
    Sleep,
    /// The task: its phases, windows, rate or attempts; or a closing of the cell.
    Task,
}

/// When the task is held by itself: it is taken to be resumed an hour later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HoldForecast {
    /// Why: a code of [`crate::task::HoldReason`].
    pub code: &'static str,
    /// How often, at the most.
    pub times: u64,
    /// In so many of the courses.
    pub courses: u64,
    /// When for the first time.
    pub first: Span,
}

/// What was taken for granted.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Assumed {
    /// Courses that were played.
    pub courses: u64,
    /// Devices of other tasks that have begun, and are in the same queues.
    pub others: u64,
    /// Devices whose cell is drawn from those of the others.
    pub cells_drawn: u64,
    /// Devices that sleep, and whose rhythm is drawn from those of the others, or half of their lifetime.
    pub rhythms_drawn: u64,
    /// Devices that were heard before and are not registered any more: nothing is heard from them.
    pub away: u64,
    /// Devices that were never heard: they come as the others do, or within a day where nothing is known of any.
    pub unheard: u64,
    /// Devices that have the version already.
    pub current: u64,
    /// Devices of which it is not known what they run, where there are several packages: theirs are drawn from those of the others.
    pub packages_drawn: u64,
    /// So many devices a day join the task while it runs; `None` where nobody may.
    pub joining_per_day: Option<f64>,
    /// For how many seconds a KiB is downloaded, by limit; and whether that was measured.
    pub per_kib: Vec<(u32, f64, bool)>,
    /// How long devices install, seconds.
    pub install_s: f64,
    /// How long they listen after a message, seconds.
    pub listen_s: f64,
    /// So large a part of the devices fails, 0 to 1.
    pub failing: f64,
    /// A task that is held is taken to be resumed after so many seconds.
    pub resumed_after_s: u64,
}

impl Forecast {
    pub(super) fn of(given: &Given, courses: &[Course]) -> Self {
        let count = |of: &dyn Fn(&Course) -> u64| Count::of(courses.iter().map(of));
        let reasons: BTreeSet<&String> = courses.iter().flat_map(|it| it.failed.keys()).collect();
        let failed = reasons.into_iter().map(|reason| {
            let failures = |it: &Course| it.failed.get(reason).copied().unwrap_or(0);
            (reason.clone(), count(&failures))
        });
        let reasons: BTreeSet<&'static str> = (courses.iter())
            .flat_map(|it| it.skipped.keys().copied())
            .collect();
        let skipped = reasons.into_iter().map(|reason| {
            let skips = |it: &Course| it.skipped.get(reason).copied().unwrap_or(0);
            (reason, count(&skips))
        });
        let middle = courses.get(courses.len() / 2);
        let named = (middle.into_iter().flat_map(|it| &it.missed))
            .filter_map(|number| given.devices.get(*number as usize));
        Self {
            made_at: given.now,
            devices: given.devices.len() as u64,
            finish: Span::of(courses.iter().map(|it| it.finish)),
            shares: shares(given, courses),
            succeeded: count(&|it| it.succeeded),
            failed: failed.collect(),
            skipped: skipped.collect(),
            expired: count(&|it| it.expired),
            stopped: count(&|it| it.stopped),
            unfinished: count(&|it| it.unfinished),
            missed: named.map(|it| it.endpoint.clone()).take(NAMED).collect(),
            bytes: count(&|it| it.bytes),
            phases: phases(courses),
            cells: lanes(courses, |lane| match lane {
                // others stand for those that are not known
                Lane::Cell(number) => Some(Some(number).filter(|number| *number < 1 << 30)),
                Lane::Site(_) | Lane::Gateway(_) => None,
            }),
            sites: lanes(courses, |lane| match lane {
                Lane::Site(_) => given.lanes.name(lane).map(Into::into),
                Lane::Cell(_) | Lane::Gateway(_) => None,
            }),
            gateways: lanes(courses, |lane| match lane {
                Lane::Gateway(_) => given.lanes.name(lane).map(Into::into),
                Lane::Cell(_) | Lane::Site(_) => None,
            }),
            holds: holds(courses),
            progress: middle.map_or_else(Vec::new, |it| points(&it.ends)),
            assumed: Assumed::of(given, courses.len() as u64),
        }
    }
}

impl Span {
    fn of(times: impl Iterator<Item = Option<Instant>>) -> Self {
        let mut times: Vec<Instant> = times.map(|at| at.unwrap_or(Instant::MAX)).collect();
        times.sort_unstable();
        let time = |at: usize| {
            let at = times.get(at).copied();
            at.filter(|at| *at < Instant::MAX).map(utc)
        };
        Self {
            p50: time(times.len() / 2),
            p90: time(times.len().saturating_sub(1)),
        }
    }
}

impl Count {
    fn of(counts: impl Iterator<Item = u64>) -> Self {
        let mut counts: Vec<u64> = counts.collect();
        counts.sort_unstable();
        Self {
            p50: counts.get(counts.len() / 2).copied().unwrap_or(0),
            p90: counts.last().copied().unwrap_or(0),
        }
    }
}

fn shares(given: &Given, courses: &[Course]) -> Vec<Share> {
    let all = given.devices.len();
    let shares = PERCENTS.into_iter().map(|percent| {
        let nth = (all * usize::from(percent)).div_ceil(100).saturating_sub(1);
        Share {
            percent,
            at: Span::of(courses.iter().map(|it| it.ends.get(nth).copied())),
        }
    });
    shares.filter(|_| all > 0).collect()
}

fn phases(courses: &[Course]) -> Vec<PhaseForecast> {
    let most = courses.iter().map(|it| it.phases.len()).max().unwrap_or(0);
    let phases = (0..most).map(|number| {
        let all = || courses.iter().filter_map(move |it| it.phases.get(number));
        let span = |of: fn(&PhaseCourse) -> Option<Instant>| Span::of(all().map(of));
        PhaseForecast {
            phase: u32::try_from(number).unwrap_or(u32::MAX),
            devices: all().map(|it| it.devices).max().unwrap_or(0),
            begins: span(|it| it.began),
            ends: span(|it| it.ended),
            missed: Count::of(all().map(|it| it.missed)),
        }
    });
    phases.collect()
}

/// Those that have a name, the last one first.
fn lanes<N: Ord>(courses: &[Course], name: impl Fn(Lane) -> Option<N>) -> Vec<LaneForecast<N>> {
    let all = courses.iter().flat_map(|it| it.lanes.keys().copied());
    let all: BTreeSet<Lane> = all.collect();
    let named = all.into_iter().filter_map(|lane| Some((lane, name(lane)?)));
    let mut lanes: Vec<LaneForecast<N>> = named
        .map(|(lane, name)| LaneForecast::of(courses, lane, name))
        .collect();
    let last = |it: &LaneForecast<N>| it.ends.p50.map_or(i64::MAX, |at| at.0);
    lanes.sort_by(|a, b| {
        let order = |it: &LaneForecast<N>| Reverse((last(it), it.missed.p50));
        (order(a), &a.lane).cmp(&(order(b), &b.lane))
    });
    lanes
}

impl<N> LaneForecast<N> {
    fn of(courses: &[Course], lane: Lane, name: N) -> Self {
        let all = || courses.iter().filter_map(move |it| it.lanes.get(&lane));
        let middle = |of: fn(&LaneCourse) -> u64| Count::of(all().map(of)).p50;
        let missed = Count::of(all().map(|it| it.missed));
        let (bound_ms, took_ms) = (middle(|it| it.bound_ms), middle(|it| it.took_ms));
        let sleeping = middle(|it| it.sleeping);
        let ends = if missed.p50 > 0 && all().all(|it| it.ended.is_none()) {
            Span::default()
        } else {
            Span::of(all().map(|it| it.ended))
        };
        Self {
            lane: name,
            devices: middle(|it| it.devices),
            sleeping,
            ends,
            lower_bound_s: bound_ms / 1_000,
            held_by: if bound_ms > took_ms / 5 * 4 {
                HeldBy::Slots
            } else if middle(|it| it.elsewhere.into()) > 0 {
                HeldBy::Elsewhere
            } else if sleeping > 0 {
                HeldBy::Sleep
            } else {
                HeldBy::Task
            },
            missed,
        }
    }
}

fn holds(courses: &[Course]) -> Vec<HoldForecast> {
    let codes: BTreeSet<&'static str> = (courses.iter())
        .flat_map(|it| it.held.iter().map(|(_, code)| *code))
        .collect();
    let hold = |code: &'static str| {
        let of = |it: &Course| it.held.iter().filter(|(_, it)| *it == code).count() as u64;
        let first = |it: &Course| {
            it.held
                .iter()
                .find(|(_, it)| *it == code)
                .map(|(at, _)| *at)
        };
        let happens: Vec<&Course> = courses.iter().filter(|it| of(it) > 0).collect();
        HoldForecast {
            code,
            times: courses.iter().map(of).max().unwrap_or(0),
            courses: happens.len() as u64,
            first: Span::of(happens.into_iter().map(first)),
        }
    };
    codes.into_iter().map(hold).collect()
}

/// So many points of a progress as anybody could want to draw.
fn points(ends: &[Instant]) -> Vec<(UtcMillis, u64)> {
    let mut points: Vec<(UtcMillis, u64)> = Vec::new();
    let last = ends.len();
    for point in 1..=POINTS.min(last) {
        let ended = last * point / POINTS.min(last);
        if let Some(at) = ends.get(ended - 1) {
            points.push((utc(*at), ended as u64));
        }
    }
    points
}

impl Assumed {
    fn of(given: &Given, courses: u64) -> Self {
        let pace = Pace::new(given);
        let count = |of: &dyn Fn(&super::Subject) -> bool| {
            given.devices.iter().filter(|it| of(it)).count() as u64
        };
        let known = given.devices.iter().filter(|it| it.cell.is_some());
        let mut limits: BTreeSet<u32> = known.map(|it| it.limit).collect();
        if limits.is_empty() {
            let admission = &given.config.admission;
            let usual = [
                admission.limit_good,
                admission.limit_fair,
                admission.limit_weak,
            ];
            limits.extend(usual);
        }
        let per_kib = limits.into_iter().map(|limit| {
            // in a cell of which nothing was learnt, it is what was measured everywhere
            let download = pace.download(Lane::Cell(u32::MAX), limit, 1_024);
            (limit, download.as_secs_f64(), pace.is_measured(limit))
        });
        Self {
            courses,
            others: given.others.len() as u64,
            cells_drawn: count(&|it| it.cell.is_none()),
            rhythms_drawn: count(&|it| matches!(it.rhythm, Rhythm::Sleeps(_))),
            away: count(&|it| it.rhythm == Rhythm::Away),
            unheard: count(&|it| it.rhythm == Rhythm::Unheard),
            current: count(&|it| {
                let route = it.route.map(|route| given.routes.get(route));
                route.is_some_and(Route::is_current)
            }),
            packages_drawn: count(&|it| it.route.is_none() && given.routes.are_several()),
            joining_per_day: given.joining_per_day,
            per_kib: per_kib.collect(),
            install_s: pace.habits.install().as_secs_f64(),
            listen_s: pace.habits.listening.window().as_secs_f64(),
            failing: given
                .failures
                .iter()
                .fold(0.0, |all, (_, share)| all + share),
            resumed_after_s: RESUMED_AFTER.as_secs(),
        }
    }
}
