//! Databases of before, brought to this program's form.

use std::collections::BTreeMap;

use sqlx::{SqliteConnection, migrate::Migrator};

use super::*;
use crate::{
    config::ProductConfig,
    ledger::{Change, Failure, Outcome, TaskId, UpgradeId},
    package::{PcpOffer, Segmentation, Version},
    store::{
        DatabaseFile, EarlierPackage, InsertPackageError, NewPackage, Papers, Products as _,
        Signatures, Subject, conformance::next_batch,
    },
    tenant::TenantId,
    wording,
};

/// A database as a program left it that knew the migrations up to a number.
async fn left_at(number: i64, dir: &Path) -> SqliteConnection {
    let all = sqlx::migrate!("migrations/sqlite");
    let known = all.iter().filter(|it| it.version <= number).cloned();
    let options = SqliteConnectOptions::new()
        .filename(dir.join(FILE_NAME))
        .create_if_missing(true);
    let mut conn = options.connect().await.unwrap();
    Migrator::with_migrations(known.collect())
        .run(&mut conn)
        .await
        .unwrap();
    conn
}

#[tokio::test]
async fn packages_of_before_keep_their_check_codes() {
    let dir = tempfile::tempdir().unwrap();
    let mut conn = left_at(4, dir.path()).await;
    // content, size, segment size, padded, check code, superseded, deleted
    for (id, content, size, segment_size, padded, code, gone) in [
        (1, 1, 1_200, 100, false, 0, "1, NULL"),
        (2, 2, 1_200, 500, true, 0, "NULL, NULL"),
        (3, 3, 1_200, 500, false, 7, "NULL, 1"),
        (4, 4, 1_000, 500, true, 8, "1, 1"),
    ] {
        let sha256 = hex::encode([content; 32]);
        let version = hex::encode(pcp::Version::new("V2").unwrap().as_bytes());
        let insert = format!(
            "INSERT INTO packages (id, product, version, sha256, size_bytes, segment_size, pad_last, crc, check_code, \
                 created_at, superseded_at, deleted_at) \
             VALUES ({id}, 'p', x'{version}', '{sha256}', {size}, {segment_size}, {padded}, 1, {code}, 0, {gone})"
        );
        let insert = sqlx::query(sqlx::AssertSqlSafe(insert));
        insert.execute(&mut conn).await.unwrap();
    }
    conn.close().await.unwrap();
    let store = SqliteStore::open(dir.path()).await.unwrap();
    let new = |content, size, segment_size, pad_last, check_code| NewPackage {
        product: "p".to_owned(),
        version: Version::new("V2").unwrap(),
        component: None,
        sha256: hex::encode([content; 32]),
        crc: 1,
        size_bytes: size,
        md5: None,
        pcp: Some(PcpOffer {
            version: pcp::Version::new("V2").unwrap(),
            check_code,
            segmentation: Segmentation::exact(size, segment_size, pad_last).unwrap(),
        }),
        created_at: UtcMillis(1),
        papers: Papers::default(),
    };
    for (package, expected) in [
        // two had the code 0: the newest counts
        (new(1, 1_200, 100, false, 0), EarlierPackage::OtherContent),
        (
            new(2, 1_200, 400, false, 0),
            EarlierPackage::SegmentSize(500),
        ),
        (new(2, 1_200, 500, false, 0), EarlierPackage::Padding(true)),
        (new(1, 1_200, 500, false, 7), EarlierPackage::OtherContent),
    ] {
        match store.insert_package(&package).await {
            Err(InsertPackageError::Indistinct { differs, .. }) => assert_eq!(differs, expected),
            other => panic!("{other:?}"),
        }
    }
    let current = new(2, 1_200, 500, true, 0);
    assert!(!store.insert_package(&current).await.unwrap().created);
    // there was nothing to fill up
    for same in [new(4, 1_000, 500, false, 8), new(3, 1_200, 500, false, 7)] {
        assert!(store.insert_package(&same).await.unwrap().created);
    }
}

