use axum::http::{Method, StatusCode, header};
use serde_json::{Value, json};

use super::Api;
use crate::ledger::{
    Cancellation, Change, Happened, Outcome, Stage, StageChange, TaskId, UpgradeId,
};

#[tokio::test]
async fn a_task_is_created_for_all_devices_of_the_product() {
    let api = Api::new().await;
    let task = api.task(3).await;
    assert_eq!(
        task.header(header::LOCATION),
        format!("/v1/tasks/{}", task.id())
    );
    assert_eq!(task.body["state"], "running");
    assert_eq!(task.body["total"], 3);
    assert_eq!(task.body["counts"]["pending"], 3);
    assert_eq!(task.body["counts"].as_object().unwrap().len(), 11);
    assert_eq!(
        (&task.body["product"], &task.body["version"]),
        (&json!("p"), &json!("V2"))
    );
    assert_eq!(task.body["retry"], Value::Null);
    let mut shown = task.body.clone();
    let overlaps = shown.as_object_mut().unwrap().remove("overlaps");
    assert_eq!(overlaps, Some(json!({"devices": 0, "tasks": []})));
    let not_served = shown.as_object_mut().unwrap().remove("not_served");
    assert_eq!(not_served, Some(json!(0)));
    let path = format!("/v1/tasks/{}", task.id());
    assert_eq!(api.get(&path).await.body, shown);
    assert_eq!(api.get("/v1/tasks").await.body["items"], json!([shown]));
}

#[tokio::test]
async fn a_task_may_name_devices_a_time_and_retries() {
    let api = Api::new().await;
    let package = api.task(2).await.body["package_id"].clone();
    let start = "2099-01-01T00:00:00Z".parse::<jiff::Timestamp>().unwrap();
    let soon = jiff::Timestamp::from_millisecond(api.state.now().0 + 3_600_000).unwrap();
    let body = json!({
        "name": "Nachts, um zwei ☾", "package_id": package, "devices": ["d1", "d1"],
        "start_at": soon.to_string(), "retry": {"attempts": 2, "interval_seconds": 300},
    });
    let task = api.post("/v1/tasks", &body).await;
    assert_eq!(task.status, StatusCode::CREATED, "{task:?}");
    assert_eq!(task.body["state"], "scheduled");
    assert_eq!(task.body["total"], 1);
    assert_eq!(task.body["retry"], body["retry"]);
    let upgrades = api.get(&format!("/v1/tasks/{}/upgrades", task.id())).await;
    let id = upgrades.body["items"][0]["id"].as_i64().unwrap();
    let upgrade = api.get(&format!("/v1/upgrades/{id}")).await.body;
    let waiting = upgrade["waiting_for"].as_str().unwrap();
    assert!(waiting.starts_with("the task starts at 2"), "{waiting}");
    let body =
        json!({"name": "x", "package_id": package, "all": true, "start_at": start.to_string()});
    assert_eq!(api.post("/v1/tasks", &body).await.fields(), ["start_at"]);
}

