mod filters;
mod migrations;
mod packed;
mod parts;
mod plans;
mod putting_back;
mod sealing;
mod users;

use std::os::unix::fs::PermissionsExt;

use sqlx::Connection as _;
use tempfile::TempDir;

use super::*;
use crate::{
    clock::UtcMillis,
    store::{
        AddWebhookError, Agenda as _, Catalog as _, Events as _, Inventory as _, Journal as _,
        Ledger as _, MAX_WEBHOOKS, NewWebhook, SiteKey, Sites as _, TaskRecord, UpgradeState,
        WebhookId,
    },
    tenant::TenantId,
};

async fn open() -> (SqliteStore, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (SqliteStore::open(dir.path()).await.unwrap(), dir)
}

/// Opens a store, and looks when a test is over whether what is kept is what would be counted.
async fn open_checked() -> (SqliteStore, Checked) {
    let (store, dir) = open().await;
    (store, Checked(dir))
}

struct Checked(TempDir);

impl Drop for Checked {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        let file = self.0.path().join(FILE_NAME);
        let check = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().build();
            runtime.unwrap().block_on(kept_is_counted(&file));
        });
        check.join().unwrap();
    }
}

/// Each of these finds what is kept and wrong.
const KEPT: [&str; 11] = [
    "SELECT COALESCE(k.task_id, c.task_id) || ' ' || COALESCE(k.state, c.state) \
     FROM (SELECT * FROM task_counts WHERE count <> 0) k FULL JOIN \
         (SELECT task_id, state, lot, IIF(state = 'failed' \
             OR state = 'cancelled' AND outcome_reason IN ('skipped', 'no_package', 'downgrade'), COALESCE(outcome_reason, ''), '') AS reason, COUNT(*) AS count \
             FROM upgrades GROUP BY 1, 2, 3, 4) c \
         ON k.task_id = c.task_id AND k.state = c.state AND k.lot = c.lot AND k.reason = c.reason \
     WHERE k.count IS NOT c.count",
    "SELECT 'soak ' || COALESCE(k.task_id, c.task_id) || ' ' || COALESCE(k.state, c.state) \
     FROM soak_counts k FULL JOIN \
         (SELECT task_id, state, lot, COUNT(*) AS count FROM soaks WHERE state <> 'soaking' GROUP BY 1, 2, 3) c \
         ON k.task_id = c.task_id AND k.state = c.state AND k.lot = c.lot \
     WHERE k.count IS NOT c.count",
    "SELECT 'lot ' || u.id FROM upgrades u WHERE NOT EXISTS ( \
         SELECT 1 FROM task_lots l WHERE l.task_id = u.task_id AND l.lot = u.lot)",
    "SELECT 'cell ' || cell FROM cells c WHERE \
         active <> (SELECT COUNT(*) FROM upgrades u WHERE u.cell = c.cell AND u.state IN ('downloading', 'executing')) \
         OR waiting <> (SELECT COUNT(*) FROM upgrades u WHERE u.cell = c.cell AND u.state = 'waiting_for_slot')",
    "SELECT 'group ' || id FROM device_groups g \
     WHERE members <> (SELECT COUNT(*) FROM group_members WHERE group_id = g.id)",
    "SELECT 'home ' || id FROM homes h WHERE members <> (SELECT COUNT(*) FROM home_members WHERE home_id = h.id) \
         OR devices <> (SELECT COUNT(*) FROM home_devices WHERE home_id = h.id)",
    "SELECT 'phase ' || id FROM upgrades WHERE phase <> CASE state WHEN 'pending' THEN 0 WHEN 'succeeded' THEN 2 \
         WHEN 'failed' THEN 2 WHEN 'cancelled' THEN 2 ELSE 1 END",
    "SELECT 'free ' || id FROM upgrades u WHERE free <> (phase = 0 AND unconfirmed = 0 \
         AND NOT EXISTS (SELECT 1 FROM upgrades r WHERE r.endpoint = u.endpoint AND r.phase = 1) \
         AND NOT EXISTS (SELECT 1 FROM exclusions e WHERE e.endpoint = u.endpoint) \
         AND NOT EXISTS (SELECT 1 FROM upgrades b WHERE b.id = u.after_id AND b.state <> 'succeeded'))",
    "SELECT 'waits in vain ' || u.id FROM upgrades u JOIN upgrades b ON b.id = u.after_id \
     WHERE u.phase = 0 AND b.phase = 2 AND b.state <> 'succeeded'",
    "SELECT 'cves ' || id FROM packages p WHERE cves_mended <> \
         (SELECT json_group_array(cve ORDER BY cve) FROM package_cves WHERE package_id = p.id)",
    "SELECT 'webhook ' || id FROM webhooks w WHERE \
         pending <> (SELECT COUNT(*) FROM deliveries WHERE webhook_id = w.id AND state = 'pending') \
         OR failed <> (SELECT COUNT(*) FROM deliveries WHERE webhook_id = w.id AND state = 'failed')",
];

