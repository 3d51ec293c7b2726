//! How tasks are run, and what operators do with them.

use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use serde_json::{Value, json};

use super::{Answer, Api, TOKEN};
use crate::{
    clock::UtcMillis,
    ledger::{Change, Line, Outcome, Stage, StageChange, Success, TaskId, UpgradeId},
    task::{HoldReason, Move},
};

impl Api {
    /// A task for so many devices, and what is said of how it is run.
    async fn ruled(&self, devices: usize, rules: &Value) -> Answer {
        let package = self.task(devices).await.body["package_id"].clone();
        self.post("/v1/tasks/1/stop", &json!({})).await;
        self.ruled_again(&package, rules).await
    }

    async fn ruled_again(&self, package: &Value, rules: &Value) -> Answer {
        let mut body = json!({"name": "ruled", "package_id": package, "all": true});
        for (field, rule) in rules.as_object().unwrap() {
            body[field] = rule.clone();
        }
        self.post("/v1/tasks", &body).await
    }

    async fn operate(&self, task: i64, operation: &str, body: &Value) -> Answer {
        self.post(&format!("/v1/tasks/{task}/{operation}"), body)
            .await
    }

    async fn patch_task(&self, task: i64, seen: Option<&str>, body: &Value) -> Answer {
        let path = format!("/v1/tasks/{task}");
        let mut request = Request::builder()
            .method(Method::PATCH)
            .uri(&path)
            .header(header::AUTHORIZATION, format!("Bearer {TOKEN}"))
            .header(header::CONTENT_TYPE, "application/json");
        if let Some(seen) = seen {
            request = request.header(header::IF_MATCH, seen);
        }
        let request = request.body(Body::from(body.to_string())).unwrap();
        let answer = self.call(request).await;
        self.check_described(&Method::PATCH, &path, &answer);
        answer
    }

    /// What each upgrade of a task waits for.
    async fn waits_for(&self, task: i64) -> Vec<String> {
        let upgrades = self.get(&format!("/v1/tasks/{task}/upgrades")).await.body;
        let mut waits = Vec::new();
        for upgrade in upgrades["items"].as_array().unwrap() {
            let path = format!("/v1/upgrades/{}", upgrade["id"]);
            let upgrade = self.get(&path).await.body;
            waits.push(upgrade["waiting_for"].as_str().unwrap().to_owned());
        }
        waits.sort();
        waits
    }

    async fn make_move(&self, step: Move) {
        let now = self.state.now();
        self.state.store.make_moves(&[step], now).await.unwrap();
    }
}

fn conflict(answer: &Answer, problem: &str) {
    assert_eq!(answer.status, StatusCode::CONFLICT, "{answer:?}");
    assert_eq!(answer.problem(), problem, "{answer:?}");
}

#[tokio::test]
async fn a_task_shows_its_phases_with_their_numbers() {
    let api = Api::new().await;
    let phases = json!([
        {"count": 2, "success_percent": 50, "min_results": 1, "then": "wait"}, {"percent": 50}, {},
    ]);
    let task = api.ruled(10, &json!({"phases": phases})).await;
    assert_eq!(task.status, StatusCode::CREATED, "{task:?}");
    let shown = api.get(&format!("/v1/tasks/{}", task.id())).await;
    assert_eq!(shown.header(header::ETAG), "\"1\"");
    let shown = shown.body;
    assert_eq!(
        (&shown["revision"], &shown["phase"]),
        (&json!(1), &json!(1))
    );
    let first = json!({
        "phase": 1, "state": "running", "filter": null, "percent": null, "count": 2, "success_percent": 50.0, "min_results": 1,
        "then": "wait", "total": 2, "waiting": 2, "running": 0, "succeeded": 0, "failed": 0, "passed": null,
        "soak_seconds": 0, "soaking": 0, "healthy": 0, "unhealthy": 0,
    });
    assert_eq!(shown["phases"][0], first);
    let totals = [0, 1, 2].map(|phase| shown["phases"][phase]["total"].as_u64().unwrap());
    assert_eq!(totals, [2, 5, 3]);
    let stand = json!({"code": "phase", "text": "phase 1 of 3 runs: 0 devices of 1 have a result"});
    assert_eq!(shown["stand"], stand);
    assert_eq!(shown["phases"][2]["state"], "waiting");

    let waits = api.waits_for(task.id()).await;
    assert_eq!(waits[0], "it is about to begin");
    assert_eq!(waits[2], "it is in phase 2 of the task, and phase 1 runs");
    let next = api.operate(task.id(), "next-phase", &json!({})).await.body;
    assert_eq!(
        (&next["phase"], &next["phases"][0]["state"]),
        (&json!(2), &json!("done"))
    );
}

