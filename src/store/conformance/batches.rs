//! A batch of changes does what its changes do one by one.
//!
//! Two fleets that differ in their names alone live in one store. The same random changes come to one of them in one
//! commit, to the other one by one; afterwards they have to look the same.

use proptest::{
    collection::vec,
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, TestRunner},
};

use super::{
    NOT_HEARD, UPGRADED, World, ended, list, new_task, next_batch, registered, stage_change, t,
};
use crate::{
    clock::UtcMillis,
    ledger::{
        Cancellation, Change, Coverage, CoverageReading, CoverageSource, Outcome, Protocol, Served,
        Stage, Standby, TaskId, Traffic, UpgradeId,
    },
    store::{MemoryStore, Store, Subject, TaskRecord},
    task::{Move, Source, TaskRules},
};

/// Fleets that are compared: so many pairs of random histories.
const CASES: u32 = 48;
const DEVICES: usize = 4;
/// Numbers of this device and this upgrade are known to nobody.
const UNKNOWN: usize = 7;

/// A change without names.
#[derive(Debug, Clone)]
enum Step {
    Registered(usize),
    Deregistered(usize),
    Version(usize, u8),
    Coverage(usize),
    Stage(usize, u32, Stage),
    Note(usize, u32),
    Progress(usize, u8),
    Serves(usize, u32, u8),
    KeptAwake(usize, u32, u32),
    Traffic(usize, u32),
    Admitted(u32),
    Ended(usize, u32, Outcome, bool),
}

/// What the operator does before the changes come.
#[derive(Debug, Clone, Copy)]
enum Intent {
    Nothing,
    StopsTheSecondTask,
    RemovesADevice,
}

fn step() -> impl Strategy<Value = Step> {
    let device = || prop_oneof![9 => 0..DEVICES, 1 => Just(UNKNOWN)];
    // the first task has an upgrade for each device, the second for two of them
    let upgrade = || prop_oneof![20 => 0..DEVICES + 2, 1 => Just(UNKNOWN)];
    let attempt = || prop_oneof![8 => Just(1_u32), 3 => Just(2), 1 => Just(3)];
    let outcome = prop_oneof![
        Just(UPGRADED),
        Just(NOT_HEARD),
        Just(Outcome::Cancelled(Cancellation::TaskStopped)),
        Just(Outcome::Cancelled(Cancellation::TakenBack))
    ];
    prop_oneof![
        2 => device().prop_map(Step::Registered),
        1 => device().prop_map(Step::Deregistered),
        1 => (device(), any::<u8>()).prop_map(|(device, version)| Step::Version(device, version)),
        1 => device().prop_map(Step::Coverage),
        6 => (upgrade(), attempt(), prop::sample::select(&Stage::ALL[..]))
            .prop_map(|(upgrade, attempt, stage)| Step::Stage(upgrade, attempt, stage)),
        1 => (upgrade(), attempt()).prop_map(|(upgrade, attempt)| Step::Note(upgrade, attempt)),
        2 => (upgrade(), 0..=100_u8).prop_map(|(upgrade, percent)| Step::Progress(upgrade, percent)),
        1 => (upgrade(), attempt(), 1..4_u8)
            .prop_map(|(upgrade, attempt, step)| Step::Serves(upgrade, attempt, step)),
        1 => (upgrade(), 0..9_u32, 0..9_u32)
            .prop_map(|(upgrade, time_s, pings)| Step::KeptAwake(upgrade, time_s, pings)),
        1 => (upgrade(), 1..9_u32)
            .prop_map(|(upgrade, bytes)| Step::Traffic(upgrade, bytes)),
        1 => (1..20_u32).prop_map(Step::Admitted),
        3 => (upgrade(), attempt(), outcome, any::<bool>())
            .prop_map(|(upgrade, attempt, outcome, again)| Step::Ended(upgrade, attempt, outcome, again)),
    ]
}

/// One of the two fleets.
struct Fleet {
    name: String,
    cell: u32,
    tasks: [TaskRecord; 2],
    /// Of the first task, then of the second.
    upgrades: Vec<UpgradeId>,
}

impl Fleet {
    async fn new<S: Store>(world: &World<'_, S>, number: u32) -> Self {
        let name = format!("f{number}");
        let package = world.package(&name, "V2", 1).await;
        let endpoints: Vec<String> = (0..DEVICES).map(|i| format!("{name}-{i}")).collect();
        let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
        world.devices(&name, &endpoints).await;
        let create = async |selection: &[&str]| {
            let mut new = new_task(&package, list(selection));
            new.retry.attempts = 2;
            world.store.create_task(&new).await.unwrap()
        };
        let tasks = [create(&endpoints).await, create(&endpoints[..2]).await];
        let mut upgrades = world.ids(tasks[0].id).await;
        upgrades.extend(world.ids(tasks[1].id).await);
        Self {
            name,
            cell: number * 100,
            tasks,
            upgrades,
        }
    }

