//! What the form of a new task, and that of the rules of one that is there, hold.

use serde_json::{Map, Value};

use super::{
    super::{super::fields::Fields, rules::Rules, view::Task},
    request::Maker,
};
use crate::{api::Problem, console::viewer::Viewer};

/// A kind of rows of which there may be any number: how its fields begin, where their number stands, and how many there are at the most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rows {
    prefix: &'static str,
    count: &'static str,
    most: usize,
}

pub(super) const PACKAGES: Rows = rows("package", "packages", 20);
pub(super) const PHASES: Rows = rows("phase", "phases", 20);
pub(super) const ABORT: Rows = rows("abort", "aborts", 20);
pub(super) const WINDOWS: Rows = rows("window", "windows", 50);
const ALL: [Rows; 4] = [PACKAGES, PHASES, ABORT, WINDOWS];

const fn rows(prefix: &'static str, count: &'static str, most: usize) -> Rows {
    Rows {
        prefix,
        count,
        most,
    }
}

/// What is used less often, beside the rows of thresholds and windows.
const MORE: [&str; 12] = [
    "rate",
    "rate_factor",
    "priority",
    "weight",
    "not_after",
    "joining",
    "budget_bytes",
    "budget_airtime",
    "battery_percent",
    "space_kib",
    "signal_dbm",
    "allow_downgrade",
];

/// What was entered.
#[derive(Debug, Clone)]
pub(in crate::console::tasks) struct Form(pub(in crate::console::tasks) Fields);

/// A row.
#[derive(Debug, Clone, Copy)]
pub(in crate::console::tasks) struct Row<'f> {
    fields: &'f Fields,
    prefix: &'static str,
    index: usize,
}

impl<'f> Row<'f> {
    /// What a field of it is called.
    pub(in crate::console::tasks) fn name(&self, part: &str) -> String {
        format!("{}{}_{part}", self.prefix, self.index)
    }

    pub(in crate::console::tasks) fn get(&self, part: &str) -> &'f str {
        self.fields.get(&self.name(part))
    }

    pub(in crate::console::tasks) fn all(&self, part: &str) -> Vec<&'f str> {
        let name = self.name(part);
        let fields = self.fields.0.iter().filter(|(field, _)| *field == name);
        fields.map(|(_, value)| value.trim()).collect()
    }

    pub(in crate::console::tasks) fn has(&self, part: &str, value: &str) -> bool {
        self.all(part).contains(&value)
    }

    /// Whether something was entered that counts. A row without it is passed over.
    pub(super) fn is_used(&self) -> bool {
        let any = |parts: &[&str]| parts.iter().any(|part| !self.get(part).is_empty());
        match self.prefix {
            "package" => any(&["id"]),
            "abort" => any(&["size"]),
            "window" => any(&["from", "to"]),
            _ => {
                let waits = self.get("then") == "wait" || self.get("kind") == "rest";
                waits || any(&["size", "success", "min", "soak"])
            }
        }
    }

    pub(in crate::console::tasks) fn number(&self) -> usize {
        self.index + 1
    }
}

/// Fields that are looked at; with every row filled in there are fewer.
const MAX_FIELDS: usize = 2_000;

impl Form {
    /// Of what a form has sent.
    pub(in crate::console::tasks) fn entered(mut fields: Fields) -> Self {
        fields.0.truncate(MAX_FIELDS);
        Self(fields)
    }

    pub(in crate::console::tasks) fn get(&self, name: &str) -> &str {
        self.0.get(name)
    }

    pub(in crate::console::tasks) fn is(&self, name: &str, value: &str) -> bool {
        self.0.all(name).any(|it| it == value)
    }

    pub(in crate::console::tasks) fn ticked(&self, name: &str) -> bool {
        self.0.ticked(name)
    }

    /// Whether something of this was filled in: then what is folded is shown.
    pub(in crate::console::tasks) fn excludes(&self) -> bool {
        let names = ["exclude_filter", "exclude_group", "exclude_devices"];
        names.iter().any(|name| self.ticked(name))
    }

    /// The same of what is used less often.
    pub(in crate::console::tasks) fn has_more(&self) -> bool {
        let fields = self.0.0.iter().filter(|(_, value)| !value.is_empty());
        let mut names = fields.map(|(name, _)| &**name);
        let usual = ["kind", "action"];
        names.any(|name| {
            MORE.contains(&name)
                || (name.starts_with("abort") || name.starts_with("window"))
                    && !usual.iter().any(|part| name.ends_with(part))
                    && name.contains('_')
        })
    }

    fn many(&self, rows: Rows) -> usize {
        let count = self.get(rows.count).parse().unwrap_or(1);
        usize::clamp(count, 1, rows.most)
    }

