//! How a task is run, as the API takes and shows it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    api::{
        extract::{optional_whole, whole},
        problem::{FieldError, Problem},
    },
    clock::UtcMillis,
    filter::Filter,
    task::{
        AbortAction, Budget, Confirmation, MAX_PHASES, Membership, PhaseRule, Rate, Results,
        TaskRules, Then, Threshold, Verdict, Windows, WindowsForm,
    },
};

/// A phase of a task to be created. Give `filter`, `percent` or `count`; the last phase may have none of them, and then has all
/// devices that are left. Devices that no phase has named are in one more phase at the end.
#[derive(Debug, Clone, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PhaseBody {
    /// Of the devices of the task that no phase before has, those that this lets through when the task is created: RSQL, up to
    /// 4,096 characters (docs/fleet-and-filters.md). The filters of all phases have up to 16,384 characters together.
    #[schema(max_length = 4096, format = "rsql", example = "site==depot-4")]
    filter: Option<String>,
    /// Of all devices of the task so many percent, above 0; drawn by lot.
    #[schema(exclusive_minimum = 0, maximum = 100, example = 1)]
    percent: Option<f64>,
    /// So many devices, drawn by lot.
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 1)]
    count: Option<i64>,
    /// Of its devices with a result so many percent have to have succeeded, before the next phase begins; 100 when not given.
    #[schema(minimum = 0, maximum = 100, example = 95)]
    success_percent: Option<f64>,
    /// So many devices have to have a result before the next phase begins; all of the phase when not given.
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 1, example = 20)]
    min_results: Option<i64>,
    /// So long after its upgrade, seconds, a device counts as a success, when it tells then that it still runs the version; 0 when not
    /// given: at once. Of the last phase it is told and decides nothing.
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 0, maximum = 2_592_000, example = 86_400)]
    soak_seconds: Option<u32>,
    /// What follows when that has come true: `next`, the next phase; `wait`, somebody resumes the task. `next` when not given.
    then: Option<ThenName>,
}

/// What follows a phase.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ThenName {
    Next,
    Wait,
}

/// Who confirms each upgrade: `device_owner`, by way of whoever asks him.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ConfirmationName {
    DeviceOwner,
}

impl From<ConfirmationName> for Confirmation {
    fn from(ConfirmationName::DeviceOwner: ConfirmationName) -> Self {
        Self::DeviceOwner
    }
}

impl From<Confirmation> for ConfirmationName {
    fn from(Confirmation::DeviceOwner: Confirmation) -> Self {
        Self::DeviceOwner
    }
}

/// So many failures, and what follows. Give `percent` or `count`.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ThresholdBody {
    /// Of the devices with a result so many percent have failed, or more.
    #[schema(exclusive_minimum = 0, maximum = 100, example = 10)]
    percent: Option<f64>,
    /// So many devices have failed, or more.
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 1)]
    count: Option<i64>,
    /// Not before so many devices have a result; 1 when not given.
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 1, example = 20)]
    min_results: Option<i64>,
    /// Only failures for these reasons count; those for any when not given.
    #[schema(example = json!(["upgrade_failed", "wrong_version"]))]
    reasons: Option<Vec<String>>,
    /// What follows; `pause` when not given.
    action: Option<ActionName>,
}

/// What follows too many failures.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ActionName {
    /// No further upgrade begins until somebody resumes the task. What runs goes on.
    Pause,
    /// The task is stopped.
    Stop,
}

/// How fast upgrades begin, above what admission lets through.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RateBody {
    /// Beginnings a minute. There are never more in any minute.
    #[serde(deserialize_with = "whole")]
    #[schema(minimum = 1, maximum = 1_000_000, example = 60)]
    per_minute: u32,
    /// By which it grows for each `each` successes; 1 when not given.
    #[schema(minimum = 1, maximum = 1000, example = 2)]
    factor: Option<f64>,
    /// Successes for each of which it grows. Has to be given with a factor above 1.
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 1, example = 100)]
    each: Option<i64>,
    /// It grows up to this, beginnings a minute.
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 1, maximum = 1_000_000, example = 600)]
    most_per_minute: Option<u32>,
}

/// When upgrades may begin.
#[derive(ToSchema)]
#[schema(as = Windows)]
#[expect(dead_code, reason = "stands in the description only")]
pub(super) struct WindowsBody {
    /// The windows, 50 at most.
    #[schema(min_items = 1, max_items = 50)]
    windows: Vec<WindowBody>,
    /// The time zone: an IANA name, such as `Europe/Berlin`, or `device` for each device's own.
    #[schema(example = "Europe/Berlin")]
    zone: String,
    /// Of devices that have no time zone of their own, with `device`; `UTC` when not given.
    fallback_zone: Option<String>,
    /// Local dates on which no window begins, 400 at most.
    #[schema(max_items = 400, example = json!(["2027-12-25"]))]
    holidays: Option<Vec<String>>,
    /// What becomes of upgrades that run at the end of a window: `finish`, they go on; `take_back`, what is not commanded to install
    /// is taken back and begins again in the next one. `finish` when not given.
    #[schema(pattern = "^(finish|take_back)$", example = "finish")]
    at_end: Option<String>,
}