/// A database as the program left it that knew 12 migrations: killed in the midst of upgrades, after others had ended in
/// every way. The versions of `slow-000001` and `lock-1` were put in by hand.
const LEFT_AT_12: &str = include_str!("../../../../tests/databases/sqlite-0012.sql");

async fn of_before(dump: &'static str) -> (SqliteStore, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let options = SqliteConnectOptions::new()
        .filename(dir.path().join(FILE_NAME))
        .create_if_missing(true);
    let mut conn = options.connect().await.unwrap();
    sqlx::raw_sql(dump).execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    (SqliteStore::open(dir.path()).await.unwrap(), dir)
}

#[tokio::test]
async fn versions_of_before_are_text() {
    let (store, _dir) = of_before(LEFT_AT_12).await;
    for (endpoint, version) in [
        ("sim-000000", Some("V2.0")),
        ("sim-000001", Some("V1.0")),
        ("slow-000001", Some(r"V\x01\xFE\x5C1")),
        ("lock-1", Some(r"A\B")),
        ("never-heard", None),
    ] {
        let device = store.device(endpoint).await.unwrap().unwrap().device;
        let known = device.version.as_ref().map(Version::as_str);
        assert_eq!(known, version, "{endpoint}");
    }
    for (product, version) in [("meter", "V2.0"), ("lock", "V2.0 b")] {
        let version = Version::new(version).unwrap();
        let package = store
            .find_package(product, version, None)
            .await
            .unwrap()
            .unwrap();
        assert_eq!(package.package.version, version);
        // it stands for the same content as before
        let same = store.insert_package(&package.package).await.unwrap();
        assert!(!same.created);
        let mut other = package.package;
        other.sha256 = "00".repeat(32);
        let refused = store.insert_package(&other).await;
        assert!(matches!(
            refused,
            Err(InsertPackageError::Indistinct { .. })
        ));
    }
    let device = store.device("sim-000001").await.unwrap().unwrap().device;
    let evidence = device.evidence.first().unwrap();
    assert_eq!(evidence.version.as_str(), "V2.0");
    assert!(evidence.failure.is_some() && !evidence.taken);
    let events = store.events(0, None, 100).await.unwrap();
    assert_eq!(events.len(), 9);
    assert!(events.iter().all(|event| event.version.as_str() == "V2.0"));
}

#[tokio::test]
async fn sentences_of_before_stay_as_they_are() {
    let (store, _dir) = of_before(LEFT_AT_12).await;
    let read = async |id| store.upgrade(UpgradeId(id)).await.unwrap().unwrap();
    let done = read(2).await.upgrade;
    let progress = done.progress.map(|it| (it.done_bytes, it.total_bytes));
    assert_eq!(
        (progress, done.segment),
        (Some((60_000, 60_000)), Some(119))
    );
    let failed = read(4).await;
    let outcome = failed.upgrade.outcome.unwrap();
    assert_eq!(outcome.reason, "upgrade_failed");
    let told = wording::told(&outcome.reason, &outcome.told);
    let words = "the device reported the upgrade (PCP 24) as 0x0A (installing the package failed). Sent last: the version \
                 query (PCP 19), 2 times, at ";
    assert!(told.starts_with(words), "{told}");
    let lines: Vec<(String, String)> = (failed.events.iter())
        .map(|event| (event.line.parts().0, wording::line(&event.line)))
        .collect();
    assert!(lines.iter().all(|(code, _)| code == "legacy"));
    let first = "attempt 1 begins: waiting for the device to be heard";
    assert_eq!(lines[0].1, first);
    let last = &lines.last().unwrap().1;
    assert_eq!(*last, told);
    let events = store.events(0, None, 100).await.unwrap();
    let of_failed = events.iter().find_map(|event| match &event.subject {
        Subject::Upgrade {
            upgrade: UpgradeId(4),
            reason: Some(reason),
            told: Some(told),
            ..
        } => Some(wording::told(reason, told)),
        _ => None,
    });
    assert_eq!(of_failed.as_deref(), Some(told.as_str()));
}