    pub(super) fn rows(&self, rows: Rows) -> Vec<Row<'_>> {
        let row = |index| Row {
            fields: &self.0,
            prefix: rows.prefix,
            index,
        };
        (0..self.many(rows)).map(row).collect()
    }

    pub(in crate::console::tasks) fn packages(&self) -> Vec<Row<'_>> {
        self.rows(PACKAGES)
    }

    pub(in crate::console::tasks) fn phases(&self) -> Vec<Row<'_>> {
        self.rows(PHASES)
    }

    pub(in crate::console::tasks) fn aborts(&self) -> Vec<Row<'_>> {
        self.rows(ABORT)
    }

    pub(in crate::console::tasks) fn windows(&self) -> Vec<Row<'_>> {
        self.rows(WINDOWS)
    }

    /// What it says of the rules that may change, as `PATCH /v1/tasks/{id}` takes them.
    pub(in crate::console::tasks) fn rules(
        &self,
        at: &Viewer,
    ) -> Result<Map<String, Value>, Problem> {
        Maker { at, form: self }.rules()
    }

    /// Rows that are passed over go behind the others: so the API's numbers of what is wrong are those of the rows.
    pub(in crate::console::tasks) fn close_up(&mut self) {
        for kind in ALL {
            let mut order = self.rows(kind);
            order.sort_by_key(|row| !row.is_used());
            let order: Vec<_> = order.iter().map(|row| row.index).collect();
            for (name, _) in &mut self.0.0 {
                let rest = name.strip_prefix(kind.prefix);
                let Some((index, part)) = rest.and_then(|rest| rest.split_once('_')) else {
                    continue;
                };
                let index = index.parse::<usize>().ok();
                let place = index.and_then(|index| order.iter().position(|it| *it == index));
                if let Some(place) = place {
                    *name = format!("{}{place}_{part}", kind.prefix);
                }
            }
        }
    }

    /// Another row of that kind.
    pub(in crate::console::tasks) fn add_row(&mut self, what: &str) {
        let Some(rows) = ALL.iter().find(|rows| rows.count == what) else {
            return;
        };
        let many = self.many(*rows) + 1;
        self.set(rows.count, many.min(rows.most).to_string());
    }

    pub(in crate::console::tasks) fn set(&mut self, name: &str, value: impl Into<String>) {
        self.0.0.retain(|(field, _)| field != name);
        self.put(name, value);
    }

    fn put(&mut self, name: &str, value: impl Into<String>) {
        self.0.0.push((name.to_owned(), value.into()));
    }

    fn put_some(&mut self, name: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.put(name, value.to_string());
        }
    }

    /// As the rules of a task are that is there.
    pub(in crate::console::tasks) fn of(at: &Viewer, task: &Task) -> Self {
        let mut form = Self(Fields::default());
        form.put_rules(at, &task.rules);
        form
    }

    fn put_rules(&mut self, at: &Viewer, rules: &Rules) {
        self.put_some("priority", rules.priority);
        self.put_some("weight", rules.weight);
        if let Some(time) = rules.not_after.as_deref().and_then(|it| it.parse().ok()) {
            self.put("not_after", at.zone.for_input(time));
        }
        if rules.membership.as_deref() == Some("joining") {
            self.put("joining", "1");
        }
        if let Some(rate) = &rules.rate {
            self.put("rate", rate.per_minute.to_string());
            let grows = rate.each.is_some();
            self.put_some("rate_factor", rate.factor.filter(|_| grows));
            self.put_some("rate_each", rate.each);
            self.put_some("rate_most", rate.most_per_minute);
        }
        if let Some(budget) = &rules.budget {
            self.put_some("budget_bytes", budget.bytes_per_month);
            self.put_some("budget_airtime", budget.airtime_estimated_seconds_per_month);
        }
        self.put_aborts(rules);
        self.put_windows(rules);
    }

    fn put_aborts(&mut self, rules: &Rules) {
        self.put("aborts", rules.abort.len().max(1).to_string());
        for (i, threshold) in rules.abort.iter().enumerate() {
            let kind = if threshold.percent.is_some() {
                "percent"
            } else {
                "count"
            };
            self.put(&format!("abort{i}_kind"), kind);
            self.put_some(&format!("abort{i}_size"), threshold.percent);
            self.put_some(&format!("abort{i}_size"), threshold.count);
            self.put_some(&format!("abort{i}_min"), threshold.min_results);
            for reason in threshold.reasons.iter().flatten() {
                self.put(&format!("abort{i}_reason"), reason.as_str());
            }
            self.put_some(&format!("abort{i}_action"), threshold.action.as_ref());
        }
    }

    fn put_windows(&mut self, rules: &Rules) {
        let Some(windows) = &rules.windows else {
            return;
        };
        self.put("windows", windows.windows.len().max(1).to_string());
        for (i, window) in windows.windows.iter().enumerate() {
            for day in window.days.iter().flatten() {
                self.put(&format!("window{i}_day"), day.as_str());
            }
            self.put(&format!("window{i}_from"), window.from.as_str());
            self.put(&format!("window{i}_to"), window.to.as_str());
        }
        self.put("zone", windows.zone.as_str());
        self.put_some("fallback_zone", windows.fallback_zone.as_ref());
        let holidays = windows.holidays.as_deref().unwrap_or_default();
        self.put("holidays", holidays.join(" "));
        self.put_some("at_end", windows.at_end.as_ref());
    }
}