    fn endpoint(&self, device: usize) -> String {
        format!("{}-{device}", self.name)
    }

    fn upgrade(&self, index: usize) -> UpgradeId {
        // no store counts from there
        self.upgrades.get(index).copied().unwrap_or(UpgradeId(-1))
    }

    fn task(&self, upgrade: usize) -> TaskId {
        self.tasks[usize::from(upgrade >= DEVICES)].id
    }

    fn change(&self, step: &Step, at: UtcMillis) -> Change {
        match step.clone() {
            Step::Registered(device) => registered(&self.endpoint(device), at),
            Step::Deregistered(device) => Change::Deregistered {
                endpoint: self.endpoint(device),
                at,
            },
            Step::Version(device, version) => Change::VersionReported {
                endpoint: self.endpoint(device),
                version: crate::package::Version::told(&[version; 16]),
                at,
            },
            Step::Coverage(device) => Change::CoverageReported {
                endpoint: self.endpoint(device),
                reading: CoverageReading {
                    coverage: Coverage {
                        cell: Some(5),
                        rsrp_dbm: None,
                        sinr_db: Some(-3),
                    },
                    at,
                },
                source: CoverageSource::Object,
            },
            Step::Stage(upgrade, attempt, stage) => {
                let mut change = stage_change(stage, at);
                change.cell = change.cell.map(|_| self.cell + u32::from(upgrade > 2));
                Change::Stage {
                    upgrade: self.upgrade(upgrade),
                    attempt,
                    change,
                    line: Some(crate::ledger::Line::sentence(&format!(
                        "entered {}",
                        stage.name()
                    ))),
                    at,
                }
            }
            Step::Note(upgrade, attempt) => Change::Note {
                upgrade: self.upgrade(upgrade),
                attempt,
                line: crate::ledger::Line::sentence("noted"),
                at,
            },
            Step::Progress(upgrade, percent) => Change::Progress {
                upgrade: self.upgrade(upgrade),
                progress: crate::ledger::Progress {
                    done_bytes: percent.into(),
                    total_bytes: 100,
                },
                at,
            },
            Step::Serves(upgrade, attempt, step) => Change::Serves {
                upgrade: self.upgrade(upgrade),
                attempt,
                served: Served {
                    package: self.tasks[0].package,
                    step,
                },
            },
            Step::KeptAwake(upgrade, time_s, pings) => Change::KeptAwake {
                upgrade: self.upgrade(upgrade),
                standby: Standby { time_s, pings },
            },
            Step::Traffic(upgrade, bytes) => Change::Traffic {
                upgrade: self.upgrade(upgrade),
                task: self.task(upgrade),
                endpoint: self.endpoint(upgrade % DEVICES),
                cell: Some(self.cell),
                traffic: Traffic {
                    bytes_down: bytes.into(),
                    active_ms: 1_000,
                    ..Traffic::default()
                },
                at,
            },
            Step::Admitted(limit) => Change::Admitted {
                cell: self.cell,
                limit,
                active: limit / 2,
                at,
            },
            Step::Ended(upgrade, attempt, outcome, again) => {
                let retry_at = again.then(|| at + std::time::Duration::from_mins(1));
                let (id, task) = (self.upgrade(upgrade), self.task(upgrade));
                ended(id, task, attempt, outcome, retry_at, at)
            }
        }
    }

    /// Commits the steps at once or one by one. Returns which upgrades were refused.
    async fn commit(
        &self,
        store: &impl Store,
        steps: &[Step],
        from: u64,
        whole: bool,
    ) -> Vec<UpgradeId> {
        let changes: Vec<Change> = (from..)
            .zip(steps)
            .map(|(second, step)| self.change(step, t(second)))
            .collect();
        let mut refused = Vec::new();
        let size = if whole { changes.len().max(1) } else { 1 };
        for batch in changes.chunks(size) {
            let number = next_batch();
            let first = store.commit(number, batch).await.unwrap();
            let again = store.commit(number, batch).await.unwrap();
            assert_eq!(first, again, "committed twice is committed once");
            for upgrade in first.refused {
                if !refused.contains(&upgrade) {
                    refused.push(upgrade);
                }
            }
        }
        refused
    }

    async fn intend(&self, store: &impl Store, intent: Intent) {
        match intent {
            Intent::Nothing => {}
            Intent::StopsTheSecondTask => {
                // it may have finished already
                let _ = store.stop_task(self.tasks[1].id, t(100), false).await;
            }
            Intent::RemovesADevice => {
                store
                    .remove_device(&self.endpoint(1), None, None, t(100))
                    .await
                    .unwrap();
            }
        }
    }