#[tokio::test]
async fn an_upgrade_of_before_goes_on_and_ends_with_arguments() {
    let (store, _dir) = of_before(LEFT_AT_12).await;
    let running = store.restore_upgrades(None, 10).await.unwrap();
    let ids: Vec<i64> = running.iter().map(|it| it.order.upgrade.0).collect();
    assert_eq!(ids, [1, 11, 12, 13]);
    let places: Vec<Option<u64>> = (running.iter())
        .map(|it| it.progress.map(|progress| progress.done_bytes))
        .collect();
    assert_eq!(places, [None, Some(59 * 500), Some(36 * 500), None]);
    // one that has failed once already
    let upgrade = running[1].order.upgrade;
    let outcome = Outcome::Failed(Failure::DownloadTimedOut(Some(59)));
    let ended = Change::Ended {
        upgrade,
        task: running[1].order.task,
        attempt: running[1].order.attempt,
        facts: Box::new(outcome.facts()),
        outcome,
        retry_at: None,
        at: UtcMillis(1_795_920_000_000),
    };
    let batch = next_batch();
    store.commit(batch, &[ended]).await.unwrap();
    let shown = store.upgrade(upgrade).await.unwrap().unwrap();
    let outcome = shown.upgrade.outcome.unwrap();
    let expected = "the download did not end within the limit; segment 59 was asked for last";
    assert_eq!(wording::told(&outcome.reason, &outcome.told), expected);
    let last = &shown.events.last().unwrap().line;
    assert_eq!(last.parts().0, "ended");
    assert_eq!(wording::line(last), expected);
}

#[tokio::test]
async fn a_database_of_a_newer_program_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    SqliteStore::open(dir.path()).await.unwrap().close().await;
    let path = dir.path().join(FILE_NAME);
    let mut conn = (SqliteConnectOptions::new().filename(&path))
        .connect()
        .await
        .unwrap();
    sqlx::raw_sql("UPDATE _sqlx_migrations SET version = 9000 WHERE version = (SELECT MAX(version) FROM _sqlx_migrations)")
        .execute(&mut conn)
        .await
        .unwrap();
    conn.close().await.unwrap();
    let before = std::fs::read(&path).unwrap();
    for error in [
        SqliteStore::open(dir.path()).await.unwrap_err(),
        DatabaseFile::open(&path).await.err().unwrap(),
    ] {
        let text = error.to_string();
        assert!(
            matches!(error, OpenError::Newer { step: 9_000, .. }),
            "{text}"
        );
        assert!(text.contains("newer version of Cellwise"), "{text}");
    }
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

/// A database as the program left it that knew 30 migrations: killed in the midst of the demonstration.
const LEFT_AT_30: &str = include_str!("../../../../tests/databases/sqlite-0030.sql");

#[tokio::test]
async fn what_was_under_way_at_30_goes_on_and_what_had_ended_stays() {
    let (store, dir) = of_before(LEFT_AT_30).await;
    let running = store.restore_upgrades(None, 100).await.unwrap();
    assert_eq!(running.len(), 15);
    assert!(running.iter().filter(|it| it.progress.is_some()).count() >= 8);
    let events = store.events(0, None, 100).await.unwrap();
    assert_eq!(events.len(), 9);
    assert!(events.iter().all(|event| event.version.as_str() == "V2.0"));
    let package = store.packages(None, None, 10).await.unwrap().items;
    assert_eq!(package.len(), 1);
    let ended = running[0].order.upgrade;
    let outcome = Outcome::Failed(Failure::DownloadTimedOut(Some(3)));
    let change = Change::Ended {
        upgrade: ended,
        task: running[0].order.task,
        attempt: running[0].order.attempt,
        facts: Box::new(outcome.facts()),
        outcome,
        at: UtcMillis(1_900_000_000_000),
        retry_at: None,
    };
    store.commit(next_batch(), &[change]).await.unwrap();
    assert_eq!(store.restore_upgrades(None, 100).await.unwrap().len(), 14);
    store.close().await;
    let mut file = DatabaseFile::open(&dir.path().join(FILE_NAME))
        .await
        .unwrap();
    assert_eq!(file.problems(Depth::Whole).await.unwrap(), [""; 0]);
    assert_eq!(file.step().await.unwrap(), newest_known_step());
}

