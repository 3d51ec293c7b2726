use std::time::Duration;

use super::{NOT_HEARD, T0, UPGRADED, World, ended, stage, t};
use crate::{
    clock::UtcMillis,
    ledger::Stage,
    store::{CellChange, CellUpdate, Store, UpdateCellsError, UpgradeState},
    task::{BusyHours, CellRules, ClosingUpdate, LimitedBy, RulesUpdate},
};

fn limit(cell: u32, limit: Option<u32>) -> CellUpdate {
    CellUpdate {
        cell,
        rules: RulesUpdate {
            limit: Some(limit),
            ..RulesUpdate::default()
        },
        note: None,
        seen: None,
    }
}

fn closing(cell: u32, closing: ClosingUpdate) -> CellUpdate {
    CellUpdate {
        cell,
        rules: RulesUpdate {
            closing,
            ..RulesUpdate::default()
        },
        note: None,
        seen: None,
    }
}

async fn changed(store: &impl Store, revision: i64) -> Vec<u32> {
    let changes = store.cell_changes_since(revision, 9).await.unwrap();
    changes.iter().map(|change| change.cell).collect()
}

pub(crate) async fn rules_are_kept_and_their_changes_seen_in_order(store: &impl Store) {
    assert_eq!(store.cell(51).await.unwrap(), None);
    assert!(changed(store, 0).await.is_empty());
    let json = r#"[{"days":["mon"],"from":"17:00","to":"20:00","zone":"Europe/Berlin","limit":2}]"#;
    let busy: Vec<BusyHours> = serde_json::from_str(json).unwrap();
    let reason = || "mast works".to_owned();
    let all = CellUpdate {
        cell: 51,
        rules: RulesUpdate {
            limit: Some(Some(5)),
            closing: ClosingUpdate::Close {
                until: Some(t(60)),
                reason: Some(reason()),
            },
            busy_hours: Some(busy.clone()),
            adaptive: Some(Some(true)),
        },
        note: Some(Some("note".to_owned())),
        seen: None,
    };
    let until = None;
    let reason = reason();
    let outage = closing(u32::MAX, ClosingUpdate::Outage { until, reason });
    store.update_cells(&[all, outage], T0).await.unwrap();
    let detail = store.cell(51).await.unwrap().unwrap();
    assert_eq!(
        (detail.rules.limit, &detail.rules.busy_hours),
        (Some(5), &busy)
    );
    assert_eq!(detail.note.as_deref(), Some("note"));
    assert_eq!(detail.rules.closed(t(59)).unwrap().1, LimitedBy::Closing);
    assert_eq!(detail.rules.closed(t(60)), None);
    let other = store.cell(u32::MAX).await.unwrap().unwrap();
    assert_eq!(other.rules.closed(t(60)).unwrap().1, LimitedBy::Outage);
    assert_eq!(changed(store, 0).await, [51, u32::MAX]);
    // a cell that changes again comes last; what was not given stays
    let mut update = limit(51, Some(6));
    update.rules.adaptive = Some(Some(false));
    store.update_cells(&[update], t(1)).await.unwrap();
    assert_eq!(changed(store, 0).await, [u32::MAX, 51]);
    let changes = store.cell_changes_since(0, 1).await.unwrap();
    let [CellChange { revision, .. }] = changes[..] else {
        panic!("{changes:?}");
    };
    assert_eq!(changed(store, revision).await, [51]);
    let rules = CellRules {
        limit: Some(6),
        adaptive: Some(false),
        ..detail.rules
    };
    let last = store.cell_changes_since(revision, 9).await.unwrap();
    assert_eq!(last[0].rules, rules);
    assert!(changed(store, last[0].revision).await.is_empty());
    let page = store.cells(None, None, 9).await.unwrap();
    let cells: Vec<u32> = page.items.iter().map(|cell| cell.record.cell).collect();
    assert_eq!(cells, [51, u32::MAX]);
    assert_eq!(page.items[0].rules, rules);
}

