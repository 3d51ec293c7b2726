//! Tasks with several packages.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{Answer, Api};
use crate::{
    ledger::{
        Cancellation, Change, Facts, Outcome, PackageId, Served, Stage, StageChange, TaskId,
        UpgradeId, Wanted,
    },
    package::Fits,
};

impl Api {
    /// Packages V2 and V3 of product `p` with two devices, and a task with these fields.
    async fn with_packages(&self, fields: &Value) -> Answer {
        self.task(2).await;
        self.post("/v1/tasks/1/stop", &json!({})).await;
        self.upload("product=p&version=V3", &[8; 1_200]).await;
        self.create_with(fields).await
    }

    async fn create_with(&self, fields: &Value) -> Answer {
        let mut body = json!({"name": "several", "all": true});
        for (field, value) in fields.as_object().unwrap() {
            body[field] = value.clone();
        }
        self.post("/v1/tasks", &body).await
    }
}

fn packages() -> Value {
    json!([
        {"package_id": 1, "from": {"versions": ["V1.0", "V1.1"], "version_from": null, "version_below": null, "hardware": ["B"]}},
        {"package_id": 2, "from": {"versions": null, "version_from": "V2", "version_below": "V3", "hardware": null}},
    ])
}

#[tokio::test]
async fn packages_are_given_back_as_they_were_given() {
    let api = Api::new().await;
    let task = api
        .with_packages(&json!({"packages": packages(), "steps": true, "allow_downgrade": true}))
        .await;
    assert_eq!(task.status, StatusCode::CREATED, "{task:?}");
    let shown = api.get(&format!("/v1/tasks/{}", task.id())).await.body;
    assert_eq!(shown["packages"], packages());
    assert_eq!(
        (&shown["steps"], &shown["allow_downgrade"]),
        (&json!(true), &json!(true))
    );
    assert_eq!(
        (&shown["package_id"], &shown["version"]),
        (&json!(1), &json!("V2"))
    );
    assert_eq!(shown["skipped"], json!({}));
    assert_eq!(shown["conditions"], json!(null));
    // the body of today
    let alone = api.create_with(&json!({"package_id": 2})).await.body;
    assert_eq!(alone["packages"], json!([{"package_id": 2, "from": null}]));
    assert_eq!(
        (&alone["steps"], &alone["allow_downgrade"]),
        (&json!(false), &json!(false))
    );
}

#[tokio::test]
async fn conditions_are_given_back_and_those_that_cannot_be_are_refused() {
    let api = Api::new().await;
    let asked = json!({"battery_percent": 30, "space_kib": null, "signal_dbm": -110});
    let with = json!({"package_id": 1, "conditions": asked});
    let task = api.with_packages(&with).await;
    assert_eq!(task.body["conditions"], asked, "{task:?}");
    let many = json!({"package_id": 1, "conditions": {"battery_percent": 101}});
    let refused = api.create_with(&many).await;
    assert_eq!(refused.problem(), "invalid-field");
    let field = &refused.body["errors"][0]["field"];
    assert_eq!(field, "conditions.battery_percent");
}