    /// Everything that can be seen of the fleet, without its names and numbers.
    async fn seen(&self, store: &impl Store) -> String {
        let mut seen = Vec::new();
        for device in 0..DEVICES {
            let mut found = store.device(&self.endpoint(device)).await.unwrap();
            // revisions count over all devices
            if let Some(found) = &mut found {
                found.revision = 0;
            }
            seen.push(format!("{found:?}"));
        }
        for upgrade in &self.upgrades {
            let detail = store.upgrade(*upgrade).await.unwrap().unwrap();
            seen.push(format!("{detail:?}"));
        }
        for task in &self.tasks {
            let record = store.task(task.id).await.unwrap();
            seen.push(format!("{record:?}"));
            let mut told = Vec::new();
            for event in store.events(0, Some(task.id), 100).await.unwrap() {
                let subject = match event.subject {
                    Subject::Upgrade { upgrade, .. } => upgrade.0,
                    Subject::Start { .. } | Subject::Offer { .. } | Subject::Task { .. } => 0,
                };
                told.push((
                    subject,
                    format!("{:?} {} {:?}", event.at, event.kind, event.subject),
                ));
            }
            told.sort();
            seen.push(format!("{told:?}"));
        }
        let cells = store
            .cells(Some(self.cell - 1), None, 2)
            .await
            .unwrap()
            .items;
        for cell in cells
            .iter()
            .filter(|cell| cell.record.cell / 100 == self.cell / 100)
        {
            seen.push(format!("{cell:?}"));
        }
        let tasks = self.tasks.each_ref().map(|task| task.id);
        for due in store
            .due_upgrades(&sources(tasks), t(9_999), 1_000)
            .await
            .unwrap()
        {
            seen.push(format!("{due:?}"));
        }
        self.without_names(seen.join("\n"))
    }

    fn without_names(&self, mut text: String) -> String {
        text = text.replace(&format!("\"{}", self.name), "\"f");
        for (index, upgrade) in self.upgrades.iter().enumerate() {
            text = text.replace(&format!("{upgrade:?}"), &format!("upgrade {index}"));
            text = text.replace(&format!("({},", upgrade.0), &format!("(upgrade {index},"));
        }
        for (index, task) in self.tasks.iter().enumerate() {
            text = text.replace(&format!("{:?}", task.id), &format!("task {index}"));
            text = text.replace(&format!("{:?}", task.package), "package");
        }
        for cell in [0, 1] {
            let name = format!("cell: {}", self.cell + cell);
            text = text.replace(&name, &format!("cell: c{cell}"));
            let name = format!("cell: Some({})", self.cell + cell);
            text = text.replace(&name, &format!("cell: Some(c{cell})"));
        }
        text
    }
}

pub(crate) async fn a_batch_is_the_same_as_its_changes_one_by_one(store: &impl Store) {
    let world = World::new(store);
    let mut runner = TestRunner::new(Config::default());
    let intents = [
        Intent::Nothing,
        Intent::StopsTheSecondTask,
        Intent::RemovesADevice,
    ];
    let history = (
        vec(step(), 0..12),
        prop::sample::select(intents.to_vec()),
        vec(step(), 1..40),
    );
    for case in 1..=CASES {
        let (before, intent, batch) = history.new_tree(&mut runner).unwrap().current();
        let mut seen = Vec::new();
        for (number, whole) in [(case * 10, true), (case * 10 + 1, false)] {
            let fleet = Fleet::new(&world, number).await;
            fleet.commit(store, &before, 1, false).await;
            fleet.intend(store, intent).await;
            let refused = fleet.commit(store, &batch, 101, whole).await;
            let refused = fleet.without_names(format!("{refused:?}"));
            seen.push((refused, fleet.seen(store).await));
        }
        let one_by_one = seen.pop().unwrap();
        let (refused, looks) = seen.pop().unwrap();
        let what = format!("{before:?}\n{intent:?}\n{batch:?}");
        assert_eq!(refused, one_by_one.0, "{what}");
        for (whole, single) in looks.lines().zip(one_by_one.1.lines()) {
            assert_eq!(whole, single, "{what}");
        }
        assert_eq!(
            looks.lines().count(),
            one_by_one.1.lines().count(),
            "{what}"
        );
    }
}

