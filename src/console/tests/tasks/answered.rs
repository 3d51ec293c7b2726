//! What has been answered for, by whom, and what of it is shown.

use axum::http::{Method, StatusCode};
use serde_json::json;

use super::{super::Pages, ALL};
use crate::{
    ledger::{Change, Failure, Stage, StageChange, UpgradeId},
    store::conformance::next_batch,
};

#[tokio::test]
async fn a_change_of_the_priority_is_no_change_of_the_rules_that_were_approved() {
    let pages = Pages::new().await;
    let anna = pages.user("anna", &ALL).await;
    // in another order than the form has them
    let reasons = json!(["wrong_version", "device_not_heard"]);
    let rules = json!({"abort": [{"percent": 10, "reasons": reasons}], "approval": true,
        "windows": {"windows": [{"from": "22:00", "to": "05:00", "days": ["tue", "mon"]}], "zone": "Europe/Berlin"}});
    let task = pages.task("night", 2, &rules).await;
    let sent = anna.post(&format!("/tasks/{task}/approve"), &[]).await;
    assert_eq!(sent.status, StatusCode::SEE_OTHER, "{sent:?}");
    let path = format!("/tasks/{task}/change");
    let form = anna.get(&path).await;
    let etag = form.value_of("etag").replace("&#34;", "\"");
    let fields = |what: &'static str, min: &'static str| {
        vec![
            ("do", what),
            ("etag", &*etag),
            ("abort0_size", "10"),
            ("abort0_min", min),
            ("abort0_reason", "device_not_heard"),
            ("abort0_reason", "wrong_version"),
            ("abort0_action", "pause"),
            ("window0_from", "22:00"),
            ("window0_to", "05:00"),
            ("window0_day", "mon"),
            ("window0_day", "tue"),
            ("zone", "Europe/Berlin"),
            ("at_end", "finish"),
            ("priority", "8"),
            ("weight", "1"),
        ]
    };
    let wrong = anna.post(&path, &fields("review", "-1")).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY, "{wrong:?}");
    assert!(wrong.says("abort[0].min_results"), "{wrong:?}");
    assert_eq!(wrong.value_of("abort0_min"), "-1");
    assert!(wrong.says("max=\"9\" value=\"8\""), "{wrong:?}");
    let asked = anna.post(&path, &fields("review", "1")).await;
    assert!(!asked.says("Only these reasons count"), "{asked:?}");
    let sent = anna.post(&path, &fields("save", "1")).await;
    assert!(sent.location().ends_with("?done=task-changed"), "{sent:?}");
    let now = pages.task_now(task).await;
    assert_eq!(
        (&now["priority"], &now["state"]),
        (&json!(8), &json!("running"))
    );
    assert_eq!(now["approval"]["approved"], true, "{now}");
    assert_eq!(now["abort"][0]["reasons"], reasons);
}

#[tokio::test]
async fn nobody_is_shown_a_button_for_a_task_of_his_own() {
    let pages = Pages::new().await;
    let anna = pages.user("anna", &ALL).await;
    let package = pages.upload("meter", "V2").await.to_string();
    let device = json!({"endpoint": "d0", "product": "meter"});
    pages.api(Method::POST, "/v1/devices", Some(&device)).await;
    let fields = [
        ("name", "n"),
        ("package0_id", &*package),
        ("approval", "1"),
        ("do", "create"),
    ];
    let sent = anna.post("/tasks/new", &fields).await;
    assert_eq!(sent.status, StatusCode::SEE_OTHER, "{sent:?}");
    let bert = pages.user("bert", &["approver"]).await;
    for path in ["/tasks/1", "/approvals"] {
        let own = anna.get(path).await;
        assert!(
            own.says("Somebody else has to approve or refuse it."),
            "{path}: {own:?}"
        );
        assert!(
            !own.says("/tasks/1/approve") && !own.says("/tasks/1/refuse"),
            "{path}: {own:?}"
        );
        let other = bert.get(path).await;
        assert!(
            other.says("/tasks/1/approve") && other.says("/tasks/1/refuse"),
            "{path}: {other:?}"
        );
        assert!(!other.says("Somebody else has to"), "{path}: {other:?}");
    }
}

#[tokio::test]
async fn upgrades_of_a_stopped_task_are_not_tried_again_and_their_devices_are_reached() {
    let pages = Pages::new().await;
    let anna = pages.user("anna", &ALL).await;
    let task = pages.task("night", 2, &json!({})).await;
    let device = json!({"endpoint": "new", "product": "meter"});
    pages.api(Method::POST, "/v1/devices", Some(&device)).await;
    let upgrades = pages.upgrades(task).await;
    pages.fail(task, upgrades[0], Failure::DeviceNotHeard).await;
    let path = format!("/upgrades/{}", upgrades[0]);
    let retry = format!("{path}/retry\"");
    assert!(anna.get(&path).await.says(&retry));
    let stopped = anna.post(&format!("/tasks/{task}/stop"), &[]).await;
    assert_eq!(stopped.status, StatusCode::SEE_OTHER, "{stopped:?}");
    let shown = anna.get(&path).await;
    assert!(!shown.says(&retry), "{shown:?}");
    let package = pages.api(Method::GET, "/v1/packages", None).await["items"][0]["id"].clone();
    let task = json!({"name": "one", "package_id": package, "devices": ["new"]});
    let task = pages.api(Method::POST, "/v1/tasks", Some(&task)).await;
    let upgrade = pages.upgrades(task["id"].as_i64().unwrap()).await[0];
    let shown = anna.get(&format!("/upgrades/{upgrade}")).await;
    assert!(shown.says("/console/devices/%6eew\""), "{shown:?}");
}

#[tokio::test]
async fn devices_that_upgrade_are_seen_in_the_list_of_tasks() {
    let pages = Pages::new().await;
    let vera = pages.user("vera", &["viewer"]).await;
    let task = pages.task("night", 2, &json!({})).await;
    assert!(!vera.get("/tasks").await.says("class=\"busy\""));
    let upgrade = UpgradeId(pages.upgrades(task).await[0]);
    let at = pages.state.clock.now().utc;
    let begun = Change::Stage {
        upgrade,
        attempt: 1,
        change: StageChange {
            stage: Stage::Downloading,
            entered_at: at,
            deadline_at: at,
            queued_at: None,
            slot_deadline_at: None,
            cell: None,
            cell_limit: None,
            confirmed: false,
            download_errors: 0,
        },
        line: None,
        at,
    };
    let store = &pages.state.store;
    store.commit(next_batch(), &[begun]).await.unwrap();
    let shown = vera.get("/tasks").await;
    assert!(shown.says("class=\"busy\""), "{shown:?}");
}