#[tokio::test]
async fn packages_that_cannot_be_had_are_refused_by_their_fields() {
    let api = Api::new().await;
    let valid = api.with_packages(&json!({"packages": packages()})).await;
    assert_eq!(valid.status, StatusCode::CREATED, "{valid:?}");
    let other = api.upload("product=q&version=V9", &[9; 1_200]).await.id();
    let from = |from: Value| json!({"packages": [{"package_id": 1, "from": from}]});
    let long: Vec<String> = (0..51).map(|n| format!("V{n}")).collect();
    for (fields, field) in [
        (json!({}), "package_id"),
        (json!({"package_id": 1, "packages": packages()}), "packages"),
        (json!({"packages": []}), "packages"),
        (
            json!({"packages": vec![json!({"package_id": 1}); 21]}),
            "packages",
        ),
        (
            json!({"packages": [{"package_id": 1}, {"package_id": 2}]}),
            "packages[1].from",
        ),
        (
            json!({"packages": [{"package_id": "1"}]}),
            "packages[0].package_id",
        ),
        (json!({"packages": [{}]}), "packages[0]"),
        (
            json!({"packages": [{"package_id": 1, "form": {}}]}),
            "packages[0].form",
        ),
        (from(json!({"versions": []})), "packages[0].from.versions"),
        (
            from(json!({"versions": [" V1"]})),
            "packages[0].from.versions",
        ),
        (
            from(json!({"versions": ["V1", "V1"]})),
            "packages[0].from.versions",
        ),
        (from(json!({"versions": long})), "packages[0].from.versions"),
        (
            from(json!({"versions": ["V1"], "version_below": "V2"})),
            "packages[0].from.versions",
        ),
        (
            from(json!({"version_from": ""})),
            "packages[0].from.version_from",
        ),
        (
            from(json!({"version_from": "V10", "version_below": "V9"})),
            "packages[0].from.version_below",
        ),
        (from(json!({"hardware": [""]})), "packages[0].from.hardware"),
        (from(json!({"hardware": []})), "packages[0].from.hardware"),
        (json!({"package_id": 1, "steps": true}), "steps"),
        (
            json!({"packages": [
                {"package_id": 1, "from": {"versions": ["V1"]}}, {"package_id": other, "from": {"versions": ["V2"]}},
            ]}),
            "packages[1].package_id",
        ),
        (
            json!({"steps": true, "packages": [
                {"package_id": 1, "from": {"versions": ["V3"]}}, {"package_id": 2, "from": {"versions": ["V2"]}},
            ]}),
            "steps",
        ),
    ] {
        let answer = api.create_with(&fields).await;
        assert_eq!(
            answer.status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{fields} {answer:?}"
        );
        assert_eq!(answer.body["errors"][0]["field"], field, "{answer:?}");
    }
    let both = api
        .create_with(&json!({"packages": [{"package_id": 1}, {"package_id": 2}]}))
        .await;
    let detail = both.body["errors"][0]["detail"].as_str().unwrap();
    assert!(
        detail.contains("packages[0] (package 1) and packages[1] (package 2)"),
        "{detail}"
    );
    let gone = json!({"packages": [{"package_id": 99}]});
    assert_eq!(api.create_with(&gone).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn who_is_skipped_is_shown_with_the_reason_and_counted_apart() {
    let api = Api::new().await;
    let task = api.with_packages(&json!({"packages": packages()})).await;
    let upgrades = api.get(&format!("/v1/tasks/{}/upgrades", task.id())).await;
    let ids = [0, 1].map(|i| upgrades.body["items"][i]["id"].as_i64().unwrap());
    let at = api.state.now();
    let begun = |upgrade| Change::Stage {
        upgrade: UpgradeId(upgrade),
        attempt: 1,
        change: StageChange {
            stage: Stage::QueryingVersion,
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
    let outcome = Outcome::Cancelled(Cancellation::NoPackage);
    let facts = Facts {
        version: Some("V0".parse().unwrap()),
        wanted: vec![Wanted {
            target: "V2".parse().unwrap(),
            from: Fits {
                hardware: vec!["B".to_owned()],
                ..Fits::default()
            },
        }],
        ..Facts::default()
    };
    let served = Served::first(PackageId(2));
    api.commit(&[
        begun(ids[0]),
        Change::Ended {
            upgrade: UpgradeId(ids[0]),
            task: TaskId(task.id()),
            attempt: 1,
            outcome,
            facts: Box::new(facts),
            retry_at: None,
            at,
        },
        begun(ids[1]),
        Change::Serves {
            upgrade: UpgradeId(ids[1]),
            attempt: 1,
            served,
        },
    ])
    .await;
    let skipped = api.get(&format!("/v1/upgrades/{}", ids[0])).await.body;
    let outcome = &skipped["outcome"];
    assert_eq!(
        (&outcome["state"], &outcome["reason"]),
        (&json!("cancelled"), &json!("no_package"))
    );
    assert_eq!(
        outcome["detail"],
        "skipped: no package of the task is for this device. The device runs version \"V0\". Its hardware is not known: \
         set it (PATCH /v1/devices/{endpoint}). \"V2\" is for hardware \"B\""
    );
    assert_eq!(
        outcome["arguments"],
        json!({"version": "V0", "wanted": [{"target": "V2", "from": {"hardware": ["B"]}}]})
    );
    assert_eq!(skipped["package_id"], 1);
    let other = api.get(&format!("/v1/upgrades/{}", ids[1])).await.body;
    assert_eq!(other["package_id"], 2, "what it is served");
    let task = api.get(&format!("/v1/tasks/{}", task.id())).await.body;
    assert_eq!(task["skipped"], json!({"no_package": 1}));
    let phase = &task["phases"][0];
    assert_eq!((&phase["total"], &phase["failed"]), (&json!(1), &json!(0)));
}
