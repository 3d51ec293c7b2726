//! A forecast as it is shown.

use std::collections::BTreeMap;

use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    clock::UtcMillis,
    forecast::{Assumed, Count, Forecast, HeldBy, LaneForecast, PhaseForecast, Span},
    runtime::{ForecastJob, ForecastState},
};

/// Cells, sites and gateways that are named: those that are through last.
const NAMED: usize = 100;

/// A forecast, as far as it is.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct ForecastBody {
    /// Its number. Numbers begin anew with the server.
    id: i64,
    /// The task that it is of; `null`: one that was not created.
    #[schema(required)]
    task_id: Option<i64>,
    state: ForecastStateName,
    /// So much of it is made.
    #[schema(minimum = 0, maximum = 1)]
    progress: f64,
    /// When it was asked for.
    #[schema(format = DateTime)]
    asked_at: String,
    /// Why it could not be made.
    #[schema(required)]
    error: Option<String>,
    /// What is forecast, once that is known.
    #[schema(required)]
    result: Option<ForecastResult>,
}

/// How far a forecast is.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum ForecastStateName {
    Queued,
    Running,
    Done,
    Failed,
    Cancelled,
}

/// When a task will be through, and what that takes.
#[derive(Debug, Serialize, ToSchema)]
struct ForecastResult {
    /// When it was made: what was known then counts.
    #[schema(format = DateTime)]
    made_at: String,
    /// Devices without a final outcome then.
    devices: u64,
    /// When the last of them has one.
    finish: SpanBody,
    /// When parts of them have.
    shares: Vec<ForecastShareBody>,
    /// Devices that succeed.
    succeeded: QuantilesBody,
    /// Devices that fail, by reason.
    failed: BTreeMap<String, QuantilesBody>,
    /// Devices that are skipped, by reason: `no_package`, `downgrade`.
    skipped: BTreeMap<&'static str, QuantilesBody>,
    /// Devices that have not begun by `not_after`.
    expired: QuantilesBody,
    /// Devices whose upgrades are cancelled when a threshold of failures stops the task.
    stopped: QuantilesBody,
    /// Devices of which nothing comes within 400 days: in a cell that is closed without end, say.
    unfinished: QuantilesBody,
    /// The first 100 devices that have not begun by `not_after`, or of which nothing comes.
    missed: Vec<String>,
    /// Bytes of packages that devices download, without what is around them.
    bytes: QuantilesBody,
    /// Its phases.
    phases: Vec<PhaseForecastBody>,
    /// Cells in which its devices are.
    cells_total: usize,
    /// The bottlenecks: the 100 cells that are through last, the last first.
    cells: Vec<CellForecastBody>,
    /// Sites that have a limit, in which its devices are.
    sites_total: usize,
    /// The 100 of these that are through last, the last first.
    sites: Vec<SiteForecastBody>,
    /// Gateways through which its devices are reached.
    gateways_total: usize,
    /// The 100 of these that are through last, the last first.
    gateways: Vec<GatewayForecastBody>,
    /// When the task is held by itself, and is taken to be resumed an hour later.
    holds: Vec<HoldForecastBody>,
    /// Up to 100 points of the progress that is expected.
    progress: Vec<ProgressPoint>,
    assumed: AssumedBody,
}

/// A time, as likely later as earlier, and one after which it is with one in ten.
#[derive(Debug, Serialize, ToSchema)]
struct SpanBody {
    /// As likely later as earlier; `null`: it has been, or is never, as far as is known.
    #[schema(required, format = DateTime)]
    p50: Option<String>,
    /// Later with one in ten; `null`: the same.
    #[schema(required, format = DateTime)]
    p90: Option<String>,
}

/// A number in the same sense.
#[derive(Debug, Serialize, ToSchema)]
struct QuantilesBody {
    /// As likely larger as smaller.
    p50: u64,
    /// Larger with one in ten.
    p90: u64,
}

/// When a part of the devices is through.
#[derive(Debug, Serialize, ToSchema)]
struct ForecastShareBody {
    /// So many percent of them.
    percent: u8,
    #[serde(flatten)]
    at: SpanBody,
}

/// A phase.
#[derive(Debug, Serialize, ToSchema)]
struct PhaseForecastBody {
    /// From 1.
    phase: u32,
    /// Its devices without a final outcome.
    devices: u64,
    /// When it begins.
    begins: SpanBody,
    /// When its last device has a final outcome.
    ends: SpanBody,
    /// Devices that have not begun by `not_after`, or of which nothing comes.
    missed: QuantilesBody,
}

/// A cell.
#[derive(Debug, Serialize, ToSchema)]
struct CellForecastBody {
    /// Its number; `null`: no cell of any device is known, and this one stands for some of them.
    #[schema(required)]
    cell: Option<u32>,
    #[serde(flatten)]
    lane: LaneForecastBody,
}

