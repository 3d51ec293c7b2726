//! What an operator does with a task that is there.

use std::{fs, io::Write, path::PathBuf, process::ExitCode};

use clap::Args;
use serde_json::{Map, Value, json};

use crate::cli::{
    client::{Client, CommandError, SeenArgs},
    list::ResultArgs,
    output::{self, Format, counted},
    watch::TaskView,
};

/// `cellwise task pause`.
#[derive(Debug, Args)]
pub struct PauseArgs {
    /// Number of the task.
    id: i64,
    /// For whoever looks at the task.
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    #[command(flatten)]
    result: ResultArgs,
}

/// `cellwise task resume` and `cellwise task next-phase`.
#[derive(Debug, Args)]
pub struct PlainArgs {
    /// Number of the task.
    id: i64,
    #[command(flatten)]
    result: ResultArgs,
}

/// `cellwise task approve`.
#[derive(Debug, Args)]
pub struct ApproveArgs {
    #[command(flatten)]
    approval: ApprovalArgs,
    #[command(flatten)]
    seen: SeenArgs,
}

/// `cellwise task refuse`.
#[derive(Debug, Args)]
pub struct ApprovalArgs {
    /// Number of the task.
    id: i64,
    /// Who approves it, or refuses to.
    #[arg(long, value_name = "NAME")]
    by: String,
    /// Why; has to be given to refuse.
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    #[command(flatten)]
    result: ResultArgs,
}

/// `cellwise task retry`.
#[derive(Debug, Args)]
pub struct RetryArgs {
    /// Number of the task.
    id: i64,
    /// Only those that failed for this reason, such as `device_not_heard`; may be given several times.
    #[arg(long = "reason", value_name = "REASON")]
    reasons: Vec<String>,
    #[command(flatten)]
    result: ResultArgs,
}

/// `cellwise task set`.
#[derive(Debug, Args)]
pub struct SetArgs {
    /// Number of the task.
    id: i64,
    /// A file with what is to change of how it is run, TOML or JSON: abort, rate, windows, `not_after`, budget, priority, weight, and
    /// phases of the same sizes. What is not in it stays; in JSON null takes it away.
    #[arg(
        long,
        value_name = "FILE",
        required_unless_present_any = ["priority", "weight", "budget_bytes", "budget_airtime_s"]
    )]
    rules: Option<PathBuf>,
    #[command(flatten)]
    share: ShareArgs,
    #[command(flatten)]
    budget: BudgetArgs,
    #[command(flatten)]
    seen: SeenArgs,
    #[command(flatten)]
    result: ResultArgs,
}

/// What a task has of the slots of cells beside other tasks.
#[derive(Debug, Args)]
pub(super) struct ShareArgs {
    /// Tasks of a higher priority come first, 0 to 9; 5 when nothing is said.
    #[arg(long, value_name = "N")]
    priority: Option<u8>,
    /// Of tasks of the same priority each has slots in proportion to its weight, 1 to 1000; 1 when nothing is said.
    #[arg(long, value_name = "N")]
    weight: Option<u32>,
}

impl ShareArgs {
    /// Adds what is given to the fields of a task.
    pub(super) fn add_to(&self, fields: &mut Map<String, Value>) {
        fields.extend(self.priority.map(|it| ("priority".to_owned(), json!(it))));
        fields.extend(self.weight.map(|it| ("weight".to_owned(), json!(it))));
    }
}

/// What a device may spend in a month, in all tasks.
#[derive(Debug, Args)]
pub(super) struct BudgetArgs {
    /// A device may spend so many bytes in a calendar month; one that has not enough left waits for the next.
    #[arg(long, value_name = "BYTES")]
    budget_bytes: Option<u64>,
    /// A device may spend so many seconds of airtime, as it is estimated, in a calendar month (docs/traffic.md).
    #[arg(long, value_name = "SECONDS")]
    budget_airtime_s: Option<u64>,
}

