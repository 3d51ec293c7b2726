//! How a task is run: what it says besides its package and its devices. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{
    AtEnd, Budget, MAX_BUDGET_AIRTIME_S, MAX_BUDGET_BYTES, MAX_PRIORITY, MAX_WEIGHT, Membership,
    WindowState, WindowZone, Windows, time_zone,
};
use crate::{
    clock::UtcMillis,
    filter::Filter,
    ledger::{Outcome, TakeBack},
};

/// Phases of a task.
pub const MAX_PHASES: usize = 100;
/// Phases of a task that is stratified.
const MAX_STRATIFIED: usize = 20;
/// Characters in the filters of all phases together.
const MAX_FILTERS: usize = 16_384;
/// Thresholds of a task.
const MAX_THRESHOLDS: usize = 20;
/// The fastest that a rate may be, beginnings a minute.
const MAX_RATE: u32 = 1_000_000;
/// So much of a wrong word is repeated.
const QUOTED: usize = 40;
/// The longest soak, seconds: 30 days.
const MAX_SOAK_S: u32 = 30 * 24 * 3_600;

/// How a task is run. Without a word of it, all of its devices begin when it starts.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TaskRules {
    /// Its phases, in their order; without any, all devices are one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<PhaseRule>,
    /// Whether models, versions, classes of coverage and cells are represented in a phase that is drawn as they are in the whole.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub stratified: bool,
    /// Thresholds of failures at which it pauses or stops by itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub abort: Vec<Threshold>,
    /// How fast upgrades begin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// When upgrades may begin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub windows: Option<Windows>,
    /// What has not begun by then is not done any more.
    #[serde(
        with = "crate::clock::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub not_after: Option<UtcMillis>,
    /// Whether somebody has to approve it before it starts.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub approval: bool,
    /// Whether somebody has to confirm each upgrade before it begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub confirmation: Option<Confirmation>,
    /// What a device may spend in a month; one that has not enough left waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<Budget>,
    /// Whether devices join it that come to fit after it was created.
    #[serde(skip_serializing_if = "Membership::is_snapshot")]
    pub membership: Membership,
    /// Where it stands before other tasks, 0 to [`MAX_PRIORITY`]; as [`Share::default`](super::Share) has it when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// What it has of the slots of a cell beside tasks of its priority, 1 to [`MAX_WEIGHT`]; 1 when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
}

impl TaskRules {
    /// Whether they say anything else besides where the task stands beside others: its priority and its weight.
    pub fn differ_in_more_than_share(&self, before: &Self) -> bool {
        let shared = Self {
            priority: self.priority,
            weight: self.weight,
            ..before.clone()
        };
        shared != *self
    }
}

/// A phase: which devices, and what has to come of them before the next one begins. Of `filter`, `percent` and `count` one is
/// given, or none: then it has all devices that are left.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PhaseRule {
    /// Of the devices that no phase before has, those that this lets through when the task is created.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<Filter>,
    /// Of all devices of the task, above 0, 100 at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<f64>,
    /// So many devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Of its devices that have a result, so many percent have to have succeeded: 0 to 100, 100 when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub success_percent: Option<f64>,
    /// So many devices have to have a result; all of the phase when not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_results: Option<u64>,
    /// So long after its upgrade a device that is in health counts as a success, seconds; 0: at once.
    #[serde(skip_serializing_if = "is_zero")]
    pub soak_seconds: u32,
    /// What follows when that has come true.
    pub then: Then,
}

/// Who confirms each upgrade.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confirmation {
    /// The owner of the device, by way of whoever asks him.
    DeviceOwner,
}

/// What follows a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Then {
    /// The next phase.
    #[default]
    Next,
    /// Somebody has a look, and says `next`.
    Wait,
}

/// So many failures, and what follows. Of `percent` and `count` one is given.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Threshold {
    /// Of the devices with a result so many percent have failed, or more: above 0, 100 at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<f64>,
    /// So many devices have failed, or more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// Not before so many devices have a result; 1 at least.
    #[serde(default = "one_result")]
    pub min_results: u64,
    /// Failures for these reasons count; for any when there are none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<String>,
    /// What follows.
    pub action: AbortAction,
}

/// What follows too many failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AbortAction {
    /// No further upgrade begins until somebody resumes the task. What runs goes on.
    #[default]
    Pause,
    /// The task is stopped.
    Stop,
}

/// How fast upgrades begin, above what admission lets through.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Beginnings a minute, 1 to 1,000,000.
    pub per_minute: u32,
    /// By which it grows for each `each` successes; 1 and above.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub factor: f64,
    /// Successes, for each of which it grows; 1 and above.
    #[serde(default = "every", skip_serializing_if = "Option::is_none")]
    pub each: Option<u64>,
    /// It grows up to this, beginnings a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub most_per_minute: Option<u32>,
}

