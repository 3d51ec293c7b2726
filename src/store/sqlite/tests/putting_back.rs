use super::*;
use crate::{
    ledger::{AttributesChange, Change, Evidence, FailedIn, ReportedFailure},
    package::Version,
    store::{BatchId, NewDevice},
};

const NOW: UtcMillis = UtcMillis(1_800_000_000_000);

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
        endpoint: endpoint.to_owned(),
        product: "default".to_owned(),
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
    let before = number(&store, "devices").await;
    for times in 1..=2 {
        store.was_put_back().await.unwrap();
        let found = store.restore_devices(0, 10).await.unwrap().devices;
        let put_back: Vec<Evidence> = known.iter().map(|it| it.put_back()).collect();
        assert_eq!(found[0].evidence, put_back, "time {times}");
        assert!(found[1].evidence.is_empty());
    }
    // also where there was none yet
    for table in ["events", "upgrades", "tasks", "packages", "webhooks", "deliveries", "users"] {
        assert_eq!(number(&store, table).await, 20_000_000, "{table}");
    }
    assert_eq!(number(&store, "devices").await, before);
    let webhook = NewWebhook {
        task: None,
        url: "https://example.com/".to_owned(),
        secret: vec![1],
        created_at: NOW,
    };
    let added = store.add_webhook(&webhook).await.unwrap();
    assert_eq!(added.id, WebhookId(20_000_001));
}