pub(crate) async fn closed_cells_are_listed_apart(store: &impl Store) {
    let at = |ms: u64| T0 + Duration::from_millis(ms);
    let close = |cell, until: Option<UtcMillis>| {
        let reason = Some("works".to_owned());
        closing(cell, ClosingUpdate::Close { until, reason })
    };
    let updates = [
        close(61, None),
        close(62, Some(at(1_000))),
        close(64, Some(at(2_000))),
        limit(63, Some(1)),
    ];
    store.update_cells(&updates, T0).await.unwrap();
    let closed = async |after, ms, limit| {
        let page = store.cells(after, Some(at(ms)), limit).await.unwrap();
        let cells: Vec<u32> = page.items.iter().map(|cell| cell.record.cell).collect();
        (cells, page.more)
    };
    assert_eq!(closed(None, 0, 9).await, (vec![61, 62, 64], false));
    assert_eq!(closed(None, 0, 2).await, (vec![61, 62], true));
    assert_eq!(closed(Some(62), 0, 2).await, (vec![64], false));
    // as the rules themselves say
    for ms in [999, 1_000, 1_999, 2_000] {
        let page = store.cells(None, None, 99).await.unwrap();
        let all = page.items.into_iter();
        let told = all.filter(|cell| cell.rules.closed(at(ms)).is_some());
        let told: Vec<u32> = told.map(|cell| cell.record.cell).collect();
        assert_eq!(closed(None, ms, 99).await.0, told, "{ms}");
    }
    let open = closing(61, ClosingUpdate::Open);
    store.update_cells(&[open], at(2_000)).await.unwrap();
    assert_eq!(closed(None, 2_000, 9).await, (vec![], false));
}

pub(crate) async fn rules_change_all_or_none(store: &impl Store) {
    let (until, reason) = (None, None);
    let without = closing(52, ClosingUpdate::Close { until, reason });
    let refused = store.update_cells(&[limit(51, Some(5)), without], T0).await;
    assert!(
        matches!(refused, Err(UpdateCellsError::Rules { cell: 52, .. })),
        "{refused:?}"
    );
    assert_eq!(store.cell(51).await.unwrap(), None);
    // of one cell the last word counts
    let twice = [limit(51, Some(5)), limit(51, Some(7)), limit(52, None)];
    store.update_cells(&twice, T0).await.unwrap();
    let detail = store.cell(51).await.unwrap().unwrap();
    assert_eq!(detail.rules.limit, Some(7));
    let many: Vec<CellUpdate> = (0..1_234).map(|cell| limit(cell, Some(3))).collect();
    store.update_cells(&many, t(1)).await.unwrap();
    let changes = store.cell_changes_since(0, 2_000).await.unwrap();
    assert_eq!(changes.len(), 1_234);
    assert!(changes.is_sorted_by(|a, b| a.revision < b.revision));
    store.update_cells(&[], t(2)).await.unwrap();
}

pub(crate) async fn a_cell_tells_who_has_a_slot_and_what_became_of_upgrades(store: &impl Store) {
    const CELL: u32 = 51_234;
    let (world, task) = World::with_task(store, 4, 0).await;
    let ids = world.ids(task.id).await;
    let mut changes: Vec<_> = (ids.iter())
        .map(|id| stage(*id, 1, Stage::WaitingForSlot, t(1)))
        .collect();
    changes.extend([0, 1, 3].map(|at| stage(ids[at], 1, Stage::Downloading, t(2))));
    changes.push(stage(ids[1], 1, Stage::Executing, t(3)));
    world.commit(&changes).await;
    let holders = store.cell(CELL).await.unwrap().unwrap().holders;
    let holders: Vec<_> = (holders.into_iter())
        .map(|holder| (holder.upgrade, holder.endpoint, holder.state))
        .collect();
    let active = UpgradeState::Active;
    let expected = [
        (ids[0], "d0".to_owned(), active(Stage::Downloading)),
        (ids[1], "d1".to_owned(), active(Stage::Executing)),
        (ids[3], "d3".to_owned(), active(Stage::Downloading)),
    ];
    assert_eq!(holders, expected);
    world
        .commit(&[
            ended(ids[0], task.id, 1, NOT_HEARD, Some(t(300)), t(4)),
            ended(ids[1], task.id, 1, UPGRADED, None, t(4)),
            ended(ids[2], task.id, 1, NOT_HEARD, None, t(4)),
        ])
        .await;
    let record = store.cell(CELL).await.unwrap().unwrap().record;
    assert_eq!((record.succeeded, record.active, record.waiting), (1, 1, 0));
    // the first of the task has another attempt where the task allows one
    let first = world.state_of(ids[0]).await;
    let failed = 1 + u64::from(first == UpgradeState::Failed);
    assert_eq!(record.failed, failed);
    // rules leave the counts alone
    store
        .update_cells(&[limit(CELL, Some(3))], t(5))
        .await
        .unwrap();
    let again = store.cell(CELL).await.unwrap().unwrap();
    assert_eq!((again.record, again.rules.limit), (record, Some(3)));
}