impl BudgetArgs {
    /// Adds what is given to the fields of a task: a budget in place of the one of a file.
    pub(super) fn add_to(&self, fields: &mut Map<String, Value>) {
        if self.budget_bytes.is_none() && self.budget_airtime_s.is_none() {
            return;
        }
        let mut budget = Map::new();
        budget
            .extend((self.budget_bytes).map(|bytes| ("bytes_per_month".to_owned(), json!(bytes))));
        budget.extend((self.budget_airtime_s).map(|seconds| {
            let field = "airtime_estimated_seconds_per_month".to_owned();
            (field, json!(seconds))
        }));
        fields.insert("budget".to_owned(), Value::Object(budget));
    }
}

impl PauseArgs {
    pub(super) fn run(&self, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
        post(
            self.id,
            "pause",
            &json!({"note": self.note}),
            &self.result,
            out,
        )
    }
}

impl PlainArgs {
    pub(super) fn run(&self, what: &str, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
        post(self.id, what, &json!({}), &self.result, out)
    }
}

impl ApproveArgs {
    pub(super) fn run(&self, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
        self.approval.answer("approve", self.seen, out)
    }
}

impl ApprovalArgs {
    pub(super) fn run(&self, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
        self.answer("refuse", SeenArgs::default(), out)
    }

    fn answer(
        &self,
        what: &str,
        seen: SeenArgs,
        out: &mut dyn Write,
    ) -> Result<ExitCode, CommandError> {
        let client = Client::new(&self.result.api)?;
        let body = json!({"by": self.by, "note": self.note});
        let path = format!("/v1/tasks/{}/{what}", self.id);
        let task = client.post_seen(&path, &body, seen)?;
        shown(&client, &task, self.result.format, out)
    }
}

impl RetryArgs {
    pub(super) fn run(&self, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
        let client = Client::new(&self.result.api)?;
        let reasons = (!self.reasons.is_empty()).then_some(&self.reasons);
        let path = format!("/v1/tasks/{}/retry", self.id);
        let answer = client.post(&path, &json!({"reasons": reasons}))?;
        match self.result.format {
            Format::Json => output::json(out, &answer)?,
            Format::Text => {
                let retried = answer["retried"].as_u64().unwrap_or(0);
                writeln!(out, "{} tried again", counted(retried, "upgrade"))?;
                tell(&client.view(&answer["task"])?, out)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl SetArgs {
    pub(super) fn run(&self, out: &mut dyn Write) -> Result<ExitCode, CommandError> {
        let client = Client::new(&self.result.api)?;
        let rules = self.rules.as_ref().map(read_rules).transpose()?;
        let mut rules = rules.unwrap_or_default();
        self.share.add_to(&mut rules);
        self.budget.add_to(&mut rules);
        let path = format!("/v1/tasks/{}", self.id);
        let task = client.patch_seen(&path, &Value::Object(rules), self.seen)?;
        shown(&client, &task, self.result.format, out)
    }
}

/// The fields of a file that says how a task is run: TOML, or JSON where its name ends so.
pub(super) fn read_rules(path: &PathBuf) -> Result<Map<String, Value>, CommandError> {
    let wrong = |why: String| CommandError::Arguments(format!("{}: {why}", path.display()));
    let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
    if path
        .extension()
        .is_some_and(|extension| extension == "json")
    {
        return serde_json::from_str(&text).map_err(|error| wrong(error.to_string()));
    }
    toml::from_str(&text).map_err(|error| wrong(error.to_string()))
}

fn post(
    id: i64,
    what: &str,
    body: &Value,
    result: &ResultArgs,
    out: &mut dyn Write,
) -> Result<ExitCode, CommandError> {
    let client = Client::new(&result.api)?;
    let task = client.post(&format!("/v1/tasks/{id}/{what}"), body)?;
    shown(&client, &task, result.format, out)
}

fn shown(
    client: &Client,
    task: &Value,
    format: Format,
    out: &mut dyn Write,
) -> Result<ExitCode, CommandError> {
    match format {
        Format::Json => output::json(out, task)?,
        Format::Text => tell(&client.view(task)?, out)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn tell(view: &TaskView, out: &mut dyn Write) -> Result<(), CommandError> {
    let state = view.state.replace('_', " ");
    writeln!(out, "task {} is {state}: {}", view.id, view.stand())?;
    Ok(())
}
