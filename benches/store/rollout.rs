//! What phases and filters cost: a task with five phases that is created, the planner's look at it, and lists by filters. The fleet
//! has attributes, versions and coverage, and a database of its own.

use std::{path::Path, time::Duration};

use cellwise::{
    clock::{Instant, Now, UtcMillis},
    filter::Filter,
    ledger::{
        Attribute, AttributesChange, Change, Coverage, CoverageReading, CoverageSource, PackageId,
    },
    package::Version,
    shard::COMMIT_BATCH,
    store::{
        Agenda as _, DeviceFilter, Inventory as _, Ledger as _, NewDevice, NewTask, Selection,
        SqliteStore,
    },
    task::{Budget, Paces, Source, TaskRules, plan, that_begin},
};

use nix::sys::resource::{UsageWho, getrusage};

use super::{
    Figures,
    fleet::{self, Fleet, PRODUCT, T0, endpoint, next_batch, t},
    lists, now,
    waits::Waits,
};

/// The fleet that the planner's look is compared with.
const SMALL: u32 = 10_000;
/// Looks at the tasks.
const LOOKS: u32 = 200;
/// Upgrades that a look asks for, as the server does.
const DUE: u32 = 500;
/// Times that a filter's devices are counted.
const COUNTS: u32 = 5;
/// First pages of a filter that are read.
const PAGES: u32 = 50;
/// Devices of a page.
const PAGE: u32 = 100;

const BY_PERCENT: &str =
    r#"{"phases": [{"percent": 10}, {"percent": 15}, {"percent": 20}, {"percent": 25}, {}]}"#;
const STRATIFIED: &str = r#"{"stratified": true,
    "phases": [{"percent": 10}, {"percent": 15}, {"percent": 20}, {"percent": 25}, {}]}"#;
const BY_FILTER: &str = r#"{"phases": [{"filter": "site==site-00*"}, {"filter": "tag.ring==1"},
    {"filter": "model==M1,model==M2"}, {"filter": "rsrp<-110"}, {}]}"#;

/// Lets every device through, and each has to be looked at.
const ALL: &str = "hardware==B*";
/// Lets every other device through.
const HALF: &str = "tag.customer==north";

/// By what they are found, and whom they let through.
const FILTERS: [(&str, &str); 4] = [
    ("indexed", "model==M3"),
    ("tag", HALF),
    ("unindexed", "rsrp<-110;version<V3"),
    ("nobody", "hardware==C*"),
];

pub(crate) async fn measure(devices: u32, kept: Option<&Path>, figures: &mut Figures) {
    let small = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(small.path()).await.unwrap();
    let of_small = SMALL.min(devices);
    fill(&Fleet::new(of_small), &store).await;
    let package = fleet::package(&store).await;
    create(&store, package, (BY_PERCENT, ALL), of_small).await;
    let small_looks = looks(&store).await;
    for (name, times) in &small_looks {
        lists::add(&format!("{name}_of_10000_devices"), times, figures);
    }
    store.close().await;

    let fleet = Fleet::new(devices);
    let directory = tempfile::tempdir().unwrap();
    filled(&fleet, directory.path(), kept).await;
    let store = SqliteStore::open(directory.path()).await.unwrap();
    filters(&store, figures).await;
    let package = fleet::package(&store).await;
    for (name, rules, filter, expected) in [
        ("five_phases_filter_of_all", BY_PERCENT, ALL, devices),
        (
            "five_phases_filter_of_half",
            BY_PERCENT,
            HALF,
            devices.div_ceil(2),
        ),
        ("five_phases_stratified", STRATIFIED, ALL, devices),
        ("five_phases_by_filter", BY_FILTER, ALL, devices),
    ] {
        let waits = Waits::begin(&fleet, &store);
        let (begun, spent) = (now(), cpu_time());
        create(&store, package, (rules, filter), expected).await;
        figures.seconds(&format!("task_{name}_s"), begun.elapsed());
        // what a busy machine does not change so much, commits beside it included
        figures.seconds(
            &format!("task_{name}_cpu_s"),
            cpu_time().saturating_sub(spent),
        );
        let name = format!("task_{name}_commit_waits");
        waits.end(&name, figures).await;
        if rules == BY_PERCENT && filter == ALL {
            for ((name, times), (_, of_small)) in looks(&store).await.iter().zip(&small_looks) {
                lists::add(&format!("{name}_of_all_devices"), times, figures);
                let middle = times.len() / 2;
                let ratio = times[middle].as_secs_f64() / of_small[middle].as_secs_f64();
                figures.add(&format!("{name}_of_all_devices_vs_10000"), ratio);
            }
        }
    }
    store.close().await;
}

/// Of this process so far, user and system.
fn cpu_time() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_SELF).unwrap();
    [usage.user_time(), usage.system_time()]
        .map(|time| {
            Duration::from_secs(time.tv_sec().unsigned_abs())
                + Duration::from_micros(time.tv_usec().unsigned_abs())
        })
        .into_iter()
        .sum()
}

/// Creates a task whose filter lets so many devices through.
async fn create(
    store: &SqliteStore,
    package: PackageId,
    (rules, filter): (&str, &str),
    expected: u32,
) {
    let selection = Selection::Filter(Filter::parse(filter).unwrap());
    let new = NewTask {
        rules: serde_json::from_str::<TaskRules>(rules).unwrap(),
        ..fleet::task(package, selection)
    };
    let task = store.create_task(&new).await.unwrap();
    assert_eq!(task.total(), u64::from(expected));
}

