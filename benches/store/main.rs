//! What the database costs with a million devices: `cargo bench --bench store [-- --devices N --format json]`.
//!
//! Everything goes through the trait as the server uses it, into a database in a temporary directory, synced to the
//! disk at each commit.
#![allow(clippy::unwrap_used, clippy::cast_precision_loss)] // it measures or ends

mod fleet;
mod lists;
mod rollout;
mod waits;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use cellwise::{
    clock::UtcMillis,
    ledger::UpgradeId,
    shard::COMMIT_BATCH,
    store::{Agenda as _, Inventory as _, Journal as _, Ledger as _, SqliteStore},
};
use clap::{Parser, ValueEnum};
use fleet::{Fleet, T0, next_batch, t};
use serde_json::{Map, Value, json};
use waits::Waits;

/// Rows that a restart reads at once, as the server does.
const RESTORE_PAGE: u32 = 10_000;
/// Stage changes in transactions of one.
const SINGLE: usize = 1_000;

/// How large the fleet is.
#[derive(Debug, Parser)]
struct Arguments {
    /// Devices that are registered
    #[arg(long, default_value_t = 1_000_000)]
    devices: u32,
    /// Upgrades that run when the server starts again
    #[arg(long, default_value_t = 100_000)]
    running: u32,
    /// What is measured
    #[arg(long, value_enum, default_value_t = Part::All)]
    part: Part,
    /// The fleet of the part `rollout` is taken from this directory, and kept there when it is empty
    #[arg(long)]
    kept: Option<PathBuf>,
    /// What is printed
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// What cargo says to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    All,
    /// Changes, tasks and lists of devices without attributes
    Tables,
    /// Phases, filters, and the planner's look
    Rollout,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Format {
    Text,
    Json,
}

/// What was measured, in the order in which it was.
#[derive(Default)]
struct Figures(Map<String, Value>);

impl Figures {
    fn add(&mut self, name: &str, value: f64) {
        let value = (value * 100.0).round() / 100.0;
        eprintln!("{name:<56} {value:>12}");
        self.0.insert(name.to_owned(), json!(value));
    }

    fn seconds(&mut self, name: &str, time: Duration) {
        self.add(name, time.as_secs_f64());
    }