const fn one() -> f64 {
    1.0
}

const fn one_result() -> u64 {
    1
}

const fn every() -> Option<u64> {
    None
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_one(factor: &f64) -> bool {
    (*factor - 1.0).abs() < f64::EPSILON
}

/// What is wrong with the rules of a task: the field, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleError {
    /// Its name, such as `phases[2].percent`.
    pub field: String,
    /// What is wrong, and what is possible.
    pub detail: String,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.detail)
    }
}

/// Collects what is wrong.
#[derive(Default)]
struct Errors(Vec<RuleError>);

impl Errors {
    fn check(&mut self, ok: bool, field: impl fmt::Display, detail: impl fmt::Display) {
        if !ok {
            self.0.push(RuleError {
                field: field.to_string(),
                detail: detail.to_string(),
            });
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_zero(seconds: &u32) -> bool {
    *seconds == 0
}

fn is_percent(percent: f64) -> bool {
    percent > 0.0 && percent <= 100.0
}

impl TaskRules {
    /// What is wrong with them; nothing, if they can be had.
    pub fn check(&self, start_at: UtcMillis) -> Vec<RuleError> {
        let mut errors = Errors::default();
        self.check_phases(&mut errors);
        let many = format!("at most {MAX_THRESHOLDS} are possible");
        errors.check(self.abort.len() <= MAX_THRESHOLDS, "abort", many);
        // what is too much is not looked at one by one: the answer would be as long
        for (i, threshold) in self.abort.iter().enumerate().take(MAX_THRESHOLDS) {
            threshold.check(i, &mut errors);
        }
        if let Some(rate) = self.rate {
            rate.check(&mut errors);
        }
        if let Some(budget) = self.budget {
            budget_errors(budget, &mut errors);
        }
        if let Some(not_after) = self.not_after {
            let detail = format!("{not_after} is before the task starts, at {start_at}");
            errors.check(not_after > start_at, "not_after", detail);
        }
        errors.check(
            self.priority.is_none_or(|it| it <= MAX_PRIORITY),
            "priority",
            format!("0 to {MAX_PRIORITY} are possible"),
        );
        errors.check(
            self.weight.is_none_or(|it| (1..=MAX_WEIGHT).contains(&it)),
            "weight",
            format!("1 to {MAX_WEIGHT} are possible"),
        );
        errors.0
    }

    fn check_phases(&self, errors: &mut Errors) {
        let many = format!("at most {MAX_PHASES} are possible");
        errors.check(self.phases.len() <= MAX_PHASES, "phases", many);
        let ok = !self.stratified || (1..=MAX_STRATIFIED).contains(&self.phases.len());
        let detail = format!("only a task of 1 to {MAX_STRATIFIED} phases can be stratified");
        errors.check(ok, "stratified", detail);
        let (mut percent, mut characters) = (0.0, 0);
        for (i, phase) in self.phases.iter().enumerate().take(MAX_PHASES) {
            phase.check(i, i + 1 == self.phases.len(), errors);
            percent += phase.percent.unwrap_or(0.0);
            let filter = phase.filter.as_ref().map(ToString::to_string);
            characters += filter.map_or(0, |filter| filter.chars().count());
        }
        errors.check(
            characters <= MAX_FILTERS,
            "phases",
            format!("their filters have {characters} characters together; {MAX_FILTERS} at most are possible"),
        );
        // a third three times is not more than a whole
        errors.check(
            percent <= 100.0 + 1e-6,
            "phases",
            format!("they are {percent} percent together; 100 at most are possible"),
        );
    }

    /// Number of phases, 1 at least. Devices that no phase has named are in one more at the end.
    pub fn phase_count(&self) -> usize {
        let rest = (self.phases.last()).is_none_or(|last| !last.has_rest());
        self.phases.len() + usize::from(rest && !self.covers_all())
    }

    /// Whether upgrades may begin in this time zone of a device.
    pub fn window(&self, zone: Option<&str>, now: UtcMillis) -> WindowState {
        let Some(windows) = &self.windows else {
            let until = WindowState::FAR;
            return WindowState::Open { until };
        };
        let zone = zone.and_then(|zone| time_zone(zone).ok());
        windows.open(now, windows.zone_for(zone.as_ref()))
    }

    /// When an upgrade in this time zone of a device is taken back that runs at `now` and was not commanded to install by then;
    /// `None` where it never is, or not within the days that windows are looked ahead. Outside its windows that is `now`.
    pub fn taken_back(&self, zone: Option<&str>, now: UtcMillis) -> Option<TakeBack> {
        self.take_back_windows()?;
        match self.window(zone, now) {
            WindowState::Open { until } if until == WindowState::FAR => None,
            WindowState::Open { until } => Some(TakeBack {
                at: until,
                opens_at: self.window(zone, until).changes_at(),
            }),
            WindowState::Closed { opens_at } => Some(TakeBack { at: now, opens_at }),
        }
    }

    /// The windows, where what is not commanded to install by their end is taken back.
    pub fn take_back_windows(&self) -> Option<&Windows> {
        let windows = self.windows.as_ref();
        windows.filter(|windows| windows.at_end() == AtEnd::TakeBack)
    }

    /// Whether it matters in which time zone a device is.
    pub fn knows_zones(&self) -> bool {
        let windows = self.windows.as_ref();
        windows.is_some_and(|windows| matches!(windows.zone(), WindowZone::Device { .. }))
    }

    /// Nothing is said.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn covers_all(&self) -> bool {
        let percent = (self.phases.iter()).map(|phase| phase.percent.unwrap_or(0.0));
        percent.sum::<f64>() >= 100.0 - 1e-6
    }

    /// The rule of a phase, from 0.
    pub fn phase(&self, phase: u32) -> &PhaseRule {
        const REST: PhaseRule = PhaseRule {
            filter: None,
            percent: None,
            count: None,
            success_percent: None,
            min_results: None,
            soak_seconds: 0,
            then: Then::Next,
        };
        self.phases.get(phase as usize).unwrap_or(&REST)
    }

    /// Whether a draw asks more of a device than its name.
    pub fn draws_by_attributes(&self) -> bool {
        self.stratified || self.has_filters()
    }

    /// Whether a phase has the devices that a filter lets through.
    pub fn has_filters(&self) -> bool {
        self.phases.iter().any(|phase| phase.filter.is_some())
    }
}

fn budget_errors(budget: Budget, errors: &mut Errors) {
    let Budget {
        bytes_per_month,
        airtime_estimated_seconds_per_month,
    } = budget;
    errors.check(
        bytes_per_month.is_some() || airtime_estimated_seconds_per_month.is_some(),
        "budget",
        "give bytes_per_month, airtime_estimated_seconds_per_month, or both",
    );
    errors.check(
        bytes_per_month.is_none_or(|it| (1..=MAX_BUDGET_BYTES).contains(&it)),
        "budget.bytes_per_month",
        format!("1 to {MAX_BUDGET_BYTES} are possible"),
    );
    errors.check(
        airtime_estimated_seconds_per_month
            .is_none_or(|it| (1..=MAX_BUDGET_AIRTIME_S).contains(&it)),
        "budget.airtime_estimated_seconds_per_month",
        format!("1 to {MAX_BUDGET_AIRTIME_S} are possible"),
    );
}

impl PhaseRule {
    /// Whether it is to have the same devices.
    pub fn has_the_devices_of(&self, other: &Self) -> bool {
        (&self.filter, self.percent, self.count) == (&other.filter, other.percent, other.count)
    }

    /// Whether a success counts after the same time.
    pub fn soaks_like(&self, other: &Self) -> bool {
        self.soak_seconds == other.soak_seconds
    }

    /// It has all devices that are left.
    const fn has_rest(&self) -> bool {
        self.filter.is_none() && self.percent.is_none() && self.count.is_none()
    }

    fn check(&self, i: usize, last: bool, errors: &mut Errors) {
        let field = |name: &str| format!("phases[{i}].{name}");
        errors.check(
            self.percent.is_none() || self.count.is_none(),
            field("count"),
            "give percent or count, not both",
        );
        errors.check(
            self.filter.is_none() || (self.percent.is_none() && self.count.is_none()),
            field("filter"),
            "give filter, percent or count, not two of them; a phase by filter has all devices that it lets through",
        );
        errors.check(
            last || !self.has_rest(),
            field("percent"),
            "give filter, percent or count; only the last phase may have all that is left",
        );
        if let Some(percent) = self.percent {
            errors.check(
                is_percent(percent),
                field("percent"),
                "above 0, 100 at most",
            );
        }
        errors.check(self.count != Some(0), field("count"), "1 at least");
        if let Some(percent) = self.success_percent {
            let ok = (0.0..=100.0).contains(&percent);
            errors.check(ok, field("success_percent"), "0 to 100 are possible");
        }
        errors.check(
            self.min_results != Some(0),
            field("min_results"),
            "1 at least",
        );
        errors.check(
            self.soak_seconds <= MAX_SOAK_S,
            field("soak_seconds"),
            format!("0 to {MAX_SOAK_S} are possible"),
        );
    }
}

impl Threshold {
    fn check(&self, i: usize, errors: &mut Errors) {
        let field = |name: &str| format!("abort[{i}].{name}");
        errors.check(
            self.percent.is_some() != self.count.is_some(),
            field("percent"),
            "give either percent or count",
        );
        if let Some(percent) = self.percent {
            errors.check(
                is_percent(percent),
                field("percent"),
                "above 0, 100 at most",
            );
        }
        errors.check(self.count != Some(0), field("count"), "1 at least");
        errors.check(self.min_results > 0, field("min_results"), "1 at least");
        if let Err(detail) = check_reasons(&self.reasons) {
            errors.check(false, field("reasons"), detail);
        }
    }
}

/// Whether each of them is a reason of a failure, and there once.
///
/// # Errors
///
/// What is wrong with the first that is not, and what is possible.
pub fn check_reasons(reasons: &[String]) -> Result<(), String> {
    for (i, reason) in reasons.iter().enumerate() {
        let reason = &**reason;
        if !Outcome::FAILURES.contains(&reason) {
            let start: String = reason.chars().take(QUOTED).collect();
            let known = Outcome::FAILURES.join(", ");
            return Err(format!(
                "{start:?} is no reason of a failure; there are: {known}"
            ));
        }
        if reasons.iter().take(i).any(|before| before == reason) {
            return Err(format!("{reason} is there twice"));
        }
    }
    Ok(())
}

impl Rate {
    fn check(&self, errors: &mut Errors) {
        let per_minute = 1..=MAX_RATE;
        let range = format!("1 to {MAX_RATE} are possible");
        errors.check(
            per_minute.contains(&self.per_minute),
            "rate.per_minute",
            &range,
        );
        errors.check(
            (1.0..=1_000.0).contains(&self.factor),
            "rate.factor",
            "1 to 1000 are possible",
        );
        errors.check(self.each != Some(0), "rate.each", "1 at least");
        errors.check(
            is_one(&self.factor) || self.each.is_some(),
            "rate.each",
            "say for how many successes it grows",
        );
        if let Some(most) = self.most_per_minute {
            let ok = per_minute.contains(&most) && most >= self.per_minute;
            errors.check(
                ok,
                "rate.most_per_minute",
                format!("{range}, and not less than per_minute"),
            );
        }
    }

    /// Beginnings a minute after so many successes.
    pub fn after(&self, succeeded: u64) -> u32 {
        let most = self.most_per_minute.unwrap_or(MAX_RATE);
        let steps = succeeded / self.each.unwrap_or(u64::MAX);
        let steps = i32::try_from(steps).unwrap_or(i32::MAX);
        let rate = f64::from(self.per_minute) * self.factor.powi(steps);
        if rate >= f64::from(most) {
            return most;
        }
        // it is below `most`, and positive
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "in range"
        )]
        let rate = rate as u32;
        rate.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(json: &str) -> TaskRules {
        serde_json::from_str(json).unwrap()
    }

    fn wrong(json: &str) -> Vec<String> {
        let errors = rules(json).check(UtcMillis(1_000_000));
        errors.into_iter().map(|error| error.field).collect()
    }

    #[test]
    fn says_what_is_wrong_with_each_field() {
        for (json, fields) in [
            ("{}", &[][..]),
            (
                r#"{"phases": [{"percent": 33.3}, {"percent": 33.4}, {"percent": 33.3}]}"#,
                &[],
            ),
            (
                r#"{"phases": [{"percent": 60}, {"percent": 60}]}"#,
                &["phases"],
            ),
            (
                r#"{"phases": [{"percent": 0}, {"count": 0}]}"#,
                &["phases[0].percent", "phases[1].count"],
            ),
            (r#"{"phases": [{}, {"count": 3}]}"#, &["phases[0].percent"]),
            (
                r#"{"phases": [{"count": 3, "percent": 3}]}"#,
                &["phases[0].count"],
            ),
            (
                r#"{"phases": [{"filter": "site==depot-4"}, {"percent": 10}, {}]}"#,
                &[],
            ),
            (r#"{"phases": [{"count": 3}], "stratified": true}"#, &[]),
            (r#"{"stratified": true}"#, &["stratified"]),
            (
                r#"{"phases": [{"filter": "site==depot-4", "count": 3}]}"#,
                &["phases[0].filter"],
            ),
            (
                r#"{"phases": [{"success_percent": 101, "min_results": 0}]}"#,
                &["phases[0].success_percent", "phases[0].min_results"],
            ),
            (
                r#"{"abort": [{"percent": 5, "min_results": 20}, {"count": 3, "action": "stop"}]}"#,
                &[],
            ),
            (
                r#"{"abort": [{}, {"count": 1, "percent": 1}]}"#,
                &["abort[0].percent", "abort[1].percent"],
            ),
            (
                r#"{"abort": [{"count": 1, "reasons": ["rain"]}]}"#,
                &["abort[0].reasons"],
            ),
            (
                r#"{"abort": [{"count": 1, "reasons": ["upgraded"]}]}"#,
                &["abort[0].reasons"],
            ),
            (
                r#"{"abort": [{"count": 1, "reasons": ["wrong_version", "wrong_version"]}]}"#,
                &["abort[0].reasons"],
            ),
            (
                r#"{"abort": [{"count": 1, "min_results": 0}]}"#,
                &["abort[0].min_results"],
            ),
            (r#"{"rate": {"per_minute": 0}}"#, &["rate.per_minute"]),
            (
                r#"{"rate": {"per_minute": 9, "factor": 2}}"#,
                &["rate.each"],
            ),
            (
                r#"{"rate": {"per_minute": 9, "most_per_minute": 8}}"#,
                &["rate.most_per_minute"],
            ),
            (r#"{"not_after": "1970-01-01T00:00:01Z"}"#, &["not_after"]),
            (r#"{"priority": 0, "weight": 1000}"#, &[]),
            (r#"{"priority": 10, "weight": 0}"#, &["priority", "weight"]),
            (r#"{"weight": 1001}"#, &["weight"]),
            (r#"{"budget": {"bytes_per_month": 1}}"#, &[]),
            (r#"{"budget": {}}"#, &["budget"]),
            (
                r#"{"budget": {"bytes_per_month": 0, "airtime_estimated_seconds_per_month": 2678401}}"#,
                &[
                    "budget.bytes_per_month",
                    "budget.airtime_estimated_seconds_per_month",
                ],
            ),
        ] {
            assert_eq!(wrong(json), fields, "{json}");
        }
        for text in [r#"{"fases": []}"#, r#"{"phases": [{"filter": "site="}]}"#] {
            assert!(serde_json::from_str::<TaskRules>(text).is_err(), "{text}");
        }
    }

    #[test]
    fn filters_of_all_phases_have_a_bound_together() {
        let filter = format!("site=={}", "x".repeat(4_000));
        let phases = |count| {
            let phases = vec![format!(r#"{{"filter": "{filter}"}}"#); count].join(", ");
            wrong(&format!(r#"{{"phases": [{phases}]}}"#))
        };
        assert_eq!(phases(4), [""; 0]);
        assert_eq!(phases(5), ["phases"]);
    }

    #[test]
    fn a_filter_is_kept_as_its_text() {
        let json = r#"{"phases":[{"filter":"site==depot-4","then":"next"}]}"#;
        assert_eq!(serde_json::to_string(&rules(json)).unwrap(), json);
    }

    #[test]
    fn too_much_is_told_in_one_line() {
        let many = |field: &str, length| {
            let wrong_ones = vec!["{}"; length].join(", ");
            wrong(&format!(r#"{{"{field}": [{wrong_ones}]}}"#)).len()
        };
        assert_eq!(many("phases", 50_000), 1 + MAX_PHASES);
        assert_eq!(many("abort", 50_000), 1 + MAX_THRESHOLDS);
    }

    #[test]
    fn what_no_phase_has_named_is_a_phase_at_the_end() {
        assert_eq!(rules("{}").phase_count(), 1);
        assert_eq!(rules(r#"{"phases": [{"count": 5}]}"#).phase_count(), 2);
        assert_eq!(rules(r#"{"phases": [{"count": 5}, {}]}"#).phase_count(), 2);
        let thirds = r#"{"phases": [{"percent": 33.3}, {"percent": 33.3}, {"percent": 33.4}]}"#;
        assert_eq!(rules(thirds).phase_count(), 3);
    }

    #[test]
    fn a_rate_grows_with_successes_up_to_the_most() {
        let rate = Rate {
            per_minute: 10,
            factor: 2.0,
            each: Some(100),
            most_per_minute: Some(50),
        };
        let rates = [0, 99, 100, 200, 300, u64::MAX].map(|succeeded| rate.after(succeeded));
        assert_eq!(rates, [10, 10, 20, 40, 50, 50]);
        let steady = Rate {
            factor: 1.0,
            each: None,
            most_per_minute: None,
            ..rate
        };
        assert_eq!(steady.after(u64::MAX), 10);
    }
}
