//! How a task is run, in words: of one that is there, and of one that is going to be created.

use serde::Deserialize;

use super::super::viewer::Viewer;

/// The rules of a task, as requests and answers of the API have them.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Rules {
    pub(super) stratified: bool,
    pub(super) abort: Vec<Threshold>,
    pub(super) rate: Option<Rate>,
    pub(super) windows: Option<Hours>,
    pub(super) not_after: Option<String>,
    pub(super) retry: Option<Retry>,
    pub(super) confirmation: Option<String>,
    pub(super) budget: Option<Budget>,
    pub(super) priority: Option<u8>,
    pub(super) weight: Option<u32>,
    pub(super) conditions: Option<Conditions>,
    pub(super) steps: bool,
    pub(super) allow_downgrade: bool,
    pub(super) membership: Option<String>,
}

/// What a phase is to have, and what has to come of it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Phase {
    pub(super) filter: Option<String>,
    pub(super) percent: Option<f64>,
    pub(super) count: Option<u64>,
    pub(super) success_percent: Option<f64>,
    pub(super) min_results: Option<u64>,
    pub(super) soak_seconds: Option<u64>,
    pub(super) then: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Threshold {
    pub(super) percent: Option<f64>,
    pub(super) count: Option<u64>,
    pub(super) min_results: Option<u64>,
    pub(super) reasons: Option<Vec<String>>,
    pub(super) action: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Rate {
    pub(super) per_minute: u64,
    pub(super) factor: Option<f64>,
    pub(super) each: Option<u64>,
    pub(super) most_per_minute: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Hours {
    pub(super) windows: Vec<Window>,
    pub(super) zone: String,
    pub(super) fallback_zone: Option<String>,
    pub(super) holidays: Option<Vec<String>>,
    pub(super) at_end: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Window {
    pub(super) days: Option<Vec<String>>,
    pub(super) from: String,
    pub(super) to: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Retry {
    pub(super) attempts: u64,
    pub(super) interval_seconds: u64,
    pub(super) reasons: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Budget {
    pub(super) bytes_per_month: Option<u64>,
    pub(super) airtime_estimated_seconds_per_month: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Conditions {
    pub(super) battery_percent: Option<u8>,
    pub(super) space_kib: Option<u32>,
    pub(super) signal_dbm: Option<i16>,
}

impl Phase {
    /// Which devices it has.
    pub(super) fn size(&self, at: &Viewer) -> String {
        match (&self.filter, self.percent, self.count) {
            (Some(filter), ..) => at.t1("phase-of-filter", "filter", filter),
            (None, Some(percent), _) => at.t1("phase-of-percent", "percent", percent),
            (None, None, Some(count)) => at.t1("phase-of-count", "count", at.n(count)),
            (None, None, None) => at.t("phase-of-rest"),
        }
    }

    /// What has to come of it.
    pub(super) fn wanted(&self, at: &Viewer) -> String {
        let percent = self.success_percent.unwrap_or(100.0);
        match self.min_results {
            None => at.t1("phase-wants-of-all", "percent", percent),
            Some(min) => at.t2("phase-wants", "percent", percent, "count", at.n(min)),
        }
    }

    /// What follows.
    pub(super) fn follows(&self, at: &Viewer) -> String {
        at.word("phase-then", self.then.as_deref().unwrap_or("next"))
    }

    /// How long a success is looked at; nothing where it counts at once.
    pub(super) fn soak(&self, at: &Viewer) -> String {
        match self.soak_seconds {
            None | Some(0) => String::new(),
            Some(seconds) => at.span(seconds),
        }
    }
}

impl Threshold {
    fn told(&self, at: &Viewer) -> Vec<String> {
        let stops = self.action.as_deref() == Some("stop");
        let min = at.n(self.min_results.unwrap_or(1));
        let first = match (self.percent, stops) {
            (Some(percent), false) => at.t2("abort-percent", "percent", percent, "min", min),
            (Some(percent), true) => at.t2("abort-percent-stop", "percent", percent, "min", min),
            (None, stops) => {
                let count = at.n(self.count.unwrap_or_default());
                let name = if stops {
                    "abort-count-stop"
                } else {
                    "abort-count"
                };
                at.t2(name, "count", count, "min", min)
            }
        };
        let mut told = vec![first];
        if let Some(reasons) = self.reasons.as_ref().filter(|it| !it.is_empty()) {
            told.push(at.t1("abort-reasons", "reasons", named(at, reasons)));
        }
        told
    }
}

/// Reasons, as people know them.
fn named(at: &Viewer, reasons: &[String]) -> String {
    let named: Vec<_> = reasons.iter().map(|it| at.word("reason", it)).collect();
    named.join(", ")
}

/// What is said under one heading.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) label: String,
    pub(super) sentences: Vec<String>,
}

impl Rules {
    /// The rules but for the phases, which are a table.
    pub(super) fn told(&self, at: &Viewer) -> Vec<Told> {
        let mut all = Vec::new();
        let mut tell = |name: &str, sentences: Vec<String>| {
            if !sentences.is_empty() {
                let label = at.t(name);
                all.push(Told { label, sentences });
            }
        };
        let abort = self.abort.iter().flat_map(|it| it.told(at)).collect();
        tell("rule-abort", abort);
        tell(
            "rule-rate",
            self.rate.iter().map(|it| it.told(at)).collect(),
        );
        let windows = self.windows.as_ref();
        tell(
            "rule-windows",
            windows.map_or_else(Vec::new, |it| it.told(at)),
        );
        let not_after = self.not_after.iter();
        let not_after = not_after.map(|it| at.t1("rule-not-after-is", "time", at.time(it)));
        tell("rule-not-after", not_after.collect());
        let retry = self.retry.as_ref();
        tell("rule-retry", retry.map_or_else(Vec::new, |it| it.told(at)));
        tell("rule-share", self.share(at));
        let budget = self.budget.as_ref();
        tell(
            "rule-budget",
            budget.map_or_else(Vec::new, |it| it.told(at)),
        );
        let conditions = self.conditions.as_ref();
        tell(
            "rule-conditions",
            conditions.map_or_else(Vec::new, |it| it.told(at)),
        );
        tell("rule-further", self.further(at));
        all
    }

    fn share(&self, at: &Viewer) -> Vec<String> {
        let priority = self.priority.map_or(5, u64::from);
        let weight = self.weight.map_or(1, u64::from);
        if (priority, weight) == (5, 1) {
            return Vec::new();
        }
        vec![at.t2("rule-share-is", "priority", priority, "weight", weight)]
    }

    fn further(&self, at: &Viewer) -> Vec<String> {
        let mut told = Vec::new();
        if self.confirmation.is_some() {
            told.push(at.t("rule-confirmation"));
        }
        if self.membership.as_deref() == Some("joining") {
            told.push(at.t("rule-joining"));
        }
        if self.stratified {
            told.push(at.t("rule-stratified"));
        }
        if self.steps {
            told.push(at.t("rule-steps"));
        }
        if self.allow_downgrade {
            told.push(at.t("rule-downgrade"));
        }
        told
    }
}

impl Rate {
    fn told(&self, at: &Viewer) -> String {
        let per_minute = at.n(self.per_minute);
        let Some(each) = self.each else {
            return at.t1("rate-steady", "count", per_minute);
        };
        let most = self.most_per_minute.unwrap_or(1_000_000);
        at.say(
            "rate-growing",
            &[
                ("count", per_minute.into()),
                ("factor", self.factor.unwrap_or(1.0).into()),
                ("each", at.n(each).into()),
                ("most", at.n(most).into()),
            ],
        )
    }
}

impl Hours {
    fn told(&self, at: &Viewer) -> Vec<String> {
        let mut told: Vec<_> = self.windows.iter().map(|it| it.told(at)).collect();
        told.push(if self.zone == "device" {
            let fallback = self.fallback_zone.as_deref().unwrap_or("UTC");
            at.t1("windows-zone-device", "zone", fallback)
        } else {
            at.t1("windows-zone", "zone", &*self.zone)
        });
        if let Some(days) = self.holidays.as_ref().filter(|it| !it.is_empty()) {
            told.push(at.t1("windows-holidays", "days", days.join(", ")));
        }
        if self.at_end.as_deref() == Some("take_back") {
            told.push(at.t("windows-take-back"));
        }
        told
    }
}

impl Window {
    fn told(&self, at: &Viewer) -> String {
        let (from, to) = (&*self.from, &*self.to);
        match self.days.as_ref().filter(|it| !it.is_empty()) {
            None => at.t2("window-daily", "from", from, "to", to),
            Some(days) => {
                let days: Vec<_> = days.iter().map(|day| at.word("day", day)).collect();
                let days = days.join(", ");
                let from_to = [("from", from.into()), ("to", to.into())];
                let [from, to] = from_to;
                at.say("window-on", &[("days", days.into()), from, to])
            }
        }
    }
}

impl Retry {
    fn told(&self, at: &Viewer) -> Vec<String> {
        if self.attempts == 0 {
            return Vec::new();
        }
        let span = at.span(self.interval_seconds);
        let mut told = vec![at.t2("retry-is", "count", self.attempts, "span", span)];
        if let Some(reasons) = self.reasons.as_ref().filter(|it| !it.is_empty()) {
            told.push(at.t1("retry-reasons", "reasons", named(at, reasons)));
        }
        told
    }
}

impl Budget {
    fn told(&self, at: &Viewer) -> Vec<String> {
        let bytes = self.bytes_per_month;
        let bytes = bytes.map(|it| at.t1("budget-bytes", "count", at.n(it)));
        let airtime = self.airtime_estimated_seconds_per_month;
        let airtime = airtime.map(|it| at.t1("budget-airtime", "count", at.n(it)));
        bytes.into_iter().chain(airtime).collect()
    }
}

impl Conditions {
    fn told(&self, at: &Viewer) -> Vec<String> {
        let battery = self.battery_percent.map(u64::from);
        let battery = battery.map(|it| at.t1("condition-battery", "percent", it));
        let space = self.space_kib;
        let space = space.map(|it| at.t1("condition-space", "count", at.n(it)));
        let signal = self.signal_dbm.map(i64::from);
        let signal = signal.map(|it| at.t1("condition-signal", "dbm", it));
        battery.into_iter().chain(space).chain(signal).collect()
    }
}
