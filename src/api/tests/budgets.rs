//! What upgrades cost on the air, and budgets of it.

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Answer, Api};
use crate::{
    ledger::{Change, TaskId, Traffic, UpgradeId},
    task::Month,
};

impl Api {
    async fn budgeted(&self, budget: Value) -> Answer {
        let body =
            json!({"name": "careful", "package_id": 1, "devices": ["d0", "d1"], "budget": budget});
        self.post("/v1/tasks", &body).await
    }

    async fn spends(&self, upgrade: i64, task: i64, endpoint: &str, bytes_down: u64) {
        self.commit(&[Change::Traffic {
            upgrade: UpgradeId(upgrade),
            task: TaskId(task),
            endpoint: endpoint.to_owned(),
            cell: None,
            traffic: Traffic {
                bytes_down,
                bytes_up: 20,
                repeats_down: 2,
                repeats_up: 1,
                active_ms: 12_500,
                airtime_estimated_ms: 1_250,
            },
            at: self.state.now(),
        }])
        .await;
    }
}

#[tokio::test]
async fn a_task_has_a_budget_that_may_change() {
    let api = Api::new().await;
    let plain = api.task(2).await.body;
    assert_eq!(
        (&plain["budget"], &plain["over_budget"]),
        (&Value::Null, &json!(0))
    );
    let both = json!({"bytes_per_month": 2_000_000, "airtime_estimated_seconds_per_month": 3_600});
    let task = api.budgeted(both.clone()).await;
    assert_eq!(task.status, StatusCode::CREATED, "{task:?}");
    assert_eq!(task.body["budget"], both);
    let path = format!("/v1/tasks/{}", task.body["id"]);
    let change = async |budget: &Value| {
        let body = json!({"budget": budget}).to_string();
        api.json(Method::PATCH, &path, &body).await
    };
    let less = json!({"bytes_per_month": 1_000_000, "airtime_estimated_seconds_per_month": null});
    let changed = change(&less).await;
    assert_eq!(
        (changed.status, &changed.body["budget"]),
        (StatusCode::OK, &less)
    );
    let kept = api.json(Method::PATCH, &path, r#"{"weight": 2}"#).await;
    assert_eq!(kept.body["budget"], less);
    assert_eq!(change(&Value::Null).await.body["budget"], Value::Null);
    let bytes = "budget.bytes_per_month";
    let airtime = "budget.airtime_estimated_seconds_per_month";
    for (budget, field) in [
        (json!({}), "budget"),
        (json!({"bytes_per_month": 0}), bytes),
        (json!({"bytes_per_month": -5}), bytes),
        (json!({"bytes_per_month": 1_000_000_000_001_i64}), bytes),
        // less than the package
        (json!({"bytes_per_month": 1}), bytes),
        (
            json!({"airtime_estimated_seconds_per_month": 2_678_401}),
            airtime,
        ),
    ] {
        let refused = api.budgeted(budget.clone()).await;
        assert_eq!(refused.fields(), [field], "{budget}: {refused:?}");
        assert_eq!(change(&budget).await.fields(), [field], "{budget}");
    }
    let odd = api.budgeted(json!({"bytes": 5})).await;
    assert_eq!(odd.status, StatusCode::UNPROCESSABLE_ENTITY, "{odd:?}");
}

#[tokio::test]
async fn a_device_over_its_budget_is_told_why_it_waits() {
    let api = Api::new().await;
    api.task(2).await;
    let task = api.budgeted(json!({"bytes_per_month": 100_000})).await.body;
    let id = task["id"].as_i64().unwrap();
    // what another task costs counts
    api.spends(1, 1, "d0", 99_990).await;
    assert_eq!(id, 2);
    let waits = api.get("/v1/upgrades/3").await.body;
    let over = &waits["over_budget"];
    assert_eq!(over["resource"], "bytes", "{waits}");
    assert_eq!(
        (over["budget"].as_f64(), over["used"].as_f64()),
        (Some(100_000.0), Some(100_010.0))
    );
    let told = waits["waiting_for"].as_str().unwrap();
    assert!(
        told.starts_with(
            "its device is over its budget of 100000 bytes this month: it has spent 100010 bytes"
        ),
        "{told}"
    );
    assert!(told.contains(over["until"].as_str().unwrap()), "{told}");
    let may = api.get("/v1/upgrades/4").await.body;
    assert_eq!(may["over_budget"], Value::Null);
}

#[tokio::test]
async fn what_a_device_has_spent_this_month_is_shown_of_it() {
    let api = Api::new().await;
    api.task(2).await;
    let month = async |endpoint: &str| {
        let device = api.get(&format!("/v1/devices/{endpoint}")).await.body;
        device["month"].clone()
    };
    let nothing = month("d0").await;
    assert_eq!(
        (&nothing["bytes"], &nothing["airtime_estimated_seconds"]),
        (&json!(0), &json!(0.0))
    );
    api.spends(1, 1, "d0", 500).await;
    api.spends(1, 1, "d0", 7).await;
    let spent = month("d0").await;
    assert_eq!(
        (&spent["bytes"], &spent["airtime_estimated_seconds"]),
        (&json!(547), &json!(2.5))
    );
    assert_eq!(month("d1").await["bytes"], 0, "that of another");
    let here = Month::of(api.state.now(), None);
    assert_eq!(
        (&spent["begins_at"], &spent["ends_at"]),
        (
            &json!(here.begins_at.to_string()),
            &json!(here.ends_at.to_string())
        )
    );
    let list = api.get("/v1/devices").await.body;
    assert_eq!(list["items"][0]["month"], Value::Null);
    // the month is that of the device's time zone, also in the answer to a change
    let zone = json!({"time_zone": "Pacific/Kiritimati"}).to_string();
    let changed = api.json(Method::PATCH, "/v1/devices/d0", &zone).await.body;
    let there = Month::of(api.state.now(), Some("Pacific/Kiritimati"));
    assert_ne!(there.begins_at, here.begins_at);
    assert_eq!(
        changed["month"]["begins_at"],
        json!(there.begins_at.to_string())
    );
}

#[tokio::test]
async fn what_was_spent_is_shown_of_upgrade_task_and_cell() {
    let api = Api::new().await;
    let task = api.task(2).await.body;
    api.spends(1, task["id"].as_i64().unwrap(), "d0", 500).await;
    let expected = json!({
        "bytes_down": 500, "bytes_up": 20, "repeats_down": 2, "repeats_up": 1, "active_seconds": 12.5,
        "airtime_estimated_seconds": 1.25,
    });
    assert_eq!(api.get("/v1/upgrades/1").await.body["traffic"], expected);
    assert_eq!(api.get("/v1/tasks/1").await.body["traffic"], expected);
    let nothing = api.get("/v1/upgrades/2").await.body["traffic"].clone();
    assert_eq!(nothing["bytes_down"], 0);
}
