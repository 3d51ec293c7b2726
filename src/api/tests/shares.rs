//! Priorities and weights of tasks.

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use super::Api;
use crate::{
    clock::UtcMillis,
    ledger::{Change, Line, Stage, StageChange, UpgradeId},
};

impl Api {
    /// One more task for these devices.
    async fn shared(&self, devices: &[&str], share: Value) -> Value {
        let mut body = json!({"name": "shared", "package_id": 1, "devices": devices});
        for (field, value) in share.as_object().unwrap() {
            body[field] = value.clone();
        }
        let task = self.post("/v1/tasks", &body).await;
        assert_eq!(task.status, StatusCode::CREATED, "{task:?}");
        task.body
    }

    async fn share_again(&self, task: i64, share: Value) -> super::Answer {
        let path = format!("/v1/tasks/{task}");
        self.json(Method::PATCH, &path, &share.to_string()).await
    }

    /// The upgrade waits for a slot of cell 7, since then.
    pub(super) async fn queue_up(&self, upgrade: i64, since: UtcMillis) {
        let change = StageChange {
            stage: Stage::WaitingForSlot,
            entered_at: since,
            deadline_at: self.state.now() + std::time::Duration::from_hours(48),
            queued_at: Some(since),
            slot_deadline_at: Some(self.state.now()),
            cell: Some(7),
            cell_limit: Some(1),
            confirmed: false,
            download_errors: 0,
        };
        self.commit(&[Change::Stage {
            upgrade: UpgradeId(upgrade),
            attempt: 1,
            change,
            line: Some(Line::sentence("so")),
            at: since,
        }])
        .await;
    }
}

#[tokio::test]
async fn a_task_has_a_priority_and_a_weight_that_may_change() {
    let api = Api::new().await;
    let plain = api.task(2).await.body;
    assert_eq!(
        (&plain["priority"], &plain["weight"]),
        (&json!(5), &json!(1))
    );
    let task = api
        .shared(&["d0"], json!({"priority": 0, "weight": 1_000}))
        .await;
    assert_eq!(
        (&task["priority"], &task["weight"]),
        (&json!(0), &json!(1_000))
    );
    let id = task["id"].as_i64().unwrap();
    let changed = api.share_again(id, json!({"priority": 9})).await.body;
    assert_eq!(
        (&changed["priority"], &changed["weight"]),
        (&json!(9), &json!(1_000))
    );
    let default = api
        .share_again(id, json!({"priority": null, "weight": null}))
        .await
        .body;
    assert_eq!(
        (&default["priority"], &default["weight"]),
        (&json!(5), &json!(1))
    );
    for (share, field) in [
        (json!({"priority": 10}), "priority"),
        (json!({"priority": -1}), "priority"),
        (json!({"priority": 300}), "priority"),
        (json!({"priority": 1.5}), "priority"),
        (json!({"weight": 0}), "weight"),
        (json!({"weight": 1_001}), "weight"),
        (json!({"weight": 4_294_967_297_i64}), "weight"),
        (json!({"weight": "2"}), "weight"),
    ] {
        let refused = api.share_again(id, share.clone()).await;
        assert_eq!(refused.fields(), [field], "{share}: {refused:?}");
        let mut body = json!({"name": "odd", "package_id": 1, "devices": ["d0"]});
        body[field] = share[field].clone();
        let refused = api.post("/v1/tasks", &body).await;
        assert_eq!(refused.fields(), [field], "{share}: {refused:?}");
    }
}

#[tokio::test]
async fn an_upgrade_that_waits_is_told_the_share_of_its_task() {
    let api = Api::new().await;
    api.task(4).await;
    let other = api.shared(&["d0", "d1"], json!({"weight": 3})).await["id"].as_i64();
    let other = other.unwrap();
    let now = api.state.now();
    let ago = |minutes| now.before(std::time::Duration::from_mins(minutes));
    for (upgrade, minutes) in [(1, 40), (2, 20), (3, 30)] {
        api.queue_up(upgrade, ago(minutes)).await;
    }
    let shown = async |upgrade: i64| {
        let mut shown = api.get(&format!("/v1/upgrades/{upgrade}")).await.body;
        let waits = shown["waiting_for"].as_str().unwrap().to_owned();
        (waits, shown["share"].take())
    };
    // with nobody to share with there is nothing to tell
    let (waits, share) = shown(2).await;
    assert_eq!(share, Value::Null);
    assert!(!waits.contains("share"), "{waits}");
    api.queue_up(5, ago(10)).await;
    let (waits, share) = shown(2).await;
    let told = "; number 3 of task 1's queue there; task 1 has 1 of 4 shares of priority 5; ";
    assert!(waits.contains(told), "{waits}");
    let expected = json!({
        "code": "turns", "place": 3, "waiting": 3, "priority": 5, "weight": 1, "of_weights": 4,
    });
    assert_eq!(share, expected);
    // whoever comes first is named
    api.share_again(other, json!({"priority": 7})).await;
    let (waits, share) = shown(2).await;
    assert!(
        waits.contains("task 1 has 1 of 1 shares of priority 5; task 2 (priority 7) comes first; "),
        "{waits}"
    );
    assert_eq!(share["code"], "behind");
    // and what has been gained by waiting is told: two priorities in twelve hours
    api.queue_up(4, ago(12 * 60 + 1)).await;
    let (waits, share) = shown(2).await;
    let told =
        "task 1 has 1 of 4 shares of priority 7 (it has come to priority 7 from 5 by waiting)";
    assert!(waits.contains(told), "{waits}");
    assert_eq!(
        (&share["code"], &share["priority"]),
        (&json!("turns"), &json!(7))
    );
}