/// A site that has a limit.
#[derive(Debug, Serialize, ToSchema)]
struct SiteForecastBody {
    /// Its name.
    site: String,
    #[serde(flatten)]
    lane: LaneForecastBody,
}

/// A gateway.
#[derive(Debug, Serialize, ToSchema)]
struct GatewayForecastBody {
    /// The name of its own device.
    gateway: String,
    #[serde(flatten)]
    lane: LaneForecastBody,
}

/// What is forecast of a cell, site or gateway.
#[derive(Debug, Serialize, ToSchema)]
struct LaneForecastBody {
    /// Its devices without a final outcome.
    devices: u64,
    /// Of these, so many sleep.
    sleeping: u64,
    /// When its last device has a final outcome.
    ends: SpanBody,
    /// No order of admissions takes less time, seconds.
    lower_bound_seconds: u64,
    held_by: HeldByName,
    /// Devices that have not begun by `not_after`, or of which nothing comes.
    missed: QuantilesBody,
}

/// What a cell, site or gateway waits for most.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum HeldByName {
    /// Its slots: it is hardly ever idle.
    Slots,
    /// Slots of another one: of a site or gateway for the devices of a cell, or the other way round.
    Elsewhere,
    /// Devices that sleep.
    Sleep,
    /// The task: its phases, windows, rate or attempts; or a closing of the cell.
    Task,
}

/// When a task is held by itself.
#[derive(Debug, Serialize, ToSchema)]
struct HoldForecastBody {
    /// Why: `failures`, `phase_done` or `phase_failed`.
    code: String,
    /// How often, at the most.
    times: u64,
    /// In so many of the courses that were played.
    courses: u64,
    /// When for the first time.
    first: SpanBody,
}

/// How many devices have a final outcome at a time.
#[derive(Debug, Serialize, ToSchema)]
struct ProgressPoint {
    /// When.
    #[schema(format = DateTime)]
    at: String,
    /// Devices.
    ended: u64,
}

/// What was taken for granted.
#[derive(Debug, Serialize, ToSchema)]
struct AssumedBody {
    /// Courses that were played.
    courses: u64,
    /// Devices of other tasks that hold slots or wait for them, in the same queues. What of other tasks has not begun is not
    /// among them.
    other_devices: u64,
    /// Devices whose cell is not known: they are spread as the others are.
    cells_drawn: u64,
    /// Devices that sleep, and of which it is not known how often they wake up: as the others do, or at half of their lifetime.
    rhythms_drawn: u64,
    /// Devices that were heard before and are not registered any more: nothing is heard from them.
    away: u64,
    /// Devices that were never heard: they come as the others do, or within about a day where nothing is known of any.
    never_heard: u64,
    /// Devices that report the version already.
    current: u64,
    /// Devices of which it is not known what they run, where the task has several packages: theirs are drawn from the others'.
    packages_drawn: u64,
    /// So many devices a day join the task while it runs, as in the last four weeks: those that are to join want slots too, and are
    /// not counted anywhere here. Not given where nobody may join.
    #[serde(skip_serializing_if = "Option::is_none")]
    joining_per_day: Option<f64>,
    /// How long downloads take, by the devices' limit.
    downloads: Vec<DownloadBody>,
    /// How long devices install, seconds.
    install_seconds: f64,
    /// How long devices that sleep listen after a message, seconds.
    listen_seconds: f64,
    /// So many percent of the devices fail: as so far, or as in earlier tasks of the product.
    failing_percent: f64,
    /// A task that is held by itself is resumed after so long, seconds; an approval is there in time.
    resumed_after_seconds: u64,
}

/// How long downloads take to devices of a limit.
#[derive(Debug, Serialize, ToSchema)]
struct DownloadBody {
    /// How many devices of that coverage may upgrade at once.
    limit: u32,
    /// Seconds for a KiB, where nothing else was measured in the cell.
    seconds_per_kib: f64,
    /// Whether that was measured; otherwise it is what is usual in NB-IoT.
    measured: bool,
}

impl From<&ForecastJob> for ForecastBody {
    fn from(job: &ForecastJob) -> Self {
        let (state, error, result) = match &job.state {
            ForecastState::Queued => (ForecastStateName::Queued, None, None),
            ForecastState::Running => (ForecastStateName::Running, None, None),
            ForecastState::Done(made) => {
                let result = ForecastResult::from(&**made);
                (ForecastStateName::Done, None, Some(result))
            }
            ForecastState::Failed(why) => (ForecastStateName::Failed, Some(why.clone()), None),
            ForecastState::Cancelled => (ForecastStateName::Cancelled, None, None),
        };
        Self {
            id: job.id.0,
            task_id: job.task.map(|task| task.0),
            state,
            progress: f64::from(job.done) / 1_000.0,
            asked_at: job.asked_at.to_string(),
            error,
            result,
        }
    }
}