#[tokio::test]
async fn rules_of_products_of_before_are_those_of_products() {
    let dir = tempfile::tempdir().unwrap();
    let mut conn = left_at(37, dir.path()).await;
    let rules = "INSERT INTO product_rules (product, signatures, revision) VALUES ('meter', 'required', 7), ('valve', 'optional', 3)";
    sqlx::query(rules).execute(&mut conn).await.unwrap();
    conn.close().await.unwrap();
    let store = SqliteStore::open(dir.path()).await.unwrap();
    let rules = async |name| {
        let product = store.product(name).await.unwrap();
        assert_eq!(product.settings, ProductConfig::default());
        (product.created, product.signatures, product.revision)
    };
    assert_eq!(rules("meter").await, (true, Signatures::Required, 7));
    assert_eq!(rules("valve").await, (true, Signatures::Optional, 3));
    assert_eq!(rules("other").await, (false, Signatures::Optional, 1));
    // what a settings file says of them comes to that, once
    let meter = ProductConfig {
        pmin_zero: true,
        ..ProductConfig::default()
    };
    let file = BTreeMap::from([("meter".to_owned(), meter)]);
    assert!(store.import_products(&file).await.unwrap());
    let known = store.product("meter").await.unwrap();
    assert_eq!(
        (known.settings, known.signatures, known.revision),
        (meter, Signatures::Required, 8)
    );
    store.close().await;
    let store = SqliteStore::open(dir.path()).await.unwrap();
    assert!(!store.import_products(&BTreeMap::new()).await.unwrap());
    assert_eq!(store.product("meter").await.unwrap(), known);
    // a copy of the database has them, and knows that they were taken in
    let copy = dir.path().join("copy.db");
    let mut file = DatabaseFile::open(&dir.path().join(FILE_NAME))
        .await
        .unwrap();
    file.copy_to(&copy).await.unwrap();
    let mut copied = DatabaseFile::open_unused(&copy).await.unwrap();
    let products = copied.products().await.unwrap().unwrap();
    assert_eq!(products, store.product_settings().await.unwrap());
    assert_eq!((products.len(), products["meter"]), (2, meter));
}

#[tokio::test]
async fn a_database_of_before_has_taken_no_products_in() {
    let dir = tempfile::tempdir().unwrap();
    left_at(37, dir.path()).await.close().await.unwrap();
    let path = dir.path().join(FILE_NAME);
    let products = async || {
        let mut file = DatabaseFile::open(&path).await.unwrap();
        file.products().await.unwrap()
    };
    assert_eq!(products().await, None);
    let store = SqliteStore::open(dir.path()).await.unwrap();
    assert_eq!(products().await, None, "no server was started yet");
    store.import_products(&BTreeMap::new()).await.unwrap();
    assert_eq!(products().await, Some(BTreeMap::new()));
}

/// [`LEFT_AT_30`] with a webhook for its task.
const LEFT_AT_30_WITH_WEBHOOK: &str = concat!(
    include_str!("../../../../tests/databases/sqlite-0030.sql"),
    "INSERT INTO webhooks (task_id, url, secret, created_at) VALUES (1, 'http://hooks.example/', x'00', 0);"
);

#[tokio::test]
async fn webhooks_of_before_have_the_tenant_of_their_task() {
    let (store, _dir) = of_before(LEFT_AT_30_WITH_WEBHOOK).await;
    let home = [TenantId::default()];
    let webhooks = store.webhooks(Some(&home), None, 9).await.unwrap().items;
    let told: Vec<_> = webhooks.iter().map(|it| (it.task, &it.tenant)).collect();
    assert_eq!(told, [(Some(TaskId(1)), &Some(TenantId::default()))]);
}