/// A time of day in which upgrades may begin.
#[derive(ToSchema)]
#[schema(as = Window)]
#[expect(dead_code, reason = "stands in the description only")]
pub(super) struct WindowBody {
    /// The days on which it begins: `mon` to `sun`, each once; every day when not given.
    #[schema(max_items = 7, example = json!(["mon", "tue"]))]
    days: Option<Vec<String>>,
    /// When it begins, local time.
    #[schema(pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$", example = "22:00")]
    from: String,
    /// When it ends, local time; on the next day, if that is not later.
    #[schema(pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$", example = "05:00")]
    to: String,
}

/// What a request says of how a task is run.
#[derive(Debug, Default)]
pub(super) struct Said {
    pub(super) phases: Option<Vec<PhaseBody>>,
    pub(super) stratified: bool,
    pub(super) abort: Option<Vec<ThresholdBody>>,
    pub(super) rate: Option<RateBody>,
    pub(super) windows: Option<WindowsForm>,
    pub(super) not_after: Option<String>,
    pub(super) approval: bool,
    pub(super) confirmation: Option<Confirmation>,
    pub(super) budget: Option<Budget>,
    pub(super) membership: Membership,
    pub(super) priority: Option<i64>,
    pub(super) weight: Option<i64>,
}

impl Said {
    /// The rules, if they can be had.
    pub(super) fn rules(self, start_at: UtcMillis) -> Result<TaskRules, Problem> {
        let not_after = self.not_after.as_deref().map(parse_time).transpose();
        let rules = TaskRules {
            phases: parse_phases(self.phases)?,
            stratified: self.stratified,
            abort: self.abort.into_iter().flatten().map(Into::into).collect(),
            rate: self.rate.map(Into::into),
            windows: self.windows.map(parse_windows).transpose()?,
            not_after: not_after.map_err(|detail| Problem::field("not_after", detail))?,
            approval: self.approval,
            confirmation: self.confirmation,
            budget: self.budget,
            membership: self.membership,
            priority: self.priority.map(priority),
            weight: self.weight.map(weight),
        };
        checked(rules, start_at)
    }
}

/// The rules, if nothing is wrong with them.
pub(super) fn checked(rules: TaskRules, start_at: UtcMillis) -> Result<TaskRules, Problem> {
    let errors = rules.check(start_at);
    if errors.is_empty() {
        return Ok(rules);
    }
    let errors = errors.into_iter();
    let errors = errors.map(|error| FieldError::new(error.field, error.detail));
    Err(Problem::fields(errors.collect()))
}

pub(in crate::api) fn parse_time(text: &str) -> Result<UtcMillis, String> {
    let at = text.parse::<jiff::Timestamp>();
    at.map(|at| UtcMillis(at.as_millisecond()))
        .map_err(|error| format!("not a time of the form 2027-03-01T02:00:00Z (RFC 3339): {error}"))
}

/// Phases, if their filters can be understood.
pub(super) fn parse_phases(bodies: Option<Vec<PhaseBody>>) -> Result<Vec<PhaseRule>, Problem> {
    let mut errors = Vec::new();
    let mut phases = Vec::new();
    let bodies = bodies.unwrap_or_default();
    if bodies.len() > MAX_PHASES {
        // what is too much is not looked at one by one: the answer would be as long
        let detail = format!("at most {MAX_PHASES} are possible");
        return Err(Problem::field("phases", detail));
    }
    for (i, body) in bodies.into_iter().enumerate() {
        let filter = body.filter.as_deref().map(Filter::parse).transpose();
        let filter = filter.unwrap_or_else(|error| {
            errors.push(FieldError::new(
                format!("phases[{i}].filter"),
                error.to_string(),
            ));
            None
        });
        phases.push(body.rule(filter));
    }
    if errors.is_empty() {
        return Ok(phases);
    }
    Err(Problem::fields(errors))
}

/// Windows, if they can be had.
pub(super) fn parse_windows(form: WindowsForm) -> Result<Windows, Problem> {
    Windows::try_from(form)
        .map_err(|error| Problem::field(&format!("windows.{}", error.place), error.fault))
}

/// One that there is not is refused by the rules.
pub(super) fn priority(number: i64) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

