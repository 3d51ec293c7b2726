use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use serde_json::Value;

use super::fleet::Plan;
use crate::cli::{
    client::{Client, CommandError},
    output::remark,
};

const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Pause between two lines of progress where no bars can be drawn.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Where the task stands.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) wall: Duration,
    /// The task.
    pub(super) record: Value,
    pub(super) upgrades: Vec<Upgrade>,
    pub(super) cells: Vec<Cell>,
}

impl Seen {
    /// Another task was looked at after this one.
    pub(super) fn goes_on_with(&mut self, other: Self) {
        self.wall = other.wall;
        self.record = other.record;
        self.upgrades.extend(other.upgrades);
        self.cells = other.cells;
    }
}

#[derive(Debug)]
pub(super) struct Upgrade {
    pub(super) id: i64,
    pub(super) endpoint: String,
    pub(super) state: String,
    /// How it ended: a stable word, and the same for people.
    pub(super) reason: String,
    pub(super) detail: String,
}

#[derive(Debug)]
pub(super) struct Cell {
    pub(super) id: u32,
    pub(super) limit_max: u64,
    pub(super) concurrent_peak: u64,
}

/// What is waited for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Until {
    /// The task pauses by itself, or ends.
    Held,
    /// Every upgrade has ended.
    Over,
}

/// Looks at a task, for so long.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watch {
    started: Instant,
    limit: Duration,
}

impl Watch {
    #[allow(clippy::disallowed_methods)] // a wall clock is what a person looks at
    pub(super) fn begin(limit: Duration) -> Self {
        Self {
            started: Instant::now(),
            limit,
        }
    }

    /// Whether too long has passed.
    pub(super) fn is_over(self) -> bool {
        self.started.elapsed() > self.limit
    }

    /// What came of tasks.
    pub(super) fn look(self, client: &Client, tasks: &[i64]) -> Result<Seen, CommandError> {
        let mut upgrades = Vec::new();
        for task in tasks {
            let (of_one, _) =
                client.list(&format!("/v1/tasks/{task}/upgrades"), &[], usize::MAX)?;
            upgrades.extend(of_one.iter().map(upgrade));
        }
        let (cells, _) = client.list("/v1/cells", &[], usize::MAX)?;
        Ok(Seen {
            wall: self.started.elapsed(),
            record: Value::Null,
            upgrades,
            cells: cells.iter().map(cell).collect(),
        })
    }

    /// Shows the task's progress until that has come, or too long has passed.
    #[allow(clippy::disallowed_methods)] // a wall clock is what a person looks at
    pub(super) fn until(
        self,
        client: &Client,
        task: i64,
        plan: &Plan,
        until: Until,
    ) -> Result<Seen, CommandError> {
        let bars = Bars::new(plan);
        let mut next_line = Instant::now() + LINE_EVERY;
        loop {
            let record = client.get(&format!("/v1/tasks/{task}"), &[])?;
            let (upgrades, _) =
                client.list(&format!("/v1/tasks/{task}/upgrades"), &[], usize::MAX)?;
            let (cells, _) = client.list("/v1/cells", &[], usize::MAX)?;
            bars.show(&upgrades, &cells);
            if bars.all.is_hidden() && Instant::now() >= next_line {
                next_line += LINE_EVERY;
                let ended = upgrades.iter().filter(|u| !u["ended_at"].is_null());
                remark(&format!(
                    "{} of {} upgrades have ended",
                    ended.count(),
                    upgrades.len()
                ));
            }
            let state = record["state"].as_str().unwrap_or_default();
            if state == "finished" || (state == "paused" && matches!(until, Until::Held)) {
                bars.clear();
                return Ok(Seen {
                    wall: self.started.elapsed(),
                    upgrades: upgrades.iter().map(upgrade).collect(),
                    cells: cells.iter().map(cell).collect(),
                    record,
                });
            }
            if self.is_over() {
                bars.clear();
                return Err(CommandError::Arguments(format!(
                    "the task has not come so far within {} s (--timeout-s): {}, {}",
                    self.limit.as_secs(),
                    record["stand"]["text"],
                    record["counts"]
                )));
            }
            std::thread::sleep(LOOK_EVERY);
        }
    }
}

/// One bar for each cell.
struct Bars {
    all: MultiProgress,
    cells: BTreeMap<u32, ProgressBar>,
}

impl Bars {
    fn new(plan: &Plan) -> Self {
        let style =
            ProgressStyle::with_template("cell {prefix} [{bar:30}] {pos:>4}/{len:<4} {msg}")
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("=> ");
        let all = MultiProgress::new();
        let cells = plan
            .cells
            .iter()
            .map(|(cell, devices)| {
                let bar = all.add(ProgressBar::new(*devices).with_style(style.clone()));
                bar.set_prefix(cell.to_string());
                (*cell, bar)
            })
            .collect();
        Self { all, cells }
    }

    fn show(&self, upgrades: &[Value], cells: &[Value]) {
        let mut ended: BTreeMap<u64, u64> = BTreeMap::new();
        for upgrade in upgrades.iter().filter(|u| !u["ended_at"].is_null()) {
            if let Some(cell) = upgrade["cell_id"].as_u64() {
                *ended.entry(cell).or_default() += 1;
            }
        }
        for record in cells {
            let cell = cell(record);
            let Some(bar) = self.cells.get(&cell.id) else {
                continue;
            };
            bar.set_position(ended.get(&cell.id.into()).copied().unwrap_or(0));
            bar.set_message(format!(
                "{:>3} upgrading of at most {:>2}, {:>3} waiting",
                record["active"], cell.limit_max, record["waiting"]
            ));
        }
    }

    fn clear(&self) {
        let _ = self.all.clear(); // a terminal that is gone shows nothing
    }
}

fn upgrade(record: &Value) -> Upgrade {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    Upgrade {
        id: record["id"].as_i64().unwrap_or_default(),
        endpoint: text(&record["endpoint"]),
        state: text(&record["state"]),
        reason: text(&record["outcome"]["reason"]),
        detail: text(&record["outcome"]["detail"]),
    }
}

fn cell(record: &Value) -> Cell {
    let number = |value: &Value| value.as_u64().unwrap_or(0);
    Cell {
        id: u32::try_from(number(&record["cell_id"])).unwrap_or(u32::MAX),
        limit_max: number(&record["limit_max"]),
        concurrent_peak: number(&record["concurrent_peak"]),
    }
}
