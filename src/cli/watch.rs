//! A task as it goes on.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    process::ExitCode,
    thread,
    time::Duration,
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    client::{Client, CommandError},
    output::{self, Format, counted, or_dash},
};

/// Pause between two looks.
const INTERVAL: Duration = Duration::from_secs(1);
/// Looks in a row that may stay without an answer: a server restarts within a minute.
const PATIENCE: u32 = 60;
/// Tasks of at most so many devices are shown device by device.
const SMALL_TASK: u64 = 20;
/// Devices of a state that are shown of a larger task, and those that are shown when the state is asked for.
const SAMPLED: usize = 3;
const LISTED: usize = 100;
/// The states of an upgrade, in the order of its life.
const STATES: [&str; 11] = [
    "pending",
    "waiting_for_device",
    "querying_version",
    "querying_coverage",
    "querying_cell",
    "waiting_for_slot",
    "downloading",
    "executing",
    "succeeded",
    "failed",
    "cancelled",
];

/// What is shown of a task.
#[derive(Debug, Deserialize)]
pub(super) struct TaskView {
    pub(super) id: i64,
    pub(super) name: String,
    pub(super) state: String,
    pub(super) version: String,
    product: String,
    pub(super) start_at: String,
    ended_at: Option<String>,
    pub(super) total: u64,
    counts: BTreeMap<String, u64>,
    stand: StandView,
    phases: Vec<PhaseView>,
}

#[derive(Debug, Deserialize)]
struct StandView {
    text: String,
}

#[derive(Debug, Deserialize)]
struct PhaseView {
    phase: u32,
    state: String,
    total: u64,
    succeeded: u64,
    failed: u64,
}

impl TaskView {
    pub(super) fn count(&self, state: &str) -> u64 {
        self.counts.get(state).copied().unwrap_or(0)
    }

    /// Upgrades that have their outcome.
    pub(super) fn ended(&self) -> u64 {
        self.count("succeeded") + self.count("failed") + self.count("cancelled")
    }

    /// The states that upgrades are in, with their numbers.
    pub(super) fn summary(&self) -> String {
        let counts: Vec<String> = STATES
            .into_iter()
            .filter(|state| self.count(state) > 0)
            .map(|state| format!("{} {}", self.count(state), state.replace('_', " ")))
            .collect();
        counts.join(", ")
    }

    /// What it does, and what it waits for.
    pub(super) fn stand(&self) -> &str {
        &self.stand.text
    }

    fn is_over(&self) -> bool {
        matches!(self.state.as_str(), "finished" | "stopped")
    }
}

/// What is shown of an upgrade.
#[derive(Debug, Deserialize)]
struct UpgradeView {
    id: i64,
    endpoint: String,
    state: String,
    attempts: u32,
    progress_percent: u8,
    cell_id: Option<u32>,
    outcome: Option<OutcomeView>,
    /// Where that was asked.
    waiting_for: Option<String>,
}

#[derive(Debug, Deserialize)]
struct OutcomeView {
    detail: String,
}

impl UpgradeView {
    /// The columns of a table; what it waits for in place of the outcome while there is none.
    fn row(self) -> [String; 7] {
        [
            self.id.to_string(),
            self.endpoint,
            self.state.replace('_', " "),
            format!("{} %", self.progress_percent),
            or_dash(self.cell_id),
            self.attempts.to_string(),
            or_dash(
                self.waiting_for
                    .or(self.outcome.map(|outcome| outcome.detail)),
            ),
        ]
    }

    fn line(&self) -> String {
        let outcome = self
            .outcome
            .as_ref()
            .map_or_else(String::new, |outcome| format!("  {}", outcome.detail));
        let state = self.state.replace('_', " ");
        format!(
            "{}  {:3} %  {state}{outcome}",
            self.endpoint, self.progress_percent
        )
    }
}

