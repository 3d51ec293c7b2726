use super::*;
use crate::{
    ledger::{AttributesChange, Change, Evidence, FailedIn, ReportedFailure},
    package::Version,
    store::{
        BatchId, NewDevice, Selection,
        conformance::{new_package, new_task},
    },
};

const NOW: UtcMillis = UtcMillis(1_800_000_000_000);
const LATER: UtcMillis = UtcMillis(1_800_000_100_000);

fn evidence(version: &str, failure: Option<ReportedFailure>) -> Evidence {
    Evidence {
        version: Version::new(version).unwrap(),
        taken: true,
        commanded: false,
        claimed: failure.is_some(),
        failure,
        at: NOW,
    }
}

async fn number(store: &SqliteStore, table: &str) -> i64 {
    let sql = format!("SELECT seq FROM sqlite_sequence WHERE name = '{table}'");
    let found = sqlx::query_scalar(sqlx::AssertSqlSafe(sql));
    found.fetch_one(&store.writer).await.unwrap()
}

#[tokio::test]
async fn what_devices_had_done_no_longer_outranks_them_and_no_number_is_given_twice() {
    let (store, _dir) = open_checked().await;
    let device = |endpoint: &str| NewDevice {
        attributes: AttributesChange::default(),
        psk: None,
        mqtt: None,
        endpoint: endpoint.to_owned(),
        product: "default".to_owned(),
        via: None,
    };
    let devices = [device("a"), device("b")];
    store.add_devices(&devices, NOW).await.unwrap();
    let failure = ReportedFailure {
        failed_in: FailedIn::Installation,
        code: pcp::ResultCode::INSTALL_FAILED,
    };
    let known = vec![evidence("V2", None), evidence("V3", Some(failure))];
    let change = Change::Evidence {
        endpoint: "a".to_owned(),
        evidence: known.clone(),
        at: NOW,
    };
    store.commit(BatchId::first_of(1), &[change]).await.unwrap();
    let package = new_package("default", "V9", 9);
    let package = store.insert_package(&package).await.unwrap().record;
    let task = new_task(&package, Selection::All);
    store.create_task(&task).await.unwrap();
    // no upgrade: nothing is said of it
    store.add_devices(&[device("c")], NOW).await.unwrap();
    let before = number(&store, "devices").await;
    for times in 1..=2 {
        store.was_put_back(LATER).await.unwrap();
        let found = store.restore_devices(0, 10).await.unwrap().devices;
        let unknown = Evidence::unknown(package.package.version, LATER);
        // what is certain is newer than what is guessed
        let mut put_back = vec![unknown];
        put_back.extend(known.iter().map(|it| it.put_back()));
        assert_eq!(found[0].evidence, put_back, "time {times}");
        assert_eq!(found[1].evidence, [unknown]);
        assert!(found[2].evidence.is_empty());
    }
    // also where there was none yet
    for (table, given) in [
        ("events", 0),
        ("upgrades", 2),
        ("tasks", 1),
        ("packages", 1),
        ("webhooks", 0),
        ("deliveries", 0),
        ("users", 0),
    ] {
        assert_eq!(number(&store, table).await, 20_000_000 + given, "{table}");
    }
    assert_eq!(number(&store, "devices").await, before);
    let webhook = NewWebhook {
        tenant: None,
        task: None,
        url: "https://example.com/".to_owned(),
        secret: vec![1],
        vault: None,
        created_at: NOW,
    };
    let added = store.add_webhook(&webhook).await.unwrap();
    assert_eq!(added.id, WebhookId(20_000_001));
}