#[tokio::test]
async fn fields_of_a_task_are_checked() {
    let api = Api::new().await;
    let package = api.task(1).await.body["package_id"].clone();
    api.post("/v1/devices", &json!({"endpoint": "other"})).await;
    let long = "x".repeat(201);
    for (field, value, named) in [
        ("name", json!(""), "name"),
        ("name", json!(long), "name"),
        ("name", json!("a\nb"), "name"),
        ("name", json!(null), "name"),
        ("name", json!(7), "name"),
        ("package_id", json!("1"), "package_id"),
        ("package_id", json!(1.5), "package_id"),
        ("package_id", json!(null), "package_id"),
        ("all", json!(false), "devices"),
        ("all", json!("true"), "all"),
        ("devices", json!(["d0"]), "devices"),
        ("product", json!("p"), "devices"),
        ("start_at", json!("tomorrow"), "start_at"),
        ("start_at", json!("2027-03-01"), "start_at"),
        ("start_at", json!("2027-03-01T02:00:00"), "start_at"),
        ("start_at", json!("2027-02-30T02:00:00Z"), "start_at"),
        ("start_at", json!(0), "start_at"),
        (
            "retry",
            json!({"attempts": 101, "interval_seconds": 1}),
            "retry.attempts",
        ),
        (
            "retry",
            json!({"attempts": -1, "interval_seconds": 1}),
            "retry.attempts",
        ),
        (
            "retry",
            json!({"attempts": 1, "interval_seconds": 604_801}),
            "retry.interval_seconds",
        ),
        ("retry", json!({"attempts": 1}), "retry"),
        (
            "retry",
            json!({"attempts": 1, "interval_seconds": 1, "x": 1}),
            "retry.x",
        ),
        ("retry", json!(true), "retry"),
        ("extra", json!(1), "extra"),
    ] {
        let mut body = json!({"name": "x", "package_id": package, "all": true});
        body[field] = value;
        let answer = api.post("/v1/tasks", &body).await;
        assert_eq!(answer.fields(), [named], "{body}: {answer:?}");
    }
    for (devices, named) in [
        (json!([]), "devices"),
        (json!([7]), "devices[0]"),
        (json!("d0"), "devices"),
    ] {
        let body = json!({"name": "x", "package_id": package, "devices": devices});
        assert_eq!(
            api.post("/v1/tasks", &body).await.fields(),
            [named],
            "{body}"
        );
    }
    let body = json!({"name": "x", "package_id": package, "product": "q"});
    let refused = api.post("/v1/tasks", &body).await;
    assert_eq!(
        (refused.status, refused.problem()),
        (StatusCode::CONFLICT, "other-product")
    );
    let body = json!({"name": "x", "package_id": package});
    assert_eq!(api.post("/v1/tasks", &body).await.fields(), ["devices"]);
    assert_eq!(
        api.get("/v1/tasks").await.body["items"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn a_start_that_is_past_is_refused_and_not_begun_at_once() {
    let api = Api::new().await;
    let package = api.task(1).await.body["package_id"].clone();
    let create = async |start: String| {
        let body = json!({"name": "x", "package_id": package, "all": true, "start_at": start});
        api.post("/v1/tasks", &body).await
    };
    let ago = |ms: i64| jiff::Timestamp::from_millisecond(api.state.now().0 - ms).unwrap();
    for past in [
        "2020-01-01T00:00:00Z".to_owned(),
        "2020-01-01T02:00:00+02:00".to_owned(),
        ago(5 * 60_000 + 1_000).to_string(),
    ] {
        let refused = create(past).await;
        assert_eq!(refused.fields(), ["start_at"]);
        assert!(refused.detail().contains("is past (it is 2"), "{refused:?}");
    }
    // clocks differ, and commands take their time
    let just_now = create(ago(4 * 60_000).to_string()).await;
    assert_eq!(just_now.body["state"], "running", "{just_now:?}");
}

#[tokio::test]
async fn a_time_without_a_zone_is_told_what_is_missing() {
    let api = Api::new().await;
    let package = api.task(1).await.body["package_id"].clone();
    for start in ["2099-03-01T02:00:00", "2099-03-01 02:00", "2099-03-01"] {
        let body = json!({"name": "x", "package_id": package, "all": true, "start_at": start});
        let refused = api.post("/v1/tasks", &body).await;
        assert_eq!(refused.fields(), ["start_at"]);
        assert!(
            refused.detail().contains("add a zone: Z or +08:00"),
            "{refused:?}"
        );
    }
}

#[tokio::test]
async fn no_further_attempts_may_be_said_outright() {
    let api = Api::new().await;
    let package = api.task(1).await.body["package_id"].clone();
    let body = json!({
        "name": "x", "package_id": package, "all": true,
        "retry": {"attempts": 0, "interval_seconds": 300},
    });
    let task = api.post("/v1/tasks", &body).await;
    assert_eq!(task.status, StatusCode::CREATED, "{task:?}");
    assert_eq!(task.body["retry"], Value::Null);
}

#[tokio::test]
async fn a_second_task_for_the_same_devices_and_package_says_so() {
    let api = Api::new().await;
    let package = api.task(3).await.body["package_id"].clone();
    let create = async |name: &str, devices: &[&str]| {
        let body = json!({"name": name, "package_id": package, "devices": devices});
        api.post("/v1/tasks", &body).await
    };
    let second = create("again", &["d1", "d2"]).await;
    assert_eq!(
        second.body["overlaps"],
        json!({"devices": 2, "tasks": [{"id": 1, "name": "night", "devices": 2}]})
    );
    let third = create("third", &["d0", "d1"]).await;
    assert_eq!(
        third.body["overlaps"],
        json!({"devices": 2, "tasks": [
            {"id": 2, "name": "again", "devices": 1}, {"id": 1, "name": "night", "devices": 2},
        ]})
    );
    // neither what has ended nor what is stopped does anything twice
    api.fail(1, 1).await;
    api.post("/v1/tasks/2/stop", &json!({})).await;
    api.post("/v1/tasks/3/stop", &json!({})).await;
    let none = create("fourth", &["d0"]).await;
    assert_eq!(none.body["overlaps"], json!({"devices": 0, "tasks": []}));
    // another package is another matter
    let other = api.upload("product=p&version=V3", &[8; 1_200]).await.id();
    let body = json!({"name": "V3", "package_id": other, "all": true});
    let other = api.post("/v1/tasks", &body).await;
    assert_eq!(other.body["overlaps"], json!({"devices": 0, "tasks": []}));
}

#[tokio::test]
async fn the_upgrades_of_a_cell_are_listed_with_what_happens_there() {
    let api = Api::new().await;
    let task = api.task(3).await.id();
    let at = api.state.now();
    let change = |stage, cell| StageChange {
        stage,
        entered_at: at,
        deadline_at: at,
        queued_at: Some(at),
        slot_deadline_at: Some(at),
        cell: Some(cell),
        cell_limit: Some(1),
        confirmed: false,
        download_errors: 0,
    };
    let entered = |upgrade, stage, cell| Change::Stage {
        upgrade: UpgradeId(upgrade),
        attempt: 1,
        change: change(stage, cell),
        line: Some(crate::ledger::Line::sentence("so")),
        at,
    };
    api.commit(&[
        entered(1, Stage::Downloading, 7),
        entered(2, Stage::WaitingForSlot, 7),
        entered(3, Stage::WaitingForSlot, 8),
    ])
    .await;
    let ids = async |path: &str| {
        let page = api.get(path).await.body;
        let items = page["items"].as_array().unwrap().clone();
        items
            .iter()
            .map(|it| it["id"].as_i64().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(ids("/v1/upgrades?cell_id=7").await, [2, 1]);
    assert_eq!(ids("/v1/upgrades?cell_id=9").await, [0_i64; 0]);
    assert_eq!(ids("/v1/upgrades").await, [3, 2, 1]);
    let first = api.get("/v1/upgrades?cell_id=7&limit=1").await.body;
    assert_eq!(first["items"][0]["task_name"], "night");
    let cursor = first["next_cursor"].as_str().unwrap();
    let rest = format!("/v1/upgrades?cell_id=7&limit=1&cursor={cursor}");
    assert_eq!(ids(&rest).await, [1]);
    let cell = api.get("/v1/cells/7").await.body;
    assert_eq!((&cell["active"], &cell["waiting"]), (&json!(1), &json!(1)));
    assert_eq!(api.get("/v1/cells/8").await.body["cell_id"], 8);
    let nowhere = api.get("/v1/cells/9").await;
    assert_eq!(nowhere.status, StatusCode::NOT_FOUND);
    let waiting = api.get("/v1/upgrades/2").await.body;
    let waiting = waiting["waiting_for"].as_str().unwrap();
    assert!(
        waiting.starts_with("1 device upgrades in cell 7; this one's coverage allows 1; "),
        "{waiting}"
    );
    // what the operator rules is told as well
    let waits_for = async |rules: Value| {
        let rules = api
            .json(Method::PATCH, "/v1/cells/7", &rules.to_string())
            .await;
        let admitted = &rules.body["admitted"];
        assert_eq!(admitted[0]["upgrade_id"], 1, "{rules:?}");
        let upgrade = api.get("/v1/upgrades/2").await.body;
        upgrade["waiting_for"].as_str().unwrap().to_owned()
    };
    let limited = waits_for(json!({"limit": 3})).await;
    let own = "this one's coverage allows 1, the cell's own limit is 3; ";
    assert!(limited.contains(own), "{limited}");
    let closed = waits_for(json!({"closed_until": "further_notice", "reason": "works"})).await;
    assert_eq!(
        closed,
        "cell 7 is closed by the operator until further notice: works; the time to wait does not run meanwhile"
    );
    // what has ended is still told with its cell
    api.fail(1, task).await;
    assert_eq!(ids("/v1/upgrades?cell_id=7").await, [2, 1]);
}

#[tokio::test]
async fn what_the_state_of_things_does_not_allow_is_a_conflict() {
    let api = Api::new().await;
    let package = api.task(1).await.body["package_id"].clone();
    let product = json!({"endpoint": "other", "product": "other"});
    api.post("/v1/devices", &product).await;
    for (package, devices, status, problem, field) in [
        (
            json!(99),
            "d0",
            StatusCode::NOT_FOUND,
            "not-found",
            "package_id",
        ),
        (
            package.clone(),
            "nobody",
            StatusCode::CONFLICT,
            "unknown-devices",
            "devices",
        ),
        (
            package.clone(),
            "other",
            StatusCode::CONFLICT,
            "other-product",
            "devices",
        ),
    ] {
        let body = json!({"name": "x", "package_id": package, "devices": [devices]});
        let answer = api.post("/v1/tasks", &body).await;
        assert_eq!(
            (answer.status, answer.problem()),
            (status, problem),
            "{answer:?}"
        );
        assert_eq!(answer.body["errors"][0]["field"], field);
    }
    // an integer as JSON Schema has it
    let body = json!({"name": "x", "package_id": 1.0, "all": true, "retry": {"attempts": 2.0, "interval_seconds": 3.0}});
    assert_eq!(
        api.post("/v1/tasks", &body).await.status,
        StatusCode::CREATED
    );
}

#[tokio::test]
async fn a_product_without_devices_makes_no_task() {
    let api = Api::new().await;
    let body = json!({"name": "x", "package_id": api.package().await, "all": true});
    let refused = api.post("/v1/tasks", &body).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert_eq!(refused.problem(), "no-devices");
}

#[tokio::test]
async fn a_running_task_is_stopped_before_it_is_deleted() {
    let api = Api::new().await;
    let task = api.task(2).await.id();
    let path = format!("/v1/tasks/{task}");
    let refused = api.delete(&path).await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert_eq!(refused.problem(), "task-running");
    let stopped = api.post(&format!("{path}/stop"), &json!({})).await;
    assert_eq!(stopped.status, StatusCode::OK);
    assert_eq!(stopped.body["state"], "stopped");
    assert_eq!(stopped.body["counts"]["cancelled"], 2);
    let again = api.post(&format!("{path}/stop"), &json!({})).await;
    assert_eq!(again.body, stopped.body);
    assert_eq!(api.delete(&path).await.status, StatusCode::NO_CONTENT);
    assert_eq!(api.delete(&path).await.status, StatusCode::NOT_FOUND);
    let gone = api.post(&format!("{path}/stop"), &json!({})).await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_finished_task_cannot_be_stopped() {
    let api = Api::new().await;
    let task = api.task(1).await.id();
    api.fail(1, task).await;
    let refused = api
        .post(&format!("/v1/tasks/{task}/stop"), &json!({}))
        .await;
    assert_eq!(refused.status, StatusCode::CONFLICT);
    assert_eq!(refused.problem(), "task-finished");
}

#[tokio::test]
async fn upgrades_show_stage_progress_and_timeline() {
    let api = Api::new().await;
    let task = api.task(2).await.id();
    let at = api.state.now();
    let change = StageChange {
        stage: Stage::Downloading,
        entered_at: at,
        deadline_at: at,
        queued_at: Some(at),
        slot_deadline_at: Some(at),
        cell: Some(51_234),
        cell_limit: Some(10),
        confirmed: true,
        download_errors: 0,
    };
    let upgrade = UpgradeId(1);
    api.commit(&[
        Change::Stage {
            upgrade,
            attempt: 1,
            change,
            line: Some(Box::new(Happened::SlotGranted { cell: 51_234 }.into())),
            at,
        },
        Change::Admitted {
            cell: 51_234,
            limit: 10,
            active: 1,
            at,
        },
        Change::Progress {
            upgrade,
            progress: crate::ledger::Progress {
                done_bytes: 500,
                total_bytes: 1_200,
            },
            at,
        },
    ])
    .await;
    let shown = api.get("/v1/upgrades/1").await.body;
    assert_eq!(shown["state"], "downloading");
    assert_eq!(
        shown["stage"],
        json!({"name": "downloading", "entered_at": at.to_string(), "deadline_at": at.to_string(),
            "cell_limit": 10, "confirmed": true})
    );
    assert_eq!(
        (&shown["progress_percent"], &shown["segment"]),
        (&json!(41), &json!(1))
    );
    assert_eq!(shown["cell_id"], 51_234);
    assert_eq!(
        shown["waiting_for"],
        "downloading, 41 %: segment 1 asked for last; 0 s left"
    );
    assert_eq!(
        shown["events"],
        json!([{"at": at.to_string(), "attempt": 1, "stage": "downloading", "text": "slot in cell 51234 granted",
            "code": "slot_granted", "arguments": {"cell": 51_234}}])
    );
    assert_eq!(api.get("/v1/devices/d0").await.body["upgrade_id"], 1);
    let cells = api.get("/v1/cells").await.body;
    assert_eq!(cells["items"][0]["active"], 1);
    assert_eq!(cells["items"][0]["concurrent_peak"], 1);
    api.fail(1, task).await;
    let shown = api.get("/v1/upgrades/1").await.body;
    assert_eq!(shown["outcome"]["reason"], "device_not_heard");
    assert_eq!(shown["outcome"]["arguments"], json!({}));
    let end = &shown["events"][1];
    assert_eq!(end["code"], "ended");
    assert_eq!(end["arguments"], json!({"reason": "device_not_heard"}));
    assert_eq!(
        (&shown["state"], &shown["stage"]),
        (&json!("failed"), &Value::Null)
    );
    let list = async |state: &str| {
        let answer = api
            .get(&format!("/v1/tasks/{task}/upgrades?state={state}"))
            .await;
        answer.body["items"].as_array().unwrap().len()
    };
    assert_eq!(
        (
            list("failed").await,
            list("pending").await,
            list("executing").await
        ),
        (1, 1, 0)
    );
    let wrong = api
        .get(&format!("/v1/tasks/{task}/upgrades?state=done"))
        .await;
    assert_eq!(wrong.fields(), ["state"]);
}

#[tokio::test]
async fn one_upgrade_is_cancelled_and_the_others_go_on() {
    let api = Api::new().await;
    let task = api.task(3).await.id();
    let cancel = async |id: i64| {
        let path = format!("/v1/upgrades/{id}/cancel");
        api.post(&path, &json!({})).await
    };
    // one that waits
    for _ in 0..2 {
        let waiting = cancel(1).await;
        assert_eq!(waiting.status, StatusCode::OK, "{waiting:?}");
        assert_eq!(waiting.body["state"], "cancelled");
        assert_eq!(waiting.body["outcome"]["reason"], "cancelled");
        assert_eq!(waiting.body["cancel_requested_at"], Value::Null);
    }
    // one that runs
    let at = api.state.now();
    let stage = Change::Stage {
        upgrade: UpgradeId(2),
        attempt: 1,
        change: StageChange {
            stage: Stage::WaitingForDevice,
            entered_at: at,
            deadline_at: at,
            queued_at: None,
            slot_deadline_at: None,
            cell: None,
            cell_limit: None,
            confirmed: false,
            download_errors: 0,
        },
        line: Some(crate::ledger::Line::sentence("begun")),
        at,
    };
    api.commit(&[stage]).await;
    let running = cancel(2).await;
    assert_eq!(running.body["state"], "waiting_for_device");
    let requested = running.body["cancel_requested_at"].clone();
    assert!(requested.is_string());
    assert_eq!(cancel(2).await.body["cancel_requested_at"], requested);
    let shown = api.get("/v1/upgrades/2").await.body;
    let waiting_for = "it was cancelled, and is about to end";
    assert_eq!(shown["waiting_for"], waiting_for);
    let ended = Outcome::Cancelled(Cancellation::Upgrade);
    api.commit(&[Change::Ended {
        upgrade: UpgradeId(2),
        task: TaskId(task),
        attempt: 1,
        facts: Box::new(ended.facts()),
        outcome: ended,
        retry_at: None,
        at,
    }])
    .await;
    let over = cancel(2).await;
    assert_eq!(over.status, StatusCode::OK);
    assert_eq!(over.body["state"], "cancelled");
    assert_eq!(over.body["cancel_requested_at"], requested);
    // one that has ended otherwise, and one that is not there
    api.fail(3, task).await;
    let failed = cancel(3).await;
    assert_eq!(failed.status, StatusCode::CONFLICT);
    assert_eq!(failed.problem(), "upgrade-ended");
    assert_eq!(
        failed.detail(),
        "upgrade 3 has failed; there is nothing to cancel"
    );
    assert_eq!(cancel(99).await.status, StatusCode::NOT_FOUND);
    let counts = api.get(&format!("/v1/tasks/{task}")).await.body;
    assert_eq!(
        (&counts["state"], &counts["counts"]["cancelled"]),
        (&json!("finished"), &json!(2))
    );
}

#[tokio::test]
async fn devices_that_cannot_be_served_any_package_are_counted() {
    let mut api = Api::with(|config| config.mqtt.tcp = true).await;
    let package = api.package().await;
    let device = |endpoint: &str, style: &str| json!({"endpoint": endpoint, "product": "p", "mqtt": {"style": style, "certificate": true}});
    let devices = json!({"devices": [
        device("a", "iotda"), device("b", "thingspanel"), device("c", "iotda"), {"endpoint": "d", "product": "p"},
    ]});
    api.post("/v1/devices", &devices).await;
    let create = async |api: &Api| {
        let body = json!({"name": "t", "package_id": package, "product": "p"});
        let task = api.post("/v1/tasks", &body).await.body;
        assert_eq!(task["total"], 4);
        task["not_served"].clone()
    };
    assert_eq!(create(&api).await, json!(3), "nothing is served over HTTP");
    api.change_settings(|config| config.download.http = true);
    assert_eq!(create(&api).await, json!(0));
    api.change_settings(|config| config.mqtt.tcp = false);
    assert_eq!(create(&api).await, json!(0), "none of them can connect");
}
