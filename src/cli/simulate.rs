//! `cellwise simulate`: what a task would take for a simulated fleet.

mod report;

use std::{io::IsTerminal, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use super::Format;
use crate::{
    clock::SystemClock,
    config::{self, Config},
    ledger::RetryPolicy,
    simulate::{Faults, FleetFile, Progress, Scenario, StoreKind, Summary, simulate, task_file},
    task::{MAX_PRIORITY, MAX_WEIGHT, Share},
};
use report::Run;

/// How often the progress is shown.
const SHOW_EVERY: Duration = Duration::from_millis(500);

/// Runs an upgrade task for a simulated fleet in virtual time: how long would it take, which cells hold it up, how
/// much goes over the air? Everything follows from the seed, and everything that must hold is checked at every step.
/// Exit code 1 when something does not hold.
#[derive(Debug, clap::Args)]
pub struct SimulateArgs {
    /// Simulated devices
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub devices: u32,
    /// Cells that they are spread over
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub cells: u32,
    /// Size of the package
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=31_000))]
    pub package_kib: u32,
    /// Everything that happens by chance follows from this number
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How much goes wrong
    #[arg(long, value_enum, default_value_t)]
    pub faults: Faults,
    /// Crash the server this often, in virtual time: 90s, 20m, 3h
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    pub crash_every: Option<Duration>,
    /// What the fleet is like: docs/fleet.toml is an example
    #[arg(long, value_name = "FILE")]
    pub fleet: Option<PathBuf>,
    /// How the task is run (phases, abort, rate, windows, `not_after`), and its packages where it has several (each with a version,
    /// a size and what it is for; steps): docs/tasks/canary.toml and docs/tasks/steps.toml are examples. The simulation
    /// begins on Friday, 2027-01-15, at 08:00 UTC; the task starts when all devices have registered, 10 minutes later
    /// where the fleet file says nothing else. A task that is held is resumed an hour later; an approval is taken as given.
    /// Devices join it where the fleet file has some that come later
    #[arg(long, value_name = "FILE")]
    pub task: Option<PathBuf>,
    /// Forecast the task at its start and while it runs, and print that beside what then happens. The same fleet is upgraded
    /// once before, in another course, and is in service for a while, so that something is known of it. Not with several products (--faults harsh)
    #[arg(long)]
    pub forecast: bool,
    /// Forecast it also so long after its start, in virtual time: 90s, 20m, 24h. Can be given several times
    #[arg(long, value_name = "DURATION", requires = "forecast", value_parser = duration)]
    pub forecast_after: Vec<Duration>,
    /// One of several tasks that share the slots of cells: its priority (0 to 9) and its weight (1 to 1000), such as 5:3. Each
    /// time it is given there is one task more, with a product of its own; the devices are dealt out to the products
    #[arg(long = "share", value_name = "PRIORITY:WEIGHT", value_parser = share)]
    pub shares: Vec<Share>,
    /// The server's settings
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Further attempts after a failure
    #[arg(long, default_value_t = 2)]
    pub retry_attempts: u32,
    /// Seconds between a failure and the next attempt
    #[arg(long, default_value_t = 300)]
    pub retry_interval_s: u32,
    /// Where the simulated server keeps its state
    #[arg(long, value_enum, default_value_t)]
    pub store: StoreKind,
    /// What is printed on standard output; progress goes to standard error
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// Runs the command. Exit codes: 0 all that must hold holds, 1 it does not, or the command cannot run.
pub fn run(args: &SimulateArgs) -> ExitCode {
    let clock = SystemClock::start();
    let begun = clock.now().instant;
    let summary = match scenario(args).and_then(|scenario| watch(&scenario, &clock)) {
        Ok(summary) => summary,
        Err(problem) => return super::print(Err(problem)),
    };
    let run = Run {
        devices: args.devices as usize,
        cells: args.cells,
        seed: args.seed,
        wall: clock.now().instant.since(begun),
    };
    let printed = super::print(match args.format {
        Format::Text => Ok(run.text(&summary).to_string()),
        Format::Json => {
            serde_json::to_string(&run.line(&summary)).map_err(|error| error.to_string())
        }
    });
    if summary.violations_total == 0 {
        printed
    } else {
        ExitCode::FAILURE
    }
}

/// Shows how far it is on a terminal.
fn watch(scenario: &Scenario, clock: &SystemClock) -> Result<Summary, String> {
    let shown = std::io::stderr().is_terminal();
    let mut next = clock.now().instant + SHOW_EVERY;
    simulate(scenario, |progress| {
        let now = clock.now().instant;
        if shown && now >= next {
            next = now + SHOW_EVERY;
            show(progress);
        }
    })
}

fn show(progress: &Progress) {
    let ended = progress.devices - progress.open;
    let minutes = progress.virtual_ms / 60_000;
    eprint!(
        "\r{ended} of {} upgrades ended, {} h {:02} min simulated, {} events ",
        progress.devices,
        minutes / 60,
        minutes % 60,
        progress.events
    );
}

fn scenario(args: &SimulateArgs) -> Result<Scenario, String> {
    let config = match &args.config {
        Some(path) => {
            config::load(Some(path), std::iter::empty()).map_err(|error| error.to_string())?
        }
        None => Config::default(),
    };
    let fleet = match &args.fleet {
        Some(path) => FleetFile::read(path)?,
        None => FleetFile::default(),
    };
    let task = args.task.as_deref();
    let task = task.map(|path| task_file::read(path, &fleet));
    let task = task.transpose()?.unwrap_or_default();
    Ok(Scenario {
        config: Arc::new(config),
        fleet,
        package_bytes: args.package_kib as usize * 1024,
        products: args.faults.products().max(args.shares.len()),
        faults: args.faults,
        crash_every: args.crash_every,
        retry: RetryPolicy {
            attempts: args.retry_attempts,
            interval_s: args.retry_interval_s,
            ..RetryPolicy::default()
        },
        rules: task.rules,
        packages: task.packages,
        shares: args.shares.clone(),
        store: args.store,
        forecast: args.forecast,
        forecast_after: args.forecast_after.clone(),
        ..Scenario::new(args.devices as usize, args.cells, args.seed)
    })
}

/// A priority and a weight, with a colon between them.
fn share(text: &str) -> Result<Share, String> {
    let parts = text.split_once(':');
    let parts = parts.and_then(|(one, two)| Some((one.parse().ok()?, two.parse().ok()?)));
    (parts.map(|(priority, weight)| Share { priority, weight }))
        .filter(|it| it.priority <= MAX_PRIORITY && (1..=MAX_WEIGHT).contains(&it.weight))
        .ok_or_else(|| {
            format!("say PRIORITY:WEIGHT, 0 to {MAX_PRIORITY} and 1 to {MAX_WEIGHT}, such as 5:3")
        })
}

/// A number with `s`, `m` or `h` behind it.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, seconds) = match text.chars().last() {
        Some('s') => (&text[..text.len() - 1], 1),
        Some('m') => (&text[..text.len() - 1], 60),
        Some('h') => (&text[..text.len() - 1], 3_600),
        _ => return Err("say 90s, 20m or 3h".to_owned()),
    };
    number
        .parse::<u64>()
        .ok()
        .filter(|number| *number > 0)
        .map(|number| Duration::from_secs(number.saturating_mul(seconds)))
        .ok_or_else(|| "say 90s, 20m or 3h".to_owned())
}