/// Writes a task once: its counts, and the devices: all of a small one, some of each state of a large one, or those in
/// `state`, at most `limit` of a state.
#[expect(clippy::too_many_lines, reason = "one part after the other")]
pub(super) fn print(
    client: &Client,
    task: &Value,
    state: Option<&str>,
    limit: Option<u32>,
    out: &mut dyn Write,
) -> Result<(), CommandError> {
    let view: TaskView = client.view(task)?;
    writeln!(
        out,
        "task {} ({}), {}: {} to {} {}",
        view.id,
        view.name,
        view.state,
        counted(view.total, "device"),
        view.product,
        view.version,
    )?;
    let until = view
        .ended_at
        .as_ref()
        .map_or_else(String::new, |at| format!(", ended {at}"));
    writeln!(out, "starts {}{until}", view.start_at)?;
    writeln!(out, "{}", view.summary())?;
    if !view.is_over() {
        writeln!(out, "{}", view.stand())?;
    }
    if view.phases.len() > 1 {
        let headings = ["PHASE", "STATE", "DEVICES", "SUCCEEDED", "FAILED"];
        let rows = view.phases.iter().map(|phase| {
            [
                phase.phase.to_string(),
                phase.state.clone(),
                phase.total.to_string(),
                phase.succeeded.to_string(),
                phase.failed.to_string(),
            ]
        });
        writeln!(out)?;
        output::table(out, headings, &rows.collect::<Vec<_>>())?;
    }
    let (shown, left_out) = explained(client, &view, state, limit)?;
    if shown.is_empty() {
        return Ok(());
    }
    let rows = (shown.iter())
        .map(|upgrade| client.view(upgrade).map(UpgradeView::row))
        .collect::<Result<Vec<_>, _>>()?;
    let headings = [
        "UPGRADE",
        "ENDPOINT",
        "STATE",
        "PROGRESS",
        "CELL",
        "ATTEMPTS",
        "OUTCOME, OR WHAT IT WAITS FOR",
    ];
    writeln!(out)?;
    output::table(out, headings, &rows)?;
    for (state, count) in left_out {
        let name = state.replace('_', " ");
        writeln!(
            out,
            "and {count} more {name}: cellwise task show {} --state {state} --limit {}",
            view.id,
            view.count(state)
        )?;
    }
    Ok(())
}

/// The task as a document, with the upgrades that its text would show.
pub(super) fn with_upgrades(
    client: &Client,
    mut task: Value,
    state: Option<&str>,
    limit: Option<u32>,
) -> Result<Value, CommandError> {
    let view: TaskView = client.view(&task)?;
    let (upgrades, left_out) = explained(client, &view, state, limit)?;
    if let Some(task) = task.as_object_mut() {
        let upgrades = json!({"items": upgrades, "more": !left_out.is_empty()});
        task.insert("upgrades".to_owned(), upgrades);
    }
    Ok(task)
}

