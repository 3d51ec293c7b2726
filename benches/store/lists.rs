//! Pages of every list, from random places in it.

use std::time::Duration;

use cellwise::{
    ledger::{Change, PackageId, Stage, TaskId, UpgradeId},
    shard::COMMIT_BATCH,
    store::{
        Agenda as _, Catalog as _, DeliveryId, DeliveryState, DeviceFilter, Events as _,
        Inventory as _, Journal as _, Ledger as _, SqliteStore, UpgradeState, WebhookId,
    },
};

use super::{
    Figures,
    fleet::next_batch,
    fleet::{Fleet, PRODUCT, T0, endpoint},
    now,
};

/// Pages of each list that are read.
const SAMPLES: u32 = 200;
/// Rows of a page: what the API gives unasked, and the most that it gives.
const LIMITS: [u32; 2] = [100, 1_000];
/// Cells in the table.
const CELLS: u32 = 1_000_000;
/// From a cell's number to the next.
const CELL_STEP: u32 = 100;

/// How long it takes each time.
pub(crate) async fn times(count: u32, work: impl AsyncFn(u32)) -> Vec<Duration> {
    let mut times = Vec::new();
    for sample in 0..count {
        let begun = now();
        work(sample.wrapping_mul(2_654_435_761)).await;
        times.push(begun.elapsed());
    }
    times.sort_unstable();
    times
}

pub(crate) fn add(name: &str, times: &[Duration], figures: &mut Figures) {
    figures.millis(&format!("{name}_median_ms"), times[times.len() / 2]);
    figures.millis(&format!("{name}_p99_ms"), times[times.len() * 99 / 100]);
}

pub(crate) async fn fill_cells(fleet: &Fleet, store: &SqliteStore) {
    let cells: Vec<Change> = (0..CELLS.min(fleet.devices))
        .map(|cell| Change::Admitted {
            cell: cell * CELL_STEP,
            limit: 50,
            active: 1,
            at: T0,
        })
        .collect();
    for batch in cells.chunks(COMMIT_BATCH) {
        store.commit(next_batch(), batch).await.unwrap();
    }
}

pub(crate) async fn measure(fleet: &Fleet, store: &SqliteStore, figures: &mut Figures) {
    for limit in LIMITS {
        devices(fleet, store, limit, figures).await;
        let newest = store
            .tasks(false, None, 1)
            .await
            .unwrap()
            .items
            .remove(0)
            .id;
        let first = store.upgrades(newest, None, None, 1).await.unwrap();
        let first = first.items[0].id.0;
        for (name, state) in [
            ("all", None),
            ("pending", Some(UpgradeState::Pending)),
            ("running", Some(UpgradeState::Active(Stage::Downloading))),
        ] {
            let times = times(SAMPLES, async |random| {
                let after = UpgradeId(first + i64::from(random % fleet.devices));
                let page = store.upgrades(newest, state, Some(after), limit);
                page.await.unwrap();
            });
            add(
                &format!("list_upgrades_{name}_{limit}"),
                &times.await,
                figures,
            );
        }
        let times_of = times(SAMPLES, async |random| {
            let after = random % (CELLS.min(fleet.devices) * CELL_STEP);
            store.cells(Some(after), None, limit).await.unwrap();
        });
        add(&format!("list_cells_{limit}"), &times_of.await, figures);
        let times_of = times(SAMPLES, async |_| {
            store.tasks(false, None, limit).await.unwrap();
            store
                .packages(None, Some(PackageId(2)), limit)
                .await
                .unwrap();
        });
        add(
            &format!("list_tasks_and_packages_{limit}"),
            &times_of.await,
            figures,
        );
    }
    let times_of = times(SAMPLES, async |_| {
        store.task(TaskId(2)).await.unwrap();
    });
    add("one_task", &times_of.await, figures);
}

async fn devices(fleet: &Fleet, store: &SqliteStore, limit: u32, figures: &mut Figures) {
    let product = Some(PRODUCT.to_owned());
    let prefix = Some("urn:imei:86".to_owned());
    for (name, product, registered, prefix) in [
        ("all", None, None, None),
        ("product", product.clone(), None, None),
        ("registered", None, Some(true), None),
        ("prefix", None, None, prefix.clone()),
        ("product_registered", product.clone(), Some(true), None),
        (
            "product_registered_prefix",
            product.clone(),
            Some(true),
            prefix,
        ),
        ("product_unregistered", product, Some(false), None),
    ] {
        let filter = DeviceFilter {
            product,
            registered,
            prefix,
            ..DeviceFilter::default()
        };
        let times = times(SAMPLES, async |random| {
            let after = endpoint(random % fleet.devices);
            let page = store.devices(&filter, Some(&after), limit);
            page.await.unwrap();
        });
        add(
            &format!("list_devices_{name}_{limit}"),
            &times.await,
            figures,
        );
    }
}

pub(crate) async fn measure_events(
    store: &SqliteStore,
    task: TaskId,
    webhook: WebhookId,
    figures: &mut Figures,
) {
    let (_, newest) = store.event_range().await.unwrap();
    for limit in LIMITS {
        for (name, task) in [("all", None), ("task", Some(task))] {
            let times = times(SAMPLES, async |random| {
                let after = i64::from(random) % newest;
                store.events(after, task, limit).await.unwrap();
            });
            add(
                &format!("list_events_{name}_{limit}"),
                &times.await,
                figures,
            );
        }
        for (name, state) in [("all", None), ("pending", Some(DeliveryState::Pending))] {
            let times = times(SAMPLES, async |random| {
                let before = DeliveryId(i64::from(random) % newest);
                let page = store.deliveries(webhook, state, Some(before), limit);
                page.await.unwrap();
            });
            add(
                &format!("list_deliveries_{name}_{limit}"),
                &times.await,
                figures,
            );
        }
    }
    let times_of = times(SAMPLES, async |_| {
        store.webhooks(None, None, 100).await.unwrap();
    });
    add("list_webhooks", &times_of.await, figures);
}