/// The same.
pub(super) fn weight(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

/// A number that has to be positive; one that is not is refused by the rules.
fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

impl PhaseBody {
    /// The phase, with its filter as it is understood.
    fn rule(self, filter: Option<Filter>) -> PhaseRule {
        PhaseRule {
            filter,
            percent: self.percent,
            count: self.count.map(count),
            success_percent: self.success_percent,
            min_results: self.min_results.map(count),
            soak_seconds: self.soak_seconds.unwrap_or(0),
            then: match self.then {
                Some(ThenName::Wait) => Then::Wait,
                Some(ThenName::Next) | None => Then::Next,
            },
        }
    }
}

impl From<ThresholdBody> for Threshold {
    fn from(body: ThresholdBody) -> Self {
        Self {
            percent: body.percent,
            count: body.count.map(count),
            min_results: body.min_results.map_or(1, count),
            reasons: body.reasons.unwrap_or_default(),
            action: match body.action {
                Some(ActionName::Stop) => AbortAction::Stop,
                Some(ActionName::Pause) | None => AbortAction::Pause,
            },
        }
    }
}

impl From<&Threshold> for ThresholdBody {
    fn from(threshold: &Threshold) -> Self {
        Self {
            percent: threshold.percent,
            count: threshold.count.map(u64::cast_signed),
            min_results: Some(threshold.min_results.cast_signed()),
            reasons: Some(threshold.reasons.clone()),
            action: Some(match threshold.action {
                AbortAction::Pause => ActionName::Pause,
                AbortAction::Stop => ActionName::Stop,
            }),
        }
    }
}

impl From<RateBody> for Rate {
    fn from(body: RateBody) -> Self {
        Self {
            per_minute: body.per_minute,
            factor: body.factor.unwrap_or(1.0),
            each: body.each.map(count),
            most_per_minute: body.most_per_minute,
        }
    }
}

impl From<Rate> for RateBody {
    fn from(rate: Rate) -> Self {
        Self {
            per_minute: rate.per_minute,
            factor: Some(rate.factor),
            each: rate.each.map(u64::cast_signed),
            most_per_minute: rate.most_per_minute,
        }
    }
}

/// A phase of a task, and what came of it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PhaseStandBody {
    /// Its number, from 1.
    phase: usize,
    /// `done`, `running`, or `waiting` for the phases before it.
    state: &'static str,
    /// The filter of its devices, as it was understood.
    #[schema(required)]
    filter: Option<String>,
    /// Of all devices so many percent, as it was given.
    #[schema(required)]
    percent: Option<f64>,
    /// So many devices, as it was given.
    #[schema(required)]
    count: Option<u64>,
    /// Of its devices with a result so many percent have to have succeeded.
    success_percent: f64,
    /// So many devices have to have a result; `null`: all of the phase.
    #[schema(required)]
    min_results: Option<u64>,
    /// So long after its upgrade a device that is in health counts as a success, seconds; 0: at once.
    soak_seconds: u32,
    /// What follows.
    then: ThenName,
    /// Its devices, but for those whose upgrade was cancelled.
    total: u64,
    /// Upgrades that wait.
    waiting: u64,
    /// Upgrades that run.
    running: u64,
    /// Upgrades that succeeded.
    succeeded: u64,
    /// Upgrades that failed.
    failed: u64,
    /// Of those that succeeded, devices of which it is not known yet whether they are in health.
    soaking: u64,
    /// Of those that succeeded, devices that told the version after the soak.
    healthy: u64,
    /// Of those that succeeded, devices that told another version, or none.
    unhealthy: u64,
    /// Whether it has come true: `null` while too few devices have a result.
    #[schema(required)]
    passed: Option<bool>,
}

/// The phases of a task, the one that runs from 0.
pub(super) fn phases(rules: &TaskRules, running: u32, results: &[Results]) -> Vec<PhaseStandBody> {
    let none = Results::default();
    let phases = (0_u32..).take(rules.phase_count());
    let phases = phases.map(|phase| {
        // one that no device was left for has no results
        let (rule, results) = (
            rules.phase(phase),
            results.get(phase as usize).unwrap_or(&none),
        );
        let failed = results.failed();
        PhaseStandBody {
            phase: phase as usize + 1,
            state: match phase.cmp(&running) {
                std::cmp::Ordering::Less => "done",
                std::cmp::Ordering::Equal => "running",
                std::cmp::Ordering::Greater => "waiting",
            },
            filter: rule.filter.as_ref().map(ToString::to_string),
            percent: rule.percent,
            count: rule.count,
            success_percent: rule.success_percent.unwrap_or(100.0),
            min_results: rule.min_results,
            soak_seconds: rule.soak_seconds,
            then: match rule.then {
                Then::Next => ThenName::Next,
                Then::Wait => ThenName::Wait,
            },
            total: results.waiting + results.running + results.succeeded + failed,
            waiting: results.waiting,
            running: results.running,
            succeeded: results.succeeded,
            failed,
            soaking: results.soaking(rule),
            healthy: results.healthy,
            unhealthy: results.unhealthy,
            passed: match results.verdict(rule) {
                // nor is there anything to say of a phase that nobody is in
                Verdict::Open { .. } | Verdict::Failed { results: 0, .. } => None,
                Verdict::Passed => Some(true),
                Verdict::Failed { .. } => Some(false),
            },
        }
    });
    phases.collect()
}