/// Upgrades of the task, those that have not ended with what they wait for, and how many of which state are left out.
#[allow(clippy::type_complexity)] // a list, and what is not in it
fn explained<'s>(
    client: &Client,
    task: &TaskView,
    state: Option<&'s str>,
    limit: Option<u32>,
) -> Result<(Vec<Value>, Vec<(&'s str, u64)>), CommandError> {
    let limit = limit.map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let small = task.total <= SMALL_TASK;
    let (states, most): (Vec<Option<&str>>, usize) = match state {
        Some(state) => (vec![Some(state)], limit.unwrap_or(LISTED)),
        None if small && limit.is_none() => (vec![None], usize::MAX),
        None => {
            // those of whom there is something to explain
            let open = STATES.into_iter().filter(|state| {
                !matches!(*state, "succeeded" | "cancelled") && task.count(state) > 0
            });
            (open.map(Some).collect(), limit.unwrap_or(SAMPLED))
        }
    };
    let (mut shown, mut left_out) = (Vec::new(), Vec::new());
    for state in states {
        let found = upgrades(client, task.id, state, most)?;
        if let Some(state) = state
            && let Some(more) = task.count(state).checked_sub(found.len() as u64)
            && more > 0
        {
            left_out.push((state, more));
        }
        for mut upgrade in found {
            let waits_for = if upgrade["ended_at"].is_null() {
                let path = format!("/v1/upgrades/{}", upgrade["id"]);
                client.get(&path, &[])?["waiting_for"].take()
            } else {
                Value::Null
            };
            if let Some(upgrade) = upgrade.as_object_mut() {
                upgrade.insert("waiting_for".to_owned(), waits_for);
            }
            shown.push(upgrade);
        }
    }
    Ok((shown, left_out))
}

/// Shows a task until it has ended: bars on a terminal, otherwise a line for each change; with JSON, one
/// document for each change. The exit code is 0 when every device succeeded, else 1.
pub(super) fn watch(
    client: &Client,
    id: i64,
    format: Format,
    out: &mut dyn Write,
) -> Result<ExitCode, CommandError> {
    let path = format!("/v1/tasks/{id}");
    let mut screen = Screen::new();
    let mut shown = None;
    let mut lost = 0;
    loop {
        let task = match client.get(&path, &[]) {
            Err(CommandError::Connection { .. }) if lost < PATIENCE => {
                if lost == 0 {
                    output::remark("the server does not answer; trying again");
                }
                lost += 1;
                thread::sleep(INTERVAL);
                continue;
            }
            answered => answered?,
        };
        lost = 0;
        let view: TaskView = client.view(&task)?;
        let over = view.is_over();
        match format {
            Format::Json => {
                if shown.as_ref() != Some(&task) {
                    output::json(out, &task)?;
                }
                shown = Some(task);
            }
            Format::Text if screen.is_visible() => match screen.show(client, &view) {
                Err(CommandError::Connection { .. }) => {} // found out, and told, in the next turn
                shown => shown?,
            },
            Format::Text => {
                let state = match &*view.state {
                    // it waits for somebody, who is to know why
                    "paused" | "awaiting_approval" => view.stand(),
                    state => state,
                };
                let line = Value::from(format!("{state}: {}", view.summary()));
                if shown.as_ref() != Some(&line) {
                    writeln!(out, "{}", line.as_str().unwrap_or_default())?;
                    out.flush()?;
                }
                shown = Some(line);
            }
        }
        if over {
            screen.clear()?;
            let all = view.count("succeeded") == view.total;
            if format == Format::Text {
                let task = client.get(&path, &[])?;
                print(client, &task, None, None, out)?;
            }
            return Ok(ExitCode::from(u8::from(!all)));
        }
        thread::sleep(INTERVAL);
    }
}

fn upgrades(
    client: &Client,
    task: i64,
    state: Option<&str>,
    most: usize,
) -> Result<Vec<Value>, CommandError> {
    let path = format!("/v1/tasks/{task}/upgrades");
    let query: Vec<_> = state
        .map(|state| ("state", state.to_owned()))
        .into_iter()
        .collect();
    Ok(client.list(&path, &query, most)?.0)
}

/// Bars on standard error, if that is a terminal.
struct Screen {
    bars: MultiProgress,
    total: ProgressBar,
    devices: Vec<ProgressBar>,
}

impl Screen {
    fn new() -> Self {
        let bars = MultiProgress::new();
        let style =
            ProgressStyle::with_template("{elapsed_precise} {bar:40} {pos} of {len}  {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar());
        let total = bars.add(ProgressBar::new(0).with_style(style));
        Self {
            bars,
            total,
            devices: Vec::new(),
        }
    }

    fn is_visible(&self) -> bool {
        !self.bars.is_hidden()
    }

    fn show(&mut self, client: &Client, task: &TaskView) -> Result<(), CommandError> {
        self.total.set_length(task.total);
        self.total.set_position(task.ended());
        self.total
            .set_message(format!("{}: {}", task.state, task.summary()));
        if task.total > SMALL_TASK {
            return Ok(());
        }
        for (i, upgrade) in upgrades(client, task.id, None, usize::MAX)?
            .into_iter()
            .enumerate()
        {
            let upgrade: UpgradeView = client.view(&upgrade)?;
            if self.devices.len() <= i {
                let style = ProgressStyle::with_template("  {bar:20} {msg}")
                    .unwrap_or_else(|_| ProgressStyle::default_bar());
                let bar = self.bars.add(ProgressBar::new(100).with_style(style));
                self.devices.push(bar);
            }
            if let Some(bar) = self.devices.get(i) {
                bar.set_position(upgrade.progress_percent.into());
                bar.set_message(upgrade.line());
            }
        }
        Ok(())
    }

    fn clear(&mut self) -> io::Result<()> {
        self.bars.clear()
    }
}
