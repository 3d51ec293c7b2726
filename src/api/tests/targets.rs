//! Whom tasks are for.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{Answer, Api};

impl Api {
    /// Devices a to d of product p, a package for them, and a group that has a and b.
    async fn targets(&self) -> i64 {
        let devices: Vec<Value> = (["a", "b", "c", "d"].iter())
            .map(|endpoint| json!({"endpoint": endpoint, "product": "p"}))
            .collect();
        self.post("/v1/devices", &json!({"devices": devices})).await;
        self.post(
            "/v1/groups",
            &json!({"name": "loan", "devices": ["a", "b"]}),
        )
        .await;
        self.package().await
    }

    async fn create(&self, package: i64, rest: &Value) -> Answer {
        let mut body = json!({"name": "night", "package_id": package, "all": true});
        for (field, value) in rest.as_object().unwrap() {
            body[field] = value.clone();
        }
        self.post("/v1/tasks", &body).await
    }
}

#[tokio::test]
async fn a_task_tells_whom_it_leaves_out() {
    let api = Api::new().await;
    let package = api.targets().await;
    let everybody = api.create(package, &json!({})).await.body;
    assert_eq!(
        (&everybody["exclude"], &everybody["left_out"]),
        (&Value::Null, &json!(0))
    );
    let body = json!({"endpoints": ["b", "c"], "reason": "on loan"});
    api.post("/v1/exclusions", &body).await;
    for (exclude, shown, total, left_out, excluded) in [
        (
            json!({"devices": ["a"]}),
            json!({"devices": 1, "filter": null, "group": null}),
            1,
            1,
            2,
        ),
        (
            json!({"filter": "endpoint == d"}),
            json!({"devices": 0, "filter": "endpoint==d", "group": null}),
            1,
            1,
            2,
        ),
        (
            json!({"group": 1}),
            json!({"devices": 0, "filter": null, "group": 1}),
            1,
            2,
            1,
        ),
    ] {
        let task = api.create(package, &json!({"exclude": exclude})).await;
        assert_eq!(task.status, StatusCode::CREATED, "{task:?}");
        let task = api.get(&format!("/v1/tasks/{}", task.id())).await.body;
        assert_eq!(task["exclude"], shown);
        let counts = ["total", "left_out", "excluded"].map(|count| task[count].as_u64().unwrap());
        assert_eq!(counts, [total, left_out, excluded], "{exclude}");
    }
    let used = api.delete("/v1/groups/1").await;
    assert_eq!(used.problem(), "group-in-use", "{used:?}");
}

#[tokio::test]
async fn what_cannot_be_left_out_is_told() {
    let api = Api::new().await;
    let package = api.targets().await;
    let many: Vec<String> = (0..10_001).map(|i| i.to_string()).collect();
    for (exclude, field) in [
        (json!({}), "exclude"),
        (json!({"devices": null}), "exclude"),
        (json!({"devices": []}), "exclude.devices"),
        (json!({"devices": many}), "exclude.devices"),
        (json!({"filter": "site=="}), "exclude.filter"),
    ] {
        let refused = api.create(package, &json!({"exclude": exclude})).await;
        assert_eq!(refused.fields(), [field], "{exclude}");
    }
    for (exclude, status, problem, field) in [
        (
            json!({"devices": ["a", "z"]}),
            StatusCode::CONFLICT,
            "unknown-devices",
            "exclude.devices",
        ),
        (
            json!({"group": 7}),
            StatusCode::NOT_FOUND,
            "not-found",
            "exclude.group",
        ),
    ] {
        let refused = api.create(package, &json!({"exclude": exclude})).await;
        assert_eq!((refused.status, refused.problem()), (status, problem));
        assert_eq!(refused.body["errors"][0]["field"], field);
    }
    let nobody = api
        .create(package, &json!({"exclude": {"filter": "endpoint==*"}}))
        .await;
    assert_eq!(
        (nobody.status, nobody.problem()),
        (StatusCode::CONFLICT, "no-devices")
    );
    assert!(
        nobody.detail().contains("the task leaves 4 out itself"),
        "{nobody:?}"
    );
}
