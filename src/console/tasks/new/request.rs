//! The request that a form makes, as `POST /v1/tasks` and `PATCH /v1/tasks/{id}` take it.

use std::str::FromStr;

use serde_json::{Map, Value, json};

use super::{
    super::DAYS,
    form::{ABORT, Form, PACKAGES, PHASES, Row, WINDOWS},
    time,
};
use crate::{api::Problem, console::viewer::Viewer, ledger::Outcome};

/// Makes the request. What is no number is told by the field of the API that it is for.
pub(super) struct Maker<'a> {
    pub(super) at: &'a Viewer,
    pub(super) form: &'a Form,
}

type Made = Result<Value, Problem>;

/// Names in a text, with blanks or commas between them.
pub(super) fn names(text: &str) -> Vec<&str> {
    let names = text.split(|c: char| c.is_whitespace() || c == ',');
    names.filter(|name| !name.is_empty()).collect()
}

impl Maker<'_> {
    /// The whole task.
    pub(super) fn task(&self) -> Made {
        let mut body = Map::new();
        put(&mut body, "name", self.text("name"));
        self.packages(&mut body)?;
        self.targets(&mut body)?;
        put(&mut body, "exclude", self.exclude()?);
        if self.form.ticked("joining") {
            put(&mut body, "membership", "joining".into());
        }
        put(&mut body, "start_at", self.time("start_at")?);
        put(&mut body, "not_after", self.time("not_after")?);
        let phases = self.phases()?;
        if !phases.is_empty() {
            put(&mut body, "phases", phases.into());
        }
        put(&mut body, "stratified", self.flag("stratified"));
        let abort = self.abort()?;
        if !abort.is_empty() {
            put(&mut body, "abort", abort.into());
        }
        put(&mut body, "rate", self.rate()?);
        put(&mut body, "windows", self.windows());
        put(&mut body, "retry", self.retry()?);
        put(&mut body, "approval", self.flag("approval"));
        if self.form.ticked("confirmation") {
            put(&mut body, "confirmation", "device_owner".into());
        }
        put(&mut body, "budget", self.budget()?);
        put(&mut body, "priority", self.number::<u8>("priority")?);
        put(&mut body, "weight", self.number::<u32>("weight")?);
        put(&mut body, "conditions", self.conditions()?);
        Ok(body.into())
    }

    /// What may be changed of one that is there; what is not given is `null`.
    pub(super) fn rules(&self) -> Result<Map<String, Value>, Problem> {
        let membership = if self.form.ticked("joining") {
            "joining"
        } else {
            "snapshot"
        };
        let rules = [
            ("abort", self.abort()?.into()),
            ("rate", self.rate()?),
            ("windows", self.windows()),
            ("not_after", self.time("not_after")?),
            ("membership", membership.into()),
            ("budget", self.budget()?),
            ("priority", self.number::<u8>("priority")?),
            ("weight", self.number::<u32>("weight")?),
        ];
        let rules = rules.map(|(name, value)| (name.to_owned(), value));
        Ok(rules.into_iter().collect())
    }

    fn packages(&self, body: &mut Map<String, Value>) -> Result<(), Problem> {
        let mut packages = Vec::new();
        for row in self.form.rows(PACKAGES) {
            let Some(id) = self.whole(row.get("id"), "packages")? else {
                continue;
            };
            let mut from = Map::new();
            let (versions, hardware) = (row.get("versions"), row.get("hardware"));
            if !versions.is_empty() {
                put(&mut from, "versions", json!(names(versions)));
            }
            put(&mut from, "version_from", some(row.get("from")));
            put(&mut from, "version_below", some(row.get("below")));
            if !hardware.is_empty() {
                put(&mut from, "hardware", json!(names(hardware)));
            }
            packages.push((id, from));
        }
        match &*packages {
            [(id, from)] if from.is_empty() => put(body, "package_id", id.clone()),
            [] => {}
            _ => {
                let packages = packages.into_iter().map(|(id, from)| {
                    let mut package = Map::new();
                    put(&mut package, "package_id", id);
                    if !from.is_empty() {
                        put(&mut package, "from", from.into());
                    }
                    Value::from(package)
                });
                put(body, "packages", packages.collect());
                put(body, "steps", self.flag("steps"));
            }
        }
        put(body, "allow_downgrade", self.flag("allow_downgrade"));
        Ok(())
    }

    fn targets(&self, body: &mut Map<String, Value>) -> Result<(), Problem> {
        match self.form.get("for") {
            "filter" => put(body, "filter", self.form.get("filter").into()),
            "group" => put(body, "group", self.number::<u64>("group")?),
            "devices" => put(body, "devices", json!(names(self.form.get("devices")))),
            _ => {
                let entered = |kind: &&str| !self.form.get(kind).trim().is_empty();
                if let Some(kind) = ["filter", "group", "devices"].into_iter().find(entered) {
                    return Err(Problem::field(kind, self.at.t("targets-not-chosen")));
                }
                put(body, "all", true.into());
            }
        }
        Ok(())
    }

    fn exclude(&self) -> Made {
        let mut exclude = Map::new();
        let devices = names(self.form.get("exclude_devices"));
        if !devices.is_empty() {
            put(&mut exclude, "devices", json!(devices));
        }
        put(&mut exclude, "filter", self.text("exclude_filter"));
        let group = self.whole(self.form.get("exclude_group"), "exclude.group")?;
        put(&mut exclude, "group", group.unwrap_or_default());
        Ok(filled(exclude))
    }

    fn phases(&self) -> Result<Vec<Value>, Problem> {
        let mut phases = Vec::new();
        for (i, row) in self.form.rows(PHASES).into_iter().enumerate() {
            let field = |name: &str| format!("phases[{i}].{name}");
            let mut phase = Map::new();
            let (kind, size) = (row.get("kind"), row.get("size"));
            if !row.is_used() {
                continue;
            }
            match kind {
                // the last one may have all that are left
                _ if size.is_empty() || kind == "rest" => {}
                "filter" => put(&mut phase, "filter", size.into()),
                "count" => {
                    let count = self.whole(size, &field("count"))?;
                    put(&mut phase, "count", count.unwrap_or_default());
                }
                _ => {
                    let percent = self.decimal(size, &field("percent"))?;
                    put(&mut phase, "percent", percent);
                }
            }
            let success = self.decimal(row.get("success"), &field("success_percent"))?;
            put(&mut phase, "success_percent", success);
            let min = self.whole(row.get("min"), &field("min_results"))?;
            put(&mut phase, "min_results", min.unwrap_or_default());
            let soak = self.times(row.get("soak"), 3_600, &field("soak_seconds"))?;
            put(&mut phase, "soak_seconds", soak);
            if row.get("then") == "wait" {
                put(&mut phase, "then", "wait".into());
            }
            phases.push(phase.into());
        }
        Ok(phases)
    }

    fn abort(&self) -> Result<Vec<Value>, Problem> {
        let rows = self.form.rows(ABORT).into_iter().enumerate();
        let rows = rows.filter(|(_, row)| row.is_used());
        rows.map(|(i, row)| self.threshold(i, row)).collect()
    }

    fn threshold(&self, i: usize, row: Row<'_>) -> Made {
        let field = |name: &str| format!("abort[{i}].{name}");
        let mut threshold = Map::new();
        if row.get("kind") == "count" {
            let count = self.whole(row.get("size"), &field("count"))?;
            put(&mut threshold, "count", count.unwrap_or_default());
        } else {
            let percent = self.decimal(row.get("size"), &field("percent"))?;
            put(&mut threshold, "percent", percent);
        }
        let min = self.whole(row.get("min"), &field("min_results"))?;
        put(&mut threshold, "min_results", min.unwrap_or_default());
        let reasons = in_order(row.all("reason"), Outcome::FAILURES);
        if !reasons.is_empty() {
            put(&mut threshold, "reasons", json!(reasons));
        }
        put(&mut threshold, "action", some(row.get("action")));
        Ok(threshold.into())
    }

    fn rate(&self) -> Made {
        let mut rate = Map::new();
        for (name, part) in [
            ("rate", "per_minute"),
            ("rate_each", "each"),
            ("rate_most", "most_per_minute"),
        ] {
            let number = self.whole(self.form.get(name), &format!("rate.{part}"))?;
            put(&mut rate, part, number.unwrap_or_default());
        }
        let factor = self.decimal(self.form.get("rate_factor"), "rate.factor")?;
        put(&mut rate, "factor", factor);
        Ok(filled(rate))
    }

    fn windows(&self) -> Value {
        let rows = self.form.rows(WINDOWS).into_iter();
        let rows = rows.filter(Row::is_used);
        let windows: Vec<Value> = rows
            .map(|row| {
                let mut window = Map::new();
                let days = in_order(row.all("day"), &DAYS);
                if !days.is_empty() {
                    put(&mut window, "days", json!(days));
                }
                put(&mut window, "from", row.get("from").into());
                put(&mut window, "to", row.get("to").into());
                window.into()
            })
            .collect();
        if windows.is_empty() {
            return Value::Null;
        }
        let mut body = Map::new();
        put(&mut body, "windows", windows.into());
        put(&mut body, "zone", self.form.get("zone").into());
        put(&mut body, "fallback_zone", self.text("fallback_zone"));
        let holidays = names(self.form.get("holidays"));
        if !holidays.is_empty() {
            put(&mut body, "holidays", json!(holidays));
        }
        put(&mut body, "at_end", self.text("at_end"));
        body.into()
    }

    fn retry(&self) -> Made {
        let attempts = self.whole(self.form.get("retry_attempts"), "retry.attempts")?;
        let Some(attempts) = attempts.filter(|attempts| *attempts != 0) else {
            return Ok(Value::Null);
        };
        let minutes = self.form.get("retry_minutes");
        let mut retry = Map::new();
        put(&mut retry, "attempts", attempts);
        let interval = self.times(minutes, 60, "retry.interval_seconds")?;
        let interval = if interval.is_null() {
            300.into()
        } else {
            interval
        };
        put(&mut retry, "interval_seconds", interval);
        let reasons: Vec<_> = self.form.0.all("retry_reason").collect();
        if !reasons.is_empty() {
            put(&mut retry, "reasons", json!(reasons));
        }
        Ok(retry.into())
    }

    fn budget(&self) -> Made {
        let mut budget = Map::new();
        for (name, part) in [
            ("budget_bytes", "bytes_per_month"),
            ("budget_airtime", "airtime_estimated_seconds_per_month"),
        ] {
            let number = self.whole(self.form.get(name), &format!("budget.{part}"))?;
            put(&mut budget, part, number.unwrap_or_default());
        }
        Ok(filled(budget))
    }

    fn conditions(&self) -> Made {
        let mut conditions = Map::new();
        let get = |part| (self.form.get(part), format!("conditions.{part}"));
        let (text, field) = get("battery_percent");
        let battery = self.fitting::<u8>(text, &field)?;
        put(
            &mut conditions,
            "battery_percent",
            battery.unwrap_or_default(),
        );
        let (text, field) = get("space_kib");
        let space = self.fitting::<u32>(text, &field)?;
        put(&mut conditions, "space_kib", space.unwrap_or_default());
        let (text, field) = get("signal_dbm");
        let signal = self.fitting::<i16>(text, &field)?;
        put(&mut conditions, "signal_dbm", signal.unwrap_or_default());
        Ok(filled(conditions))
    }

    fn text(&self, name: &str) -> Value {
        some(self.form.get(name))
    }

    fn flag(&self, name: &str) -> Value {
        if self.form.ticked(name) {
            true.into()
        } else {
            Value::Null
        }
    }

    fn time(&self, name: &str) -> Made {
        Ok(time(self.at, &self.form.0, name)?.map_or(Value::Null, Value::from))
    }

    fn number<T: FromStr + Into<Value>>(&self, name: &str) -> Made {
        let number = self.fitting::<T>(self.form.get(name), name)?;
        Ok(number.unwrap_or_default())
    }

    /// A whole number that counts something; `None`: nothing was entered.
    fn whole(&self, text: &str, field: &str) -> Result<Option<Value>, Problem> {
        self.fitting::<u64>(text, field)
    }

    /// A whole number of the kind that the API has there.
    fn fitting<T: FromStr + Into<Value>>(
        &self,
        text: &str,
        field: &str,
    ) -> Result<Option<Value>, Problem> {
        if text.is_empty() {
            return Ok(None);
        }
        match text.parse::<T>() {
            Ok(number) => Ok(Some(number.into())),
            Err(_) if text.parse::<i128>().is_ok() => {
                Err(Problem::field(field, self.at.t("no-such-number")))
            }
            Err(_) => Err(Problem::field(field, self.at.t("no-whole-number"))),
        }
    }

    /// So many times `unit`, which may be a part of it: hours as seconds.
    fn times(&self, text: &str, unit: u32, field: &str) -> Made {
        let Some(number) = self.decimal(text, field)?.as_f64() else {
            return Ok(Value::Null);
        };
        let span = std::time::Duration::try_from_secs_f64(number * f64::from(unit));
        let span = span.map_err(|_| Problem::field(field, self.at.t("no-number")))?;
        Ok(span.as_secs().into())
    }

    fn decimal(&self, text: &str, field: &str) -> Made {
        if text.is_empty() {
            return Ok(Value::Null);
        }
        if let Ok(number) = text.parse::<i64>() {
            return Ok(number.into());
        }
        let number = text.parse::<f64>().ok().filter(|it| it.is_finite());
        let number = number.ok_or_else(|| Problem::field(field, self.at.t("no-number")))?;
        Ok(number.into())
    }
}

/// Words of a list in the order that the list has, and behind them what is none of them: the API tells that. What was entered in another
/// order is no change.
fn in_order<'t>(words: Vec<&'t str>, order: &[&str]) -> Vec<&'t str> {
    let mut words = words;
    let place = |word: &str| order.iter().position(|it| *it == word);
    words.sort_by_key(|word| place(word).unwrap_or(order.len()));
    words.dedup();
    words
}

fn some(text: &str) -> Value {
    if text.is_empty() {
        Value::Null
    } else {
        text.into()
    }
}

/// Puts what there is.
fn put(body: &mut Map<String, Value>, name: &str, value: Value) {
    if !value.is_null() {
        body.insert(name.to_owned(), value);
    }
}

/// `null` where nothing was put.
fn filled(body: Map<String, Value>) -> Value {
    if body.is_empty() {
        Value::Null
    } else {
        body.into()
    }
}