async fn kept_is_counted(file: &Path) {
    let options = SqliteConnectOptions::new().filename(file);
    let mut conn = options.connect().await.unwrap();
    for question in KEPT {
        let wrong: Vec<String> = sqlx::query_scalar(question)
            .fetch_all(&mut conn)
            .await
            .unwrap();
        assert_eq!(wrong, Vec::<String>::new());
    }
}

mod suite {
    use crate::store::conformance::whole_suite;

    whole_suite!(super::super::open_checked);
}

#[tokio::test]
async fn what_was_written_is_there_after_opening_again() {
    let (store, dir) = open().await;
    store.set_meta("key", b"value").await.unwrap();
    store.close().await;
    let again = SqliteStore::open(dir.path()).await.unwrap();
    assert_eq!(again.meta("key").await.unwrap(), Some(b"value".to_vec()));
}

#[tokio::test]
async fn only_the_owner_may_read_the_files() {
    let (store, dir) = open().await;
    store.set_meta("secret", b"value").await.unwrap();
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{entry:?}");
    }
}

#[tokio::test]
async fn a_file_that_is_no_database_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join(FILE_NAME),
        "hello, this is no database at all",
    )
    .unwrap();
    let refused = SqliteStore::open(dir.path()).await.unwrap_err();
    assert!(refused.to_string().contains(FILE_NAME), "{refused}");
}

#[tokio::test]
async fn commits_are_synced_and_references_checked() {
    let (store, _dir) = open().await;
    for (pragma, expected) in [("synchronous", 2), ("foreign_keys", 1)] {
        let query = sqlx::AssertSqlSafe(format!("PRAGMA {pragma}"));
        let value: i64 = sqlx::query_scalar(query)
            .fetch_one(&store.writer)
            .await
            .unwrap();
        assert_eq!(value, expected, "{pragma}");
    }
    let journal: String = sqlx::query_scalar("PRAGMA journal_mode")
        .fetch_one(&store.writer)
        .await
        .unwrap();
    assert_eq!(journal, "wal");
}

/// A full disk makes SQLite undo a transaction by itself, in the middle of it.
#[tokio::test]
async fn goes_on_after_the_disk_was_full() {
    let (store, _dir) = open().await;
    let pages: i64 = sqlx::query_scalar("PRAGMA page_count")
        .fetch_one(&store.writer)
        .await
        .unwrap();
    let limit = sqlx::AssertSqlSafe(format!("PRAGMA max_page_count = {pages}"));
    sqlx::query(limit).execute(&store.writer).await.unwrap();
    let large = vec![7; 1 << 20];
    store.set_meta("key", &large).await.unwrap_err();
    // the limit went with the connection: there is space again
    store.set_meta("key", &large).await.unwrap();
    assert_eq!(store.meta("key").await.unwrap(), Some(large));
}