impl Fleet {
    /// The same fleet in memory.
    fn in_memory(&self, memory: &mut MemoryStore) -> Self {
        let endpoints: Vec<String> = (0..DEVICES).map(|device| self.endpoint(device)).collect();
        let endpoints: Vec<&str> = endpoints.iter().map(String::as_str).collect();
        for endpoint in &endpoints {
            memory.add_device(endpoint, &self.name, Protocol::Lwm2m);
        }
        let mut tasks = self.tasks.clone();
        let mut upgrades = Vec::new();
        for (task, endpoints) in tasks.iter_mut().zip([&endpoints[..], &endpoints[..2]]) {
            let created = memory
                .create_task(
                    endpoints,
                    &[task.version],
                    (task.created_at, task.start_at),
                    task.retry,
                    &TaskRules::default(),
                )
                .unwrap();
            (task.id, task.package) = (created.task, created.package);
            upgrades.extend(created.upgrades.into_iter().map(|(upgrade, _)| upgrade));
        }
        let begin = tasks.each_ref().map(|task| Move::Begin(task.id));
        memory.make_moves(&begin, t(0));
        Self {
            name: self.name.clone(),
            cell: self.cell,
            tasks,
            upgrades,
        }
    }

    fn changes(&self, steps: &[Step]) -> Vec<Change> {
        let steps = (1..).zip(steps);
        let changes = steps.map(|(second, step)| self.change(step, t(second)));
        changes.collect()
    }

    fn is_mine(&self, endpoint: &str) -> bool {
        endpoint.starts_with(&format!("{}-", self.name))
    }
}

/// All of these tasks.
fn sources(tasks: [TaskId; 2]) -> [Source; 2] {
    tasks.map(|task| Source {
        task,
        priority: 5,
        lot: 0,
        limit: u32::MAX,
        per_minute: None,
        back: None,
        budget: None,
    })
}

/// What is given back after a restart, and what the reconciler and the simulation see.
pub(crate) async fn memory_does_what_the_database_does(store: &impl Store) {
    let world = World::new(store);
    let mut runner = TestRunner::new(Config::default());
    for case in 1_000..1_000 + CASES {
        let steps = vec(step(), 1..60).new_tree(&mut runner).unwrap().current();
        let fleet = Fleet::new(&world, case).await;
        let mut memory = MemoryStore::default();
        let copy = fleet.in_memory(&mut memory);
        let tasks = fleet.tasks.each_ref().map(|task| task.id);

        let report = store.commit(next_batch(), &fleet.changes(&steps)).await;
        let mut seen = vec![format!("{:?}", report.unwrap().refused)];
        for record in store.restore_devices(0, 100_000).await.unwrap().devices {
            if fleet.is_mine(&record.endpoint) {
                seen.push(format!("{record:?}"));
            }
        }
        seen[1..].sort();
        for active in store.restore_upgrades(None, 100_000).await.unwrap() {
            if fleet.is_mine(&active.order.endpoint) {
                seen.push(format!("{active:?}"));
            }
        }
        for head in store.task_heads(t(200)).await.unwrap() {
            if tasks.contains(&head.task) {
                seen.push(format!("{head:?}"));
            }
        }
        let due = store
            .due_upgrades(&sources(tasks), t(200), 9)
            .await
            .unwrap();
        seen.push(format!("{due:?}"));
        for upgrade in &fleet.upgrades {
            let detail = store.upgrade(*upgrade).await.unwrap().unwrap();
            let (record, of_upgrade) = (detail.upgrade, detail.traffic);
            let of_task = store.task(record.task).await.unwrap().unwrap().traffic;
            let reason = record.outcome.map(|outcome| outcome.reason);
            seen.push(format!(
                "{upgrade:?} {} {} {reason:?} {of_upgrade:?} {of_task:?}",
                record.attempts, record.state
            ));
        }
        let database = fleet.without_names(seen.join("\n"));

        let report = memory.commit(next_batch(), &copy.changes(&steps));
        let mut seen = vec![format!("{:?}", report.refused)];
        let devices = memory.restore_devices();
        seen.extend(devices.iter().map(|record| format!("{record:?}")));
        seen[1..].sort();
        let active = memory.restore_upgrades();
        seen.extend(active.iter().map(|active| format!("{active:?}")));
        let heads = memory.task_heads(t(200));
        seen.extend(heads.iter().map(|head| format!("{head:?}")));
        let tasks = copy.tasks.each_ref().map(|task| task.id);
        seen.push(format!(
            "{:?}",
            memory.due_upgrades(&sources(tasks), t(200), 9)
        ));
        for (upgrade, attempts, state, outcome) in memory.upgrades() {
            let reason = outcome.map(|outcome| outcome.reason().to_owned());
            let (of_upgrade, of_task) = memory.traffic(upgrade).unwrap();
            seen.push(format!(
                "{upgrade:?} {attempts} {state} {reason:?} {of_upgrade:?} {of_task:?}"
            ));
        }
        let table = copy.without_names(seen.join("\n"));
        for (database, table) in database.lines().zip(table.lines()) {
            assert_eq!(database, table, "{steps:?}");
        }
        assert_eq!(database.lines().count(), table.lines().count(), "{steps:?}");
    }
}