#[tokio::test]
async fn a_phase_without_devices_is_shown_as_well() {
    let api = Api::new().await;
    let rules = json!({"phases": [{"count": 5}, {}]});
    let task = api.ruled(2, &rules).await.body;
    let totals = [0, 1].map(|phase| task["phases"][phase]["total"].clone());
    assert_eq!(totals, [json!(2), json!(0)]);
}

#[tokio::test]
async fn rules_are_given_back_as_they_were_given() {
    let api = Api::new().await;
    let rules = json!({
        "abort": [
            {"percent": 10.5, "count": null, "min_results": 20, "reasons": ["wrong_version"], "action": "pause"},
            {"percent": null, "count": 5, "min_results": 1, "reasons": [], "action": "stop"},
        ],
        "rate": {"per_minute": 60, "factor": 2.0, "each": 100, "most_per_minute": 600},
        "windows": {
            "windows": [{"days": ["mon", "tue"], "from": "22:00", "to": "05:00"}, {"from": "12:00", "to": "13:00"}],
            "zone": "Europe/Berlin", "holidays": ["2027-12-25"], "at_end": "finish",
        },
        "not_after": "2099-01-01T00:00:00.000Z",
        "retry": {"attempts": 1, "interval_seconds": 5, "reasons": ["device_not_heard"]},
    });
    let task = api.ruled(1, &rules).await;
    assert_eq!(task.status, StatusCode::CREATED, "{task:?}");
    for (field, rule) in rules.as_object().unwrap() {
        assert_eq!(&task.body[field], rule, "{field}");
    }
    // and without a word of it
    let package = &task.body["package_id"];
    let plain = api.ruled_again(package, &json!({})).await.body;
    for field in ["rate", "windows", "not_after", "approval"] {
        assert_eq!(plain[field], Value::Null, "{field}");
    }
    assert_eq!(plain["abort"], json!([]));
    assert_eq!(plain["phases"].as_array().unwrap().len(), 1);
    assert_eq!(plain["stand"]["code"], "running");
}

#[tokio::test]
async fn a_phase_has_the_devices_that_its_filter_lets_through() {
    let api = Api::new().await;
    let phases = json!([{"filter": "endpoint == d3"}, {"percent": 40}, {}]);
    let task = api.ruled(5, &json!({"phases": phases})).await.body;
    let totals: Vec<&Value> = (task["phases"].as_array().unwrap().iter())
        .map(|phase| &phase["total"])
        .collect();
    assert_eq!(totals, [1, 2, 2]);
    assert_eq!(task["phases"][0]["filter"], "endpoint==d3");
    assert_eq!(task["phases"][1]["filter"], Value::Null);
    let id = task["id"].as_i64().unwrap();
    let upgrades = api.get(&format!("/v1/tasks/{id}/upgrades")).await.body;
    for upgrade in upgrades["items"].as_array().unwrap() {
        let path = format!("/v1/upgrades/{}", upgrade["id"]);
        let waits = api.get(&path).await.body["waiting_for"].clone();
        let first = upgrade["endpoint"] == "d3";
        assert_eq!(waits == "it is about to begin", first, "{upgrade}: {waits}");
    }

    let other = json!([{"filter": "endpoint==d4"}, {"percent": 40}, {}]);
    let answer = api.patch_task(id, None, &json!({"phases": other})).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    let same = json!([{"filter": "endpoint==d3", "success_percent": 50}, {"percent": 40}, {}]);
    let answer = api.patch_task(id, None, &json!({"phases": same})).await;
    assert_eq!(answer.body["phases"][0]["success_percent"], 50.0);
}