    fn millis(&mut self, name: &str, time: Duration) {
        self.add(name, time.as_secs_f64() * 1e3);
    }
}

#[allow(clippy::disallowed_methods)] // the time that it takes in fact is what is asked for
fn now() -> std::time::Instant {
    std::time::Instant::now()
}

async fn measure(arguments: &Arguments) -> Figures {
    let mut figures = Figures::default();
    figures.add("devices", f64::from(arguments.devices));
    if arguments.part != Part::Rollout {
        tables(arguments, &mut figures).await;
    }
    if arguments.part != Part::Tables {
        rollout::measure(arguments.devices, arguments.kept.as_deref(), &mut figures).await;
    }
    figures
}

async fn tables(arguments: &Arguments, figures: &mut Figures) {
    let directory = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(directory.path()).await.unwrap();
    let fleet = Fleet::new(arguments.devices);
    register(&fleet, &store, figures).await;
    let upgrades = create_tasks(&fleet, &store, figures).await;
    stage_changes(&store, &upgrades, arguments.running, figures).await;
    startable(&store, figures).await;
    lists::fill_cells(&fleet, &store).await;
    lists::measure(&fleet, &store, figures).await;
    store.close().await;
    restore(directory.path(), figures).await;
    let store = SqliteStore::open(directory.path()).await.unwrap();
    stop_and_delete(&store, figures).await;
    store.close().await;
}

async fn register(fleet: &Fleet, store: &SqliteStore, figures: &mut Figures) {
    let begun = now();
    for chunk in fleet.new_devices().chunks(10_000) {
        store.add_devices(chunk, T0).await.unwrap();
    }
    let rate = f64::from(fleet.devices) / begun.elapsed().as_secs_f64();
    figures.add("devices_added_per_second", rate);
    for name in [
        "first_registrations_per_second",
        "registration_updates_per_second",
    ] {
        let begun = now();
        for numbers in fleet.shuffled().chunks(COMMIT_BATCH) {
            let batch: Vec<_> = numbers.iter().map(|n| fleet::registered(*n)).collect();
            store.commit(next_batch(), &batch).await.unwrap();
        }
        figures.add(
            name,
            f64::from(fleet.devices) / begun.elapsed().as_secs_f64(),
        );
    }
}

/// A task for every device, by each way to select them; the last one stays.
async fn create_tasks(fleet: &Fleet, store: &SqliteStore, figures: &mut Figures) -> Vec<UpgradeId> {
    let package = fleet::package(store).await;
    for (name, selection) in fleet.selections() {
        let waits = Waits::begin(fleet, store);
        let begun = now();
        let task = store
            .create_task(&fleet::task(package, selection))
            .await
            .unwrap();
        figures.seconds(&format!("task_by_{name}_s"), begun.elapsed());
        waits
            .end(&format!("task_by_{name}_commit_waits"), figures)
            .await;
        assert_eq!(task.total(), u64::from(fleet.devices));
        if name == "list" {
            let waits = Waits::begin(fleet, store);
            let begun = now();
            store.stop_task(task.id, t(1), false).await.unwrap();
            store.delete_task(task.id).await.unwrap();
            figures.seconds("task_stopped_and_deleted_s", begun.elapsed());
            waits
                .end("task_stopped_and_deleted_commit_waits", figures)
                .await;
        }
    }
    let task = store
        .tasks(false, None, 1)
        .await
        .unwrap()
        .items
        .remove(0)
        .id;
    let mut upgrades: Vec<UpgradeId> = Vec::new();
    loop {
        let page = store
            .upgrades(task, None, upgrades.last().copied(), 10_000)
            .await
            .unwrap();
        upgrades.extend(page.items.iter().map(|upgrade| upgrade.id));
        if !page.more {
            return upgrades;
        }
    }
}

/// The first upgrades begin and go on to their downloads, as many at once as run.
async fn stage_changes(
    store: &SqliteStore,
    upgrades: &[UpgradeId],
    running: u32,
    figures: &mut Figures,
) {
    let running = &upgrades[..upgrades.len().min(running as usize)];
    let steps = fleet::stages(running);
    let (single, batched) = steps.split_at(SINGLE.min(steps.len()));
    let begun = now();
    for change in single {
        store
            .commit(next_batch(), std::slice::from_ref(change))
            .await
            .unwrap();
    }
    let single_rate = single.len() as f64 / begun.elapsed().as_secs_f64();
    let mut longest = Duration::ZERO;
    let begun = now();
    for batch in batched.chunks(COMMIT_BATCH) {
        let batch_begun = now();
        store.commit(next_batch(), batch).await.unwrap();
        longest = longest.max(batch_begun.elapsed());
    }
    let rate = batched.len() as f64 / begun.elapsed().as_secs_f64();
    figures.add("stage_changes_per_second_one_by_one", single_rate);
    figures.add("stage_changes_per_second", rate);
    figures.add("stage_changes_in_batches_vs_one_by_one", rate / single_rate);
    figures.millis("longest_batch_ms", longest);
}

/// What the rollout asks, with most devices busy: nothing may begin, and everything may.
async fn startable(store: &SqliteStore, figures: &mut Figures) {
    for (name, at) in [
        ("startable_500", T0),
        ("startable_none", UtcMillis(T0.0 - 1)),
    ] {
        let times = lists::times(200, async |_| {
            rollout::look(store, at).await;
        })
        .await;
        lists::add(name, &times, figures);
    }
    let times = lists::times(200, async |_| {
        store.next_due(T0).await.unwrap();
        store.upgrades_to_stop(500).await.unwrap();
        store.task_heads(T0).await.unwrap();
    })
    .await;
    lists::add("nothing_due_or_to_stop", &times, figures);
}

async fn restore(directory: &std::path::Path, figures: &mut Figures) {
    let begun = now();
    let store = SqliteStore::open(directory).await.unwrap();
    figures.seconds("open_s", begun.elapsed());
    let begun = now();
    let (mut busy, mut after) = (0, None);
    loop {
        let page = store
            .restore_busy_devices(after.as_deref(), RESTORE_PAGE)
            .await
            .unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.endpoint.clone());
        busy += page.len();
    }
    figures.add("busy_devices", busy as f64);
    figures.seconds("restore_busy_devices_s", begun.elapsed());
    let begun = now();
    let mut after = None;
    loop {
        let page = store.restore_upgrades(after, RESTORE_PAGE).await.unwrap();
        let Some(last) = page.last() else { break };
        after = Some(last.order.upgrade);
    }
    figures.seconds("restore_upgrades_s", begun.elapsed());
    let begun = now();
    let mut after = Some(0);
    while let Some(number) = after {
        after = store
            .restore_devices(number, RESTORE_PAGE)
            .await
            .unwrap()
            .next;
    }
    figures.seconds("restore_devices_s", begun.elapsed());
    store.close().await;
}

/// Stopping tells every upgrade's outcome: lists of a million events and deliveries follow.
async fn stop_and_delete(store: &SqliteStore, figures: &mut Figures) {
    let webhook = fleet::webhook(store).await;
    let task = store
        .tasks(false, None, 1)
        .await
        .unwrap()
        .items
        .remove(0)
        .id;
    let begun = now();
    store.stop_task(task, t(3_600), false).await.unwrap();
    figures.seconds("task_with_webhook_stopped_s", begun.elapsed());
    lists::measure_events(store, task, webhook, figures).await;
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    let figures = runtime.unwrap().block_on(measure(&arguments));
    match arguments.format {
        Format::Json => println!("{}", Value::Object(figures.0)),
        Format::Text => {
            for (name, value) in figures.0 {
                println!("{name:<56} {value:>12}");
            }
        }
    }
    ExitCode::SUCCESS
}