#[tokio::test]
async fn a_webhook_whose_task_has_ended_makes_room_in_a_full_table() {
    let (store, _dir) = open().await;
    // of a running task, but for the last three, whose task is gone
    for statement in [
        "INSERT INTO packages (id, product, version, sha256, size_bytes, segment_size, pad_last, crc, check_code, \
             created_at) VALUES (1, 'p', 'V', '', 0, 0, 0, 0, 0, 0)",
        "INSERT INTO tasks (id, name, package_id, state, start_at, retry_attempts, retry_interval_s, created_at) \
             VALUES (1, 'night', 1, 'running', 0, 0, 0, 0)",
        "WITH RECURSIVE numbers (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM numbers WHERE n < 10000) \
             INSERT INTO webhooks (id, task_id, url, secret, created_at) \
             SELECT n, IIF(n <= 9997, 1, 2), '', x'00', 0 FROM numbers",
        "INSERT INTO events (id, at, kind, task_id, task_name, product, version) \
             VALUES (1, 0, 'task.finished', 2, '', 'p', 'V')",
        "INSERT INTO deliveries (webhook_id, event_id, state, next_at) \
             VALUES (9998, 1, 'failed', 0), (9999, 1, 'delivered', 0), (10000, 1, 'pending', 0)",
    ] {
        sqlx::query(statement).execute(&store.writer).await.unwrap();
    }
    let new = NewWebhook {
        tenant: None,
        task: None,
        url: String::new(),
        secret: Vec::new(),
        vault: None,
        created_at: UtcMillis(0),
    };
    store.add_webhook(&new).await.unwrap();
    assert_eq!(store.webhook(WebhookId(9_999)).await.unwrap(), None);
    assert!(store.webhook(WebhookId(9_998)).await.unwrap().is_some());
    let full = store.add_webhook(&new).await;
    assert!(matches!(full, Err(AddWebhookError::TooMany(MAX_WEBHOOKS))));
}

/// So are rows of gateways whose limit was taken away.
#[tokio::test]
async fn gateways_whose_limit_was_taken_away_are_forgotten_in_the_end() {
    let (store, _dir) = open().await;
    let device = crate::store::NewDevice {
        endpoint: "g1".to_owned(),
        product: "p".to_owned(),
        psk: None,
        mqtt: None,
        attributes: crate::ledger::AttributesChange::default(),
        via: None,
    };
    store.add_devices(&[device], UtcMillis(0)).await.unwrap();
    sqlx::query(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000) \
         INSERT INTO gateway_limits (endpoint, most, revision) SELECT 'gone-' || i, IIF(i = 1, 9, NULL), i FROM n",
    )
    .execute(&store.writer)
    .await
    .unwrap();
    let update = crate::store::DeviceUpdate {
        gateway_limit: Some(Some(2)),
        ..crate::store::DeviceUpdate::default()
    };
    store.update_device("g1", &update).await.unwrap();
    let changes = store.lane_limits_since(0, 100_000).await.unwrap();
    // the one that has a limit, the newest of the others, and the new one
    let told = (changes[0].limit, changes[1].revision, changes.len());
    assert_eq!(told, (Some(9), 10_001, 20_002));
}

/// Rows of sites whose limit was taken away are bounded, and no name is refused for their sake.
#[tokio::test]
async fn sites_whose_limit_was_taken_away_are_forgotten_in_the_end() {
    let (store, _dir) = open().await;
    let most = i64::from(2 * crate::store::MAX_SITES);
    sqlx::query(
        "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < ?) \
         INSERT INTO sites (tenant, name, most, revision) SELECT 'default', 'site-' || i, NULL, i FROM n",
    )
    .bind(most)
    .execute(&store.writer)
    .await
    .unwrap();
    let key = |name: &str| SiteKey {
        tenant: TenantId::default(),
        name: name.to_owned(),
    };
    for name in ["depot-4", "depot-5", "site-3"] {
        store.set_site(&key(name), 2, None, None).await.unwrap();
    }
    let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM sites")
        .fetch_one(&store.writer)
        .await
        .unwrap();
    assert_eq!(count, most - 1);
    // the oldest are gone, and the newest changes are there
    let first = store.lane_limits_since(0, 1).await.unwrap();
    assert_eq!(first[0].revision, 5);
    let newest = store.lane_limits_since(most, 9).await.unwrap();
    assert_eq!(newest.len(), 3);
}