/// Where the tasks stand, and what of them may begin.
async fn planned(store: &SqliteStore, at: UtcMillis) -> Vec<Source> {
    let heads = store.task_heads(at).await.unwrap();
    let now = Now {
        instant: Instant::ZERO,
        utc: at,
    };
    plan(&heads, &Paces::default(), now).start
}

/// What the planner asks and computes each time, with the upgrades that begin.
pub(crate) async fn look(store: &SqliteStore, at: UtcMillis) -> usize {
    let sources = planned(store, at).await;
    store.due_upgrades(&sources, at, DUE).await.unwrap().len()
}

/// The same where each device has a budget.
async fn look_at_budgets(store: &SqliteStore, at: UtcMillis) -> usize {
    let budget = Some(Budget {
        bytes_per_month: Some(1_000_000_000),
        airtime_estimated_seconds_per_month: None,
    });
    let sources = planned(store, at).await.into_iter();
    let sources: Vec<Source> = sources.map(|it| Source { budget, ..it }).collect();
    let due = store.due_upgrades(&sources, at, DUE).await.unwrap();
    that_begin(due, &sources).orders.len()
}

async fn looks(store: &SqliteStore) -> [(&'static str, Vec<Duration>); 3] {
    let plans = lists::times(LOOKS, async |_| {
        assert!(!planned(store, T0).await.is_empty());
    });
    let plans = plans.await;
    let looks = lists::times(LOOKS, async |_| assert!(look(store, T0).await > 0));
    let looks = looks.await;
    let budgets = lists::times(LOOKS, async |_| {
        assert!(look_at_budgets(store, T0).await > 0);
    });
    [
        ("plan", plans),
        ("plan_and_500_due", looks),
        ("plan_and_500_due_with_budgets", budgets.await),
    ]
}

/// How many devices a filter lets through, and the first of them.
async fn filters(store: &SqliteStore, figures: &mut Figures) {
    for (name, filter) in FILTERS {
        let filter = DeviceFilter {
            product: Some(PRODUCT.to_owned()),
            filter: Some(Filter::parse(filter).unwrap()),
            now: T0,
            ..DeviceFilter::default()
        };
        let found = store.count_devices(&filter).await.unwrap();
        figures.add(&format!("filter_{name}_devices"), found as f64);
        let times = lists::times(COUNTS, async |_| {
            store.count_devices(&filter).await.unwrap();
        });
        let times = times.await;
        figures.seconds(&format!("filter_{name}_count_s"), times[times.len() / 2]);
        let times = lists::times(PAGES, async |_| {
            store.devices(&filter, None, PAGE).await.unwrap();
        });
        lists::add(&format!("filter_{name}_first_page"), &times.await, figures);
    }
}

/// A database with the fleet: that which an earlier run kept, if it did.
async fn filled(fleet: &Fleet, directory: &Path, kept: Option<&Path>) {
    let name = cellwise::store::FILE_NAME;
    let kept = kept.map(|kept| kept.join(name));
    if let Some(kept) = &kept
        && kept.exists()
    {
        std::fs::copy(kept, directory.join(name)).unwrap();
        return;
    }
    let store = SqliteStore::open(directory).await.unwrap();
    fill(fleet, &store).await;
    store.close().await;
    if let Some(kept) = kept {
        std::fs::create_dir_all(kept.parent().unwrap()).unwrap();
        std::fs::copy(directory.join(name), kept).unwrap();
    }
}

/// Devices of a few models and versions at a thousand sites, each in a cell.
async fn fill(fleet: &Fleet, store: &SqliteStore) {
    let numbers: Vec<u32> = (0..fleet.devices).collect();
    for numbers in numbers.chunks(10_000) {
        let devices: Vec<_> = numbers.iter().copied().map(device).collect();
        store.add_devices(&devices, T0).await.unwrap();
    }
    for numbers in numbers.chunks(COMMIT_BATCH / 2) {
        let changes: Vec<_> = numbers.iter().copied().flat_map(reports).collect();
        store.commit(next_batch(), &changes).await.unwrap();
    }
}

fn device(number: u32) -> NewDevice {
    let mut attributes = AttributesChange::default();
    let given = [
        (Attribute::Model, format!("M{}", number % 10)),
        (Attribute::Hardware, format!("B{}", number % 3)),
        (Attribute::Site, format!("site-{:03}", number / 7 % 1_000)),
    ];
    for (attribute, value) in given {
        attributes.set(attribute, Some(value)).unwrap();
    }
    let customer = if number.is_multiple_of(2) {
        "north"
    } else {
        "south"
    };
    for (key, value) in [
        ("customer", customer.to_owned()),
        ("ring", (number / 2 % 20).to_string()),
    ] {
        attributes.set_tag(key, Some(value)).unwrap();
    }
    NewDevice {
        endpoint: endpoint(number),
        product: PRODUCT.to_owned(),
        psk: None,
        mqtt: None,
        attributes,
        via: None,
    }
}

/// What a device has said of its version and its cell.
fn reports(number: u32) -> [Change; 2] {
    let spread = number.wrapping_mul(2_654_435_761) >> 8;
    let version = Version::new(&format!("V{}", 1 + spread % 4)).unwrap();
    let rsrp = -120 + i32::try_from(spread % 40).unwrap();
    let coverage = Coverage {
        cell: Some(spread % 5_000),
        rsrp_dbm: Some(rsrp),
        sinr_db: Some(rsrp / 10 + 15),
    };
    [
        Change::VersionReported {
            endpoint: endpoint(number),
            version,
            at: T0,
        },
        Change::CoverageReported {
            endpoint: endpoint(number),
            reading: CoverageReading {
                coverage,
                at: t(60),
            },
            source: CoverageSource::Object,
        },
    ]
}
