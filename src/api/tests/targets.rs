//! Whom tasks are for.

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Answer, Api};
use crate::{ledger::TaskId, task::Move};

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

impl Api {
    async fn sweep(&self, task: i64) -> u64 {
        let now = self.state.now();
        let joined = self.state.store.join(TaskId(task), None, now).await;
        joined.unwrap().devices
    }

    async fn change_task(&self, task: i64, body: &Value) -> Answer {
        let path = format!("/v1/tasks/{task}");
        self.json(Method::PATCH, &path, &body.to_string()).await
    }
}

#[tokio::test]
async fn a_task_waits_for_devices_that_join_it_and_says_so() {
    let api = Api::new().await;
    let package = api.package().await;
    let body = json!({"membership": "joining", "not_after": "2100-01-01T00:00:00+02:00"});
    let task = api.create(package, &body).await;
    assert_eq!(task.status, StatusCode::CREATED, "{task:?}");
    let id = task.id();
    assert_eq!(
        (
            &task.body["membership"],
            &task.body["total"],
            &task.body["state"]
        ),
        (&json!("joining"), &json!(0), &json!("running"))
    );
    let stand = json!({
        "code": "joining",
        "text": "nothing is left to do; it waits for devices that join, until 2099-12-31T22:00:00.000Z",
    });
    assert_eq!(task.body["stand"], stand);
    api.post("/v1/devices", &json!({"endpoint": "a", "product": "p"}))
        .await;
    assert!(api.state.signals.members.take(), "whoever follows is told");
    assert_eq!(api.sweep(id).await, 1);
    let shown = api.get(&format!("/v1/tasks/{id}")).await.body;
    assert_eq!(
        (&shown["total"], &shown["stand"]["code"]),
        (&json!(1), &json!("running"))
    );
    let upgrade = api.get("/v1/upgrades/1").await.body;
    let line = &upgrade["events"][0];
    assert_eq!(
        (&line["code"], &line["text"]),
        (&json!("joined"), &json!("the device has joined the task"))
    );
    // nobody joins any more
    let changed = api.change_task(id, &json!({"membership": null})).await;
    assert_eq!(changed.body["membership"], "snapshot");
    api.post("/v1/devices", &json!({"endpoint": "b", "product": "p"}))
        .await;
    assert_eq!(api.sweep(id).await, 0);
    let again = api.change_task(id, &json!({"membership": "joining"})).await;
    assert_eq!(again.body["membership"], "joining");
    assert_eq!(api.sweep(id).await, 1);
    let now = api.state.now();
    let expire = [Move::Expire(TaskId(id))];
    api.state.store.make_moves(&expire, now).await.unwrap();
    let shown = api.get(&format!("/v1/tasks/{id}")).await.body;
    assert_eq!(shown["state"], "running", "its last time has not come");
}

#[tokio::test]
async fn nobody_joins_a_list() {
    let api = Api::new().await;
    let package = api.targets().await;
    let list = |membership: &str| json!({"name": "night", "package_id": package, "devices": ["a"], "membership": membership});
    let refused = api.post("/v1/tasks", &list("joining")).await;
    assert_eq!(refused.fields(), ["membership"]);
    let refused = api.post("/v1/tasks", &list("open")).await;
    assert!(refused.status.is_client_error(), "{refused:?}");
    let task = api.post("/v1/tasks", &list("snapshot")).await;
    assert_eq!(task.status, StatusCode::CREATED, "{task:?}");
    let body = json!({"membership": "joining"});
    let refused = api.change_task(task.id(), &body).await;
    assert_eq!(refused.fields(), ["membership"]);
    assert!(refused.detail().contains("is for a list"), "{refused:?}");
}

#[tokio::test]
async fn changes_of_groups_and_ends_of_exclusions_are_hints_that_devices_may_join() {
    let api = Api::new().await;
    api.targets().await;
    let body = json!({"endpoints": ["b"], "reason": "on loan"});
    api.post("/v1/exclusions", &body).await;
    api.state.signals.members.take();
    api.json(Method::PATCH, "/v1/devices/a", r#"{"site": "x"}"#)
        .await;
    assert!(api.state.signals.members.take());
    api.json(Method::PATCH, "/v1/groups/1", r#"{"add": ["c"]}"#)
        .await;
    assert!(api.state.signals.members.take());
    api.delete("/v1/exclusions/b").await;
    assert!(api.state.signals.members.take());
    api.get("/v1/devices").await;
    assert!(!api.state.signals.members.take());
}

/// hawkBit refuses times with an offset (hawkbit #2026).
#[tokio::test]
async fn times_with_an_offset_are_taken_and_come_back_in_utc() {
    let api = Api::new().await;
    let package = api.targets().await;
    let at = |days: i64, offset: i64| {
        let at = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(24 * days);
        let zone = jiff::tz::Offset::from_seconds(i32::try_from(offset * 60).unwrap()).unwrap();
        let zoned = at.to_zoned(zone.to_time_zone());
        (at, zoned.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string())
    };
    for minutes in [120, -210, 0] {
        let (start, start_text) = at(2, minutes);
        let (last, last_text) = at(9, minutes);
        let body = json!({"start_at": start_text, "not_after": last_text});
        let task = api.create(package, &body).await;
        assert_eq!(task.status, StatusCode::CREATED, "{task:?}");
        let shown = |at: jiff::Timestamp| at.strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string();
        assert_eq!(task.body["start_at"], shown(start), "{start_text}");
        assert_eq!(task.body["not_after"], shown(last), "{last_text}");
    }
}

#[tokio::test]
async fn a_task_tells_whom_it_is_for() {
    let api = Api::new().await;
    let package = api.targets().await;
    let targets = async |field: &str, value: Value| {
        let mut body = json!({"name": "night", "package_id": package});
        body[field] = value;
        let task = api.post("/v1/tasks", &body).await;
        assert_eq!(task.status, StatusCode::CREATED, "{task:?}");
        let shown = api.get(&format!("/v1/tasks/{}", task.id())).await.body;
        assert_eq!(shown["targets"], task.body["targets"]);
        shown["targets"].clone()
    };
    for (field, value, expected) in [
        ("all", json!(true), json!({"filter": null, "group": null})),
        (
            "product",
            json!("p"),
            json!({"filter": null, "group": null}),
        ),
        (
            "filter",
            json!("endpoint == a"),
            json!({"filter": "endpoint==a", "group": null}),
        ),
        ("group", json!(1), json!({"filter": null, "group": 1})),
        ("devices", json!(["a"]), Value::Null),
    ] {
        assert_eq!(targets(field, value).await, expected, "{field}");
    }
}
