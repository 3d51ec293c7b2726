use std::time::Duration;

use super::{T0, World, stage, t};
use crate::{
    clock::UtcMillis,
    ledger::{Change, Coverage, CoverageReading, CoverageSource, Stage, TaskId},
    store::{LimitChange, Store, TaskPoint},
};

pub(crate) async fn a_task_has_so_many_points_at_most(store: &impl Store) {
    let (_, task) = World::with_task(store, 1, 0).await;
    let point = |minute: u64| TaskPoint {
        at: T0 + Duration::from_secs(60 * minute),
        waiting: minute,
        expected: minute.is_multiple_of(2).then_some(minute),
        ..TaskPoint::default()
    };
    for minute in 0..1_000 {
        store.add_task_point(task.id, &point(minute)).await.unwrap();
    }
    let all = store.task_series(task.id).await.unwrap();
    assert_eq!(all, (0..1_000).map(point).collect::<Vec<_>>());
    store.add_task_point(task.id, &point(1_000)).await.unwrap();
    let thinned = store.task_series(task.id).await.unwrap();
    assert_eq!(thinned.len(), 501);
    assert_eq!(thinned.last(), Some(&point(1_000)));
    assert_eq!(thinned[0], point(0));
    // one that is not there, or not any more, has none
    store.add_task_point(TaskId(99), &point(0)).await.unwrap();
    assert!(store.task_series(TaskId(99)).await.unwrap().is_empty());
}

pub(crate) async fn a_cell_has_a_point_for_each_hour_of_a_week(store: &impl Store) {
    let (world, task) = World::with_task(store, 2, 0).await;
    let upgrades = world.ids(task.id).await;
    store.add_cell_points(T0).await.unwrap();
    assert!(store.cell_series(7).await.unwrap().is_empty());
    let waits = stage(upgrades[0], 1, Stage::WaitingForSlot, T0);
    let downloads = stage(upgrades[1], 1, Stage::Downloading, T0);
    world.commit(&[waits, downloads]).await;
    let cell = 51_234;
    let hour = |number: u64| UtcMillis(T0.0) + Duration::from_hours(number);
    for number in 0..200 {
        store.add_cell_points(hour(number)).await.unwrap();
        store
            .add_cell_points(hour(number) + Duration::from_secs(1))
            .await
            .unwrap();
    }
    let points = store.cell_series(cell).await.unwrap();
    assert_eq!(points.len(), 168);
    assert_eq!(
        (points[0].active, points[0].waiting, points[0].failed),
        (1, 1, 0)
    );
    assert_eq!(points[167].at, hour(199) + Duration::from_secs(1));
    assert!(points.windows(2).all(|pair| pair[0].at < pair[1].at));
}

pub(crate) async fn a_cell_has_the_last_changes_of_its_limit(store: &impl Store) {
    let change = |cell, second: u64| LimitChange {
        cell,
        at: t(second),
        most: (!second.is_multiple_of(7)).then_some(35),
        before: second.is_multiple_of(3).then_some(50),
        percent: 100 + second,
    };
    store.add_limit_changes(&[]).await.unwrap();
    assert_eq!(store.limit_changes(7).await.unwrap(), []);
    let first: Vec<_> = (0..30)
        .flat_map(|at| [change(7, at), change(8, at)])
        .collect();
    store.add_limit_changes(&first).await.unwrap();
    // of two in the same moment both are kept, in their order
    let further: Vec<_> = (30..80).map(|at| change(7, at / 2 * 2)).collect();
    store.add_limit_changes(&further).await.unwrap();
    assert_eq!(store.limit_changes(7).await.unwrap(), further);
    let of_other: Vec<_> = (0..30).map(|at| change(8, at)).collect();
    assert_eq!(store.limit_changes(8).await.unwrap(), of_other);
}

pub(crate) async fn a_device_has_its_last_measurements(store: &impl Store) {
    let (world, _) = World::with_devices(store, 1).await;
    let measured = |second: u64| CoverageReading {
        coverage: Coverage {
            cell: Some(7),
            rsrp_dbm: Some(-90),
            sinr_db: (second > 0).then_some(3),
        },
        at: t(second),
    };
    for second in 0..60 {
        let reported = Change::CoverageReported {
            endpoint: "d0".to_owned(),
            reading: measured(second),
            source: CoverageSource::Object,
        };
        world.commit(&[reported]).await;
    }
    let last = store.device_series("d0").await.unwrap();
    assert_eq!(last, (10..60).map(measured).collect::<Vec<_>>());
    assert!(store.device_series("nobody").await.unwrap().is_empty());
}