#[tokio::test]
async fn a_task_tells_which_devices_have_to_be_in_health_for_some_time() {
    let api = Api::new().await;
    let phases = json!([{"count": 1, "soak_seconds": 600}, {}]);
    let task = api.ruled(2, &json!({"phases": phases})).await.body;
    let id = task["id"].as_i64().unwrap();
    let upgrades = api.get(&format!("/v1/tasks/{id}/upgrades")).await.body;
    let mut first = None;
    for upgrade in upgrades["items"].as_array().unwrap() {
        let path = format!("/v1/upgrades/{}", upgrade["id"]);
        let detail = api.get(&path).await.body;
        assert_eq!(detail["soak"], Value::Null);
        if detail["waiting_for"] == "it is about to begin" {
            first = detail["id"].as_i64();
        }
    }
    let upgrade = first.unwrap();
    let at = api.state.now();
    let outcome = Outcome::Succeeded(Success::Upgraded);
    let ended = Change::Ended {
        upgrade: UpgradeId(upgrade),
        task: TaskId(id),
        attempt: 1,
        facts: Box::new(outcome.facts()),
        outcome,
        retry_at: None,
        at,
    };
    let begins = StageChange {
        stage: Stage::WaitingForDevice,
        entered_at: at,
        deadline_at: at,
        queued_at: None,
        slot_deadline_at: None,
        cell: None,
        cell_limit: None,
        confirmed: false,
        download_errors: 0,
    };
    let begun = Change::Stage {
        upgrade: UpgradeId(upgrade),
        attempt: 1,
        change: begins,
        line: None,
        at,
    };
    api.commit(&[begun, ended]).await;
    let task = api.get(&format!("/v1/tasks/{id}")).await.body;
    let phase = &task["phases"][0];
    assert_eq!(
        (&phase["succeeded"], &phase["soaking"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(
        (&phase["healthy"], &phase["passed"]),
        (&json!(0), &Value::Null)
    );
    let text = "phase 1 of 2 runs: 0 devices of 1 have a result, and 1 have to be in health for some time after their upgrade";
    assert_eq!(task["stand"]["text"], text);
    let soak = &api.get(&format!("/v1/upgrades/{upgrade}")).await.body["soak"];
    assert_eq!(
        (&soak["state"], &soak["ended_at"]),
        (&json!("soaking"), &Value::Null)
    );
    assert_eq!(
        soak["due_at"],
        (at + std::time::Duration::from_mins(10)).to_string()
    );

    let other = json!({"phases": [{"count": 1, "soak_seconds": 60}, {}]});
    let answer = api.patch_task(id, None, &other).await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
}

#[tokio::test]
async fn a_filter_that_leaves_a_phase_empty_is_refused() {
    let api = Api::new().await;
    let phases = json!([{"count": 1}, {"filter": "site==nowhere"}, {}]);
    let answer = api.ruled(3, &json!({"phases": phases})).await;
    assert_eq!(answer.status, StatusCode::CONFLICT);
    assert_eq!(answer.body["errors"][0]["field"], "phases[1].filter");
    let detail = answer.body["detail"].as_str().unwrap();
    assert!(detail.starts_with("phase 2 has no device: "), "{detail}");
}

#[tokio::test]
async fn each_rule_that_cannot_be_is_named() {
    let api = Api::new().await;
    let package = api.task(1).await.body["package_id"].clone();
    let phase = |field: &str, value: Value| {
        let mut phase = json!({"count": 1});
        phase[field] = value;
        json!([phase])
    };
    let threshold = phase;
    let windows = |field: &str, value: Value| {
        let mut windows = json!({"windows": [{"from": "22:00", "to": "05:00"}], "zone": "UTC"});
        windows[field] = value;
        windows
    };
    let rate = |factor: f64| json!({"per_minute": 9, "factor": factor, "each": 1});
    let retry = json!({"attempts": 1, "interval_seconds": 1, "reasons": ["upgraded"]});
    for (rule, value, named) in [
        ("phases", json!([{}, {}]), "phases[0].percent"),
        ("phases", json!([{"percent": 0}]), "phases[0].percent"),
        (
            "phases",
            json!([{"percent": 60}, {"percent": 60}]),
            "phases",
        ),
        ("phases", json!(vec![json!({"count": 1}); 101]), "phases"),
        ("phases", json!(1), "phases"),
        ("phases", phase("count", json!(0)), "phases[0].count"),
        ("phases", phase("count", json!(-1)), "phases[0].count"),
        ("phases", phase("count", json!(1.5)), "phases[0].count"),
        ("phases", phase("percent", json!(1)), "phases[0].count"),
        (
            "phases",
            phase("min_results", json!(0)),
            "phases[0].min_results",
        ),
        (
            "phases",
            phase("success_percent", json!(101)),
            "phases[0].success_percent",
        ),
        (
            "phases",
            phase("success_percent", json!(-1)),
            "phases[0].success_percent",
        ),
        ("phases", phase("then", json!("later")), "phases[0].then"),
        (
            "phases",
            phase("filter", json!("site==a")),
            "phases[0].filter",
        ),
        (
            "phases",
            json!([{"count": 1}, {"filter": "site="}]),
            "phases[1].filter",
        ),
        ("phases", phase("filter", json!(7)), "phases[0].filter"),
        (
            "phases",
            phase("soak_seconds", json!(2_592_001)),
            "phases[0].soak_seconds",
        ),
        (
            "phases",
            phase("soak_seconds", json!(-1)),
            "phases[0].soak_seconds",
        ),
        ("abort", json!([{}]), "abort[0].percent"),
        ("abort", json!([{"percent": 100.5}]), "abort[0].percent"),
        ("abort", json!(vec![json!({"count": 1}); 21]), "abort"),
        ("abort", threshold("count", json!(0)), "abort[0].count"),
        (
            "abort",
            threshold("min_results", json!(0)),
            "abort[0].min_results",
        ),
        (
            "abort",
            threshold("min_results", json!(-3)),
            "abort[0].min_results",
        ),
        (
            "abort",
            threshold("reasons", json!(["rain"])),
            "abort[0].reasons",
        ),
        (
            "abort",
            threshold("reasons", json!(["upgraded"])),
            "abort[0].reasons",
        ),
        (
            "abort",
            threshold("action", json!("cry")),
            "abort[0].action",
        ),
        ("rate", json!({"per_minute": 0}), "rate.per_minute"),
        ("rate", json!({"per_minute": -1}), "rate.per_minute"),
        ("rate", json!({"per_minute": 1_000_001}), "rate.per_minute"),
        ("rate", rate(0.5), "rate.factor"),
        ("rate", rate(1e300), "rate.factor"),
        ("rate", json!({"per_minute": 9, "factor": 2}), "rate.each"),
        ("rate", json!({"per_minute": 9, "each": 0}), "rate.each"),
        (
            "rate",
            json!({"per_minute": 9, "most_per_minute": 8}),
            "rate.most_per_minute",
        ),
        ("windows", windows("windows", json!([])), "windows.windows"),
        (
            "windows",
            windows("windows", json!([{"from": "25:00", "to": "05:00"}])),
            "windows.windows[0].from",
        ),
        (
            "windows",
            windows(
                "windows",
                json!([{"days": ["mon", "mon"], "from": "01:00", "to": "05:00"}]),
            ),
            "windows.windows[0].days[1]",
        ),
        ("windows", windows("zone", json!("Mars")), "windows.zone"),
        (
            "windows",
            windows("fallback_zone", json!("UTC")),
            "windows.fallback_zone",
        ),
        (
            "windows",
            windows("holidays", json!(["2027-02-30"])),
            "windows.holidays[0]",
        ),
        (
            "windows",
            windows("at_end", json!("later")),
            "windows.at_end",
        ),
        ("windows", json!({"zone": "UTC"}), "windows"),
        ("not_after", json!("2020-01-01T00:00:00Z"), "not_after"),
        ("not_after", json!("soon"), "not_after"),
        ("retry", retry, "retry.reasons"),
        ("approval", json!("yes"), "approval"),
    ] {
        let mut rules = json!({});
        rules[rule] = value;
        let answer = api.ruled_again(&package, &rules).await;
        assert_eq!(answer.fields(), [named], "{rules}: {answer:?}");
    }
}

#[tokio::test]
async fn a_task_is_paused_and_resumed() {
    let api = Api::new().await;
    let task = api.task(2).await.id();
    let long = json!({"note": "x".repeat(501)});
    assert_eq!(api.operate(task, "pause", &long).await.fields(), ["note"]);
    let paused = api.operate(task, "pause", &json!({"note": "why"})).await;
    assert_eq!(paused.status, StatusCode::OK, "{paused:?}");
    assert_eq!(paused.body["state"], "paused");
    assert_eq!(paused.body["stand"]["code"], "paused");
    let waits = api.waits_for(task).await;
    assert!(
        waits[0].starts_with("nothing of the task begins: paused at 2"),
        "{waits:?}"
    );
    assert!(
        waits[0].ends_with(" (why); resume it to go on"),
        "{waits:?}"
    );
    conflict(&api.operate(task, "pause", &json!({})).await, "task-held");
    let resumed = api.operate(task, "resume", &json!({})).await;
    assert_eq!(resumed.body["state"], "running", "{resumed:?}");
    conflict(&api.operate(task, "resume", &json!({})).await, "task-held");
    conflict(
        &api.operate(task, "next-phase", &json!({})).await,
        "task-held",
    );
    // whoever stops a task that is paused leaves nothing to resume
    api.operate(task, "pause", &json!({})).await;
    let stopped = api.operate(task, "stop", &json!({})).await.body;
    assert_eq!(
        stopped["stand"],
        json!({"code": "stopped", "text": "it is stopped"})
    );
}

#[tokio::test]
async fn what_is_not_there_or_has_ended_is_not_operated() {
    let api = Api::new().await;
    let task = api.task(1).await.id();
    api.operate(task, "stop", &json!({})).await;
    let approval = json!({"by": "night shift", "note": "so"});
    for (operation, body) in [
        ("pause", json!({})),
        ("resume", json!({})),
        ("next-phase", json!({})),
        ("approve", approval.clone()),
        ("refuse", approval),
        ("retry", json!({})),
    ] {
        conflict(&api.operate(task, operation, &body).await, "task-ended");
        let gone = api.operate(99, operation, &body).await;
        assert_eq!(gone.status, StatusCode::NOT_FOUND, "{operation}");
        let path = format!("/v1/tasks/x/{operation}");
        assert_eq!(api.post(&path, &body).await.status, StatusCode::BAD_REQUEST);
    }
    conflict(&api.patch_task(task, None, &json!({})).await, "task-ended");
    let gone = api.patch_task(99, None, &json!({})).await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_task_waits_until_it_is_approved_or_refused() {
    let api = Api::new().await;
    let task = api.ruled(1, &json!({"approval": true})).await;
    assert_eq!(task.body["state"], "awaiting_approval");
    assert_eq!(task.body["stand"]["code"], "approval");
    let (package, task) = (task.body["package_id"].clone(), task.id());
    conflict(&api.operate(task, "resume", &json!({})).await, "task-held");
    conflict(
        &api.operate(task, "next-phase", &json!({})).await,
        "task-held",
    );
    let nobody = api.operate(task, "approve", &json!({"by": ""})).await;
    assert_eq!(nobody.fields(), ["by"]);
    let night = json!({"by": "night shift"});
    assert_eq!(api.operate(task, "refuse", &night).await.fields(), ["note"]);
    let approved = api.operate(task, "approve", &night).await.body;
    assert_eq!(approved["state"], "running");
    assert_eq!(approved["approval"]["approved"], true);
    assert_eq!(approved["approval"]["by"], "night shift");
    conflict(&api.operate(task, "approve", &night).await, "task-held");

    let task = api
        .ruled_again(&package, &json!({"approval": true}))
        .await
        .id();
    let why = json!({"by": "night shift", "note": "not tonight"});
    let refused = api.operate(task, "refuse", &why).await.body;
    assert_eq!(refused["state"], "stopped");
    assert_eq!(refused["stand"]["text"], "it is stopped");
    assert_eq!(refused["approval"]["approved"], false);
    assert_eq!(refused["approval"]["note"], "not tonight");
}

#[tokio::test]
async fn a_task_that_nobody_has_approved_waits_for_that_also_when_it_is_tried_again() {
    let api = Api::new().await;
    let task = api.ruled(2, &json!({"approval": true})).await.id();
    let state = async || api.get(&format!("/v1/tasks/{task}")).await.body;
    let waits = async || {
        let shown = state().await;
        assert_eq!(shown["state"], "awaiting_approval", "{shown}");
        assert_eq!(shown["approval"], Value::Null);
        let heads = api.state.store.task_heads(api.state.now()).await.unwrap();
        let held = heads.iter().all(|head| head.hold.is_some());
        assert!(held && heads.len() == 1, "{heads:?}");
    };
    // the first two are of another task
    for upgrade in [3, 4] {
        api.post(&format!("/v1/upgrades/{upgrade}/skip"), &json!({}))
            .await;
    }
    assert_eq!(state().await["state"], "finished");
    let again = api.post("/v1/upgrades/3/retry", &json!({})).await;
    assert_eq!(again.status, StatusCode::OK, "{again:?}");
    waits().await;
    // and by all that has failed
    api.fail(3, task).await;
    assert_eq!(state().await["state"], "finished");
    let again = api.operate(task, "retry", &json!({})).await;
    assert_eq!(again.body["retried"], 1, "{again:?}");
    waits().await;
    conflict(&api.operate(task, "resume", &json!({})).await, "task-held");
    let approve = json!({"by": "anna"});
    let approved = api.operate(task, "approve", &approve).await;
    assert_eq!(approved.body["approval"]["approved"], true, "{approved:?}");
    let heads = api.state.store.task_heads(api.state.now()).await.unwrap();
    assert_eq!(heads[0].hold, None);
}

#[tokio::test]
async fn what_has_failed_is_tried_again_for_some_reasons() {
    let api = Api::new().await;
    let task = api.task(1).await.id();
    api.fail(1, task).await;
    let rain = api
        .operate(task, "retry", &json!({"reasons": ["rain"]}))
        .await;
    assert_eq!(rain.fields(), ["reasons"]);
    let retry = async |body| api.operate(task, "retry", &body).await.body;
    let none = retry(json!({"reasons": ["wrong_version"]})).await;
    assert_eq!(
        (&none["retried"], &none["task"]["state"]),
        (&json!(0), &json!("finished"))
    );
    let one = retry(json!({"reasons": ["device_not_heard", "wrong_version"]})).await;
    assert_eq!(
        (&one["retried"], &one["task"]["state"]),
        (&json!(1), &json!("running"))
    );
    assert_eq!(one["task"]["ended_at"], Value::Null);
    assert_eq!(api.waits_for(task).await, ["it is about to begin"]);
}

#[tokio::test]
async fn a_soft_stop_lets_downloads_go_on() {
    let api = Api::new().await;
    let task = api.task(2).await.id();
    let at = api.state.now();
    let change = StageChange {
        stage: Stage::Downloading,
        entered_at: at,
        deadline_at: at,
        queued_at: Some(at),
        slot_deadline_at: Some(at),
        cell: Some(7),
        cell_limit: Some(1),
        confirmed: false,
        download_errors: 0,
    };
    let line = Some(Line::sentence("so"));
    let (upgrade, attempt) = (UpgradeId(1), 1);
    api.commit(&[Change::Stage {
        upgrade,
        attempt,
        change,
        line,
        at,
    }])
    .await;
    let stopping = api.operate(task, "stop?soft=true", &json!({})).await.body;
    assert_eq!(stopping["state"], "stopping");
    let counts = (
        &stopping["counts"]["downloading"],
        &stopping["counts"]["cancelled"],
    );
    assert_eq!(counts, (&json!(1), &json!(1)));
    assert_eq!(api.state.store.upgrades_to_stop(9).await.unwrap().len(), 0);
    api.operate(task, "stop", &json!({})).await;
    assert_eq!(api.state.store.upgrades_to_stop(9).await.unwrap().len(), 1);
    let gone = api.operate(99, "stop?soft=true", &json!({})).await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND);
    let odd = api.operate(task, "stop?soft=maybe", &json!({})).await;
    assert_eq!(
        (odd.status, odd.problem()),
        (StatusCode::BAD_REQUEST, "bad-parameter")
    );
}

#[tokio::test]
async fn rules_are_changed_by_whoever_has_seen_them() {
    let api = Api::new().await;
    let rate = json!({"rate": {"per_minute": 1}, "phases": [{"count": 1}, {}]});
    let task = api.ruled(3, &rate).await.id();
    let faster = json!({"rate": {"per_minute": 2}});
    let changed = api.patch_task(task, Some("\"1\""), &faster).await;
    assert_eq!(changed.status, StatusCode::OK, "{changed:?}");
    assert_eq!(changed.header(header::ETAG), "\"2\"");
    assert_eq!(changed.body["rate"]["per_minute"], 2);
    let late = api.patch_task(task, Some("\"1\""), &rate_of(3)).await;
    assert_eq!(late.status, StatusCode::PRECONDITION_FAILED);
    assert_eq!(late.problem(), "changed-meanwhile");
    let odd = api.patch_task(task, Some("W/x"), &rate_of(3)).await;
    assert_eq!(odd.fields(), ["If-Match"]);
    for seen in [None, Some("*")] {
        let changed = api.patch_task(task, seen, &rate_of(3)).await;
        assert_eq!(changed.status, StatusCode::OK, "{changed:?}");
    }
    // the phases stay, and what has to come of them may change
    let looser = json!({"phases": [{"count": 1, "success_percent": 50}, {}]});
    let looser = api.patch_task(task, None, &looser).await.body;
    assert_eq!(looser["phases"][0]["success_percent"], 50.0);
    assert_eq!(looser["rate"]["per_minute"], 3);
    for phases in [
        json!([{"count": 2}, {}]),
        json!([{"count": 1}]),
        json!([]),
        json!(null),
    ] {
        let other = api.patch_task(task, None, &json!({"phases": phases})).await;
        assert_eq!(other.fields(), ["phases"], "{phases}");
    }
    let unknown = api.patch_task(task, None, &json!({"approval": true})).await;
    assert_eq!(unknown.fields(), ["approval"]);
}

fn rate_of(per_minute: u32) -> Value {
    json!({"rate": {"per_minute": per_minute}})
}

#[tokio::test]
async fn null_takes_a_rule_away_and_what_is_not_given_stays() {
    let api = Api::new().await;
    let windows = json!({"windows": [{"from": "00:00", "to": "00:00"}], "zone": "UTC"});
    let rules = json!({
        "abort": [{"count": 2}], "rate": {"per_minute": 1}, "windows": windows, "not_after": "2099-01-01T00:00:00Z",
    });
    let task = api.ruled(1, &rules).await.id();
    let before = api.get(&format!("/v1/tasks/{task}")).await.body;
    let same = api.patch_task(task, None, &json!({})).await.body;
    for field in ["abort", "rate", "windows", "not_after"] {
        assert_eq!(same[field], before[field], "{field}");
        let mut take_away = json!({});
        take_away[field] = Value::Null;
        let without = api.patch_task(task, None, &take_away).await.body;
        let nothing = if field == "abort" {
            json!([])
        } else {
            Value::Null
        };
        assert_eq!(without[field], nothing, "{field}");
    }
    for (field, value, named) in [
        ("not_after", json!("2020-01-01T00:00:00Z"), "not_after"),
        ("abort", json!([{"count": 0}]), "abort[0].count"),
        ("rate", json!({"per_minute": 0}), "rate.per_minute"),
        (
            "windows",
            json!({"windows": [], "zone": "UTC"}),
            "windows.windows",
        ),
        // the devices are dealt out without their zones
        (
            "windows",
            json!({"windows": [{"from": "01:00", "to": "02:00"}], "zone": "device"}),
            "windows.zone",
        ),
    ] {
        let mut body = json!({});
        body[field] = value;
        let refused = api.patch_task(task, None, &body).await;
        assert_eq!(refused.fields(), [named], "{body}");
    }
}

#[tokio::test]
async fn a_closed_window_is_told() {
    let api = Api::new().await;
    let day = jiff::Timestamp::from_millisecond(api.state.now().0 + 3 * 86_400_000).unwrap();
    let day = jiff::tz::TimeZone::UTC.to_datetime(day).date();
    let number = usize::try_from(day.weekday().to_monday_zero_offset()).unwrap();
    let name = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"][number];
    let windows =
        json!({"windows": [{"days": [name], "from": "01:00", "to": "02:00"}], "zone": "UTC"});
    let task = api.ruled(1, &json!({"windows": windows})).await;
    assert_eq!(task.body["stand"]["code"], "window_closed");
    let opens = format!("next window opens at {day}T01:00:00.000Z");
    assert_eq!(task.body["stand"]["text"], format!("its {opens}"));
    assert_eq!(
        api.waits_for(task.id()).await,
        [format!("the task's {opens}")]
    );
}

#[tokio::test]
async fn devices_in_different_zones_are_in_different_lots() {
    let api = Api::new().await;
    let devices = json!({"devices": [
        {"endpoint": "d0", "product": "p", "time_zone": "Europe/Berlin"},
        {"endpoint": "d1", "product": "p", "time_zone": "Asia/Shanghai"},
        {"endpoint": "d2", "product": "p", "time_zone": "Europe/Berlin"},
        {"endpoint": "d3", "product": "p"},
    ]});
    api.post("/v1/devices", &devices).await;
    let package = json!(api.package().await);
    let windows = json!({"windows": [{"from": "01:00", "to": "05:00"}], "zone": "device"});
    let task = api
        .ruled_again(&package, &json!({"windows": windows}))
        .await;
    assert_eq!(task.status, StatusCode::CREATED, "{task:?}");
    // the zone of devices that have none is told as well
    assert_eq!(task.body["windows"]["fallback_zone"], "UTC");
    let heads = api.state.store.task_heads(api.state.now()).await.unwrap();
    let lots = heads[0].lots.iter();
    let mut zones: Vec<_> = lots.map(|lot| lot.zone.as_deref()).collect();
    zones.sort_unstable();
    assert_eq!(zones, [None, Some("Asia/Shanghai"), Some("Europe/Berlin")]);
}

#[tokio::test]
async fn a_task_that_stopped_by_itself_says_why() {
    let api = Api::new().await;
    let abort = json!({"abort": [{"count": 2, "action": "stop"}]});
    let task = api.ruled(3, &abort).await.id();
    let (failed, results, threshold) = (2, 3, 0);
    let why = HoldReason::Failures {
        failed,
        results,
        threshold,
    };
    api.make_move(Move::Stop(TaskId(task), why)).await;
    let stopped = api.get(&format!("/v1/tasks/{task}")).await.body;
    assert_eq!(stopped["state"], "stopped");
    let text = "it is stopped: 2 of 3 devices have failed, which is too many (abort[0])";
    assert_eq!(stopped["stand"]["text"], text);
}

#[tokio::test]
async fn what_has_not_begun_in_time_is_told_as_expired() {
    let api = Api::new().await;
    let task = api
        .ruled(1, &json!({"not_after": "2099-01-01T00:00:00Z"}))
        .await
        .id();
    // by then
    let late: jiff::Timestamp = "2099-01-01T00:00:01Z".parse().unwrap();
    let now = UtcMillis(late.as_millisecond());
    let expire = [Move::Expire(TaskId(task))];
    api.state.store.make_moves(&expire, now).await.unwrap();
    let upgrades = api.get(&format!("/v1/tasks/{task}/upgrades")).await.body;
    let upgrade = &upgrades["items"][0];
    assert_eq!(upgrade["state"], "cancelled");
    assert_eq!(upgrade["outcome"]["reason"], "expired", "{upgrade}");
    let task = api.get(&format!("/v1/tasks/{task}")).await.body;
    assert_eq!(task["state"], "finished");
}