impl From<&Forecast> for ForecastResult {
    fn from(made: &Forecast) -> Self {
        let shares = made.shares.iter().map(|share| ForecastShareBody {
            percent: share.percent,
            at: share.at.into(),
        });
        let holds = made.holds.iter().map(|hold| HoldForecastBody {
            code: hold.code.to_owned(),
            times: hold.times,
            courses: hold.courses,
            first: hold.first.into(),
        });
        let progress = made.progress.iter().map(|(at, ended)| ProgressPoint {
            at: at.to_string(),
            ended: *ended,
        });
        Self {
            made_at: made.made_at.to_string(),
            devices: made.devices,
            finish: made.finish.into(),
            shares: shares.collect(),
            succeeded: made.succeeded.into(),
            failed: (made.failed.iter())
                .map(|(reason, count)| (reason.clone(), (*count).into()))
                .collect(),
            skipped: (made.skipped.iter())
                .map(|(reason, count)| (*reason, (*count).into()))
                .collect(),
            expired: made.expired.into(),
            stopped: made.stopped.into(),
            unfinished: made.unfinished.into(),
            missed: made.missed.iter().map(ToString::to_string).collect(),
            bytes: made.bytes.into(),
            phases: made.phases.iter().map(Into::into).collect(),
            cells_total: made.cells.len(),
            cells: made.cells.iter().take(NAMED).map(Into::into).collect(),
            sites_total: made.sites.len(),
            sites: made.sites.iter().take(NAMED).map(Into::into).collect(),
            gateways_total: made.gateways.len(),
            gateways: (made.gateways.iter().take(NAMED)).map(Into::into).collect(),
            holds: holds.collect(),
            progress: progress.collect(),
            assumed: (&made.assumed).into(),
        }
    }
}

impl From<Span> for SpanBody {
    fn from(span: Span) -> Self {
        let time = |at: Option<UtcMillis>| at.map(|at| at.to_string());
        Self {
            p50: time(span.p50),
            p90: time(span.p90),
        }
    }
}

impl From<Count> for QuantilesBody {
    fn from(count: Count) -> Self {
        Self {
            p50: count.p50,
            p90: count.p90,
        }
    }
}

impl From<&PhaseForecast> for PhaseForecastBody {
    fn from(phase: &PhaseForecast) -> Self {
        Self {
            phase: phase.phase + 1,
            devices: phase.devices,
            begins: phase.begins.into(),
            ends: phase.ends.into(),
            missed: phase.missed.into(),
        }
    }
}

impl From<&LaneForecast<Option<u32>>> for CellForecastBody {
    fn from(cell: &LaneForecast<Option<u32>>) -> Self {
        Self {
            cell: cell.lane,
            lane: cell.into(),
        }
    }
}

impl From<&LaneForecast<Box<str>>> for SiteForecastBody {
    fn from(site: &LaneForecast<Box<str>>) -> Self {
        Self {
            site: site.lane.to_string(),
            lane: site.into(),
        }
    }
}

impl From<&LaneForecast<Box<str>>> for GatewayForecastBody {
    fn from(gateway: &LaneForecast<Box<str>>) -> Self {
        Self {
            gateway: gateway.lane.to_string(),
            lane: gateway.into(),
        }
    }
}

impl<N> From<&LaneForecast<N>> for LaneForecastBody {
    fn from(lane: &LaneForecast<N>) -> Self {
        Self {
            devices: lane.devices,
            sleeping: lane.sleeping,
            ends: lane.ends.into(),
            lower_bound_seconds: lane.lower_bound_s,
            held_by: match lane.held_by {
                HeldBy::Slots => HeldByName::Slots,
                HeldBy::Elsewhere => HeldByName::Elsewhere,
                HeldBy::Sleep => HeldByName::Sleep,
                HeldBy::Task => HeldByName::Task,
            },
            missed: lane.missed.into(),
        }
    }
}

impl From<&Assumed> for AssumedBody {
    fn from(assumed: &Assumed) -> Self {
        let downloads = assumed
            .per_kib
            .iter()
            .map(|(limit, seconds, measured)| DownloadBody {
                limit: *limit,
                seconds_per_kib: *seconds,
                measured: *measured,
            });
        Self {
            courses: assumed.courses,
            other_devices: assumed.others,
            cells_drawn: assumed.cells_drawn,
            rhythms_drawn: assumed.rhythms_drawn,
            away: assumed.away,
            never_heard: assumed.unheard,
            current: assumed.current,
            packages_drawn: assumed.packages_drawn,
            joining_per_day: assumed.joining_per_day,
            downloads: downloads.collect(),
            install_seconds: assumed.install_s,
            listen_seconds: assumed.listen_s,
            failing_percent: assumed.failing * 100.0,
            resumed_after_seconds: assumed.resumed_after_s,
        }
    }
}
