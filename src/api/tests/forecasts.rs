use std::time::Duration;

use axum::http::{Method, StatusCode, header};
use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{Answer, Api};
use crate::{
    clock::UtcMillis,
    ledger::{
        Binding, Change, Coverage, CoverageReading, CoverageSource, QueueMode, Registration, Stage,
        StageChange, UpgradeId,
    },
};

const PATIENCE: u32 = 3_000;

impl Api {
    /// The device is registered, listens, and is in good coverage in cell 7.
    async fn is_there(&self, endpoint: &str) {
        let at = self.state.now();
        let registered = Change::Registered {
            endpoint: endpoint.to_owned(),
            registration: Registration {
                location: endpoint.to_owned(),
                peer: "192.0.2.7:5683"
                    .parse::<std::net::SocketAddr>()
                    .unwrap()
                    .into(),
                lifetime_s: 86_400,
                expires_at: at + Duration::from_hours(24),
                registered_at: at,
                message_id: None,
                queue_mode: QueueMode::Off,
                lwm2m_version: None,
                binding: Binding::parse(b"U"),
                announced: None,
            },
            wake_ups: None,
            at,
        };
        let reported = Change::CoverageReported {
            endpoint: endpoint.to_owned(),
            reading: CoverageReading {
                coverage: Coverage {
                    cell: Some(7),
                    rsrp_dbm: Some(-90),
                    sinr_db: Some(12),
                },
                at,
            },
            source: CoverageSource::Object,
        };
        self.commit(&[registered, reported]).await;
    }

    /// What a forecast comes to.
    async fn ended(&self, path: &str) -> Answer {
        for _ in 0..PATIENCE {
            let answer = self.get(path).await;
            let state = answer.body["state"].as_str().unwrap_or_default();
            if !matches!(state, "queued" | "running") {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{path} does not end");
    }

    async fn forecast(&self, body: &Value) -> Value {
        let answer = self.post("/v1/forecasts", body).await;
        assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
        let location = answer.header(header::LOCATION).to_owned();
        assert_eq!(location, format!("/v1/forecasts/{}", answer.id()));
        assert_eq!(answer.body["task_id"], Value::Null);
        let ended = self.ended(&location).await;
        assert_eq!(
            (ended.status, &ended.body["state"]),
            (StatusCode::OK, &json!("done")),
            "{ended:?}"
        );
        assert_eq!(ended.body["progress"], 1.0);
        ended.body["result"].clone()
    }
}

fn time(value: &Value) -> UtcMillis {
    let at: jiff::Timestamp = value.as_str().unwrap().parse().unwrap();
    UtcMillis(at.as_millisecond())
}

#[tokio::test]
async fn a_task_is_forecast_before_it_is_created() {
    let api = Api::new().await;
    let task = api.task(4).await;
    let package = task.body["package_id"].clone();
    for device in ["d0", "d1", "d2"] {
        api.is_there(device).await;
    }
    let body = json!({
        "name": "x", "package_id": package, "all": true, "phases": [{"count": 1, "success_percent": 0}, {}],
        "retry": {"attempts": 1, "interval_seconds": 60},
    });
    let result = api.forecast(&body).await;
    assert_eq!(result["devices"], 4);
    // one was never heard, and is taken to come as the others do
    assert_eq!(result["succeeded"], json!({"p50": 4, "p90": 4}));
    assert_eq!(
        (&result["failed"], &result["skipped"]),
        (&json!({}), &json!({}))
    );
    assert_eq!(result["assumed"]["never_heard"], 1);
    assert_eq!(result["assumed"]["away"], 0);
    assert_eq!(result["assumed"]["packages_drawn"], 0);
    assert_eq!(result["phases"].as_array().unwrap().len(), 2);
    assert_eq!(result["cells"][0]["devices"], 4, "one is drawn: {result}");
    assert_eq!(result["bytes"]["p50"], 4 * 1_200);
    let took = time(&result["finish"]["p50"]).since(time(&result["made_at"]));
    assert!(took < Duration::from_hours(2), "{took:?}");
    let tasks = api.get("/v1/tasks").await;
    assert_eq!(
        tasks.body["items"].as_array().unwrap().len(),
        1,
        "nothing was created"
    );

    let listed = json!({"name": "x", "package_id": package, "devices": ["d0", "d1", "d0"]});
    let result = api.forecast(&listed).await;
    assert_eq!(result["devices"], 2);
    let took = time(&result["finish"]["p90"]).since(time(&result["made_at"]));
    assert!(took < Duration::from_mins(10), "{took:?}");
    assert!(time(&result["finish"]["p50"]) < time(&result["finish"]["p90"]));
    let filter = json!({"name": "x", "package_id": package, "filter": "endpoint==d2"});
    assert_eq!(api.forecast(&filter).await["devices"], 1);
}

#[tokio::test]
async fn limits_of_sites_and_gateways_are_known_to_a_forecast() {
    let api = Api::with(|config| {
        let product = config.products.entry("g".to_owned()).or_default();
        product.per_gateway = Some(8);
    })
    .await;
    let task = api.task(8).await;
    let package = task.body["package_id"].clone();
    let names: Vec<String> = (0..8).map(|number| format!("d{number}")).collect();
    for device in &names {
        api.is_there(device).await;
    }
    let patch = async |endpoint: &str, body: &Value| {
        let path = format!("/v1/devices/{endpoint}");
        let set = api.json(Method::PATCH, &path, &body.to_string()).await;
        assert_eq!(set.status, StatusCode::OK, "{set:?}");
    };
    let body = json!({"name": "x", "package_id": package, "devices": names});
    let took = |result: &Value| {
        let made = time(&result["made_at"]);
        time(&result["finish"]["p50"]).since(made)
    };
    let free = api.forecast(&body).await;
    assert_eq!(
        (&free["sites"], &free["gateways"]),
        (&json!([]), &json!([]))
    );

    for device in &names {
        patch(device, &json!({"site": "depot"})).await;
    }
    assert_eq!(api.forecast(&body).await["sites"], json!([]), "no limit");
    let limit = json!({"limit": 1}).to_string();
    let set = api.json(Method::PUT, "/v1/sites/depot", &limit).await;
    assert_eq!(set.status, StatusCode::OK, "{set:?}");
    let narrow = api.forecast(&body).await;
    assert!(took(&narrow) >= took(&free) * 6, "{narrow}");
    let site = &narrow["sites"][0];
    assert_eq!(
        (&site["site"], &site["devices"]),
        (&json!("depot"), &json!(8))
    );
    assert_eq!(
        (&site["held_by"], &narrow["cells"][0]["held_by"]),
        (&json!("slots"), &json!("elsewhere"))
    );
    assert_eq!(
        (&narrow["sites_total"], &narrow["gateways_total"]),
        (&json!(1), &json!(0))
    );

    let gone = api.delete("/v1/sites/depot").await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
    let gateway = json!({"endpoint": "gw-1", "product": "g"});
    let added = api.post("/v1/devices", &gateway).await;
    assert!(added.status.is_success(), "{added:?}");
    for device in &names {
        patch(device, &json!({"via": "gw-1"})).await;
    }
    let behind = api.forecast(&body).await;
    assert_eq!(behind["gateways"][0]["gateway"], "gw-1");
    assert!(
        took(&behind) < took(&free) * 2,
        "as its product says: {behind}"
    );
    patch("gw-1", &json!({"gateway_limit": 1})).await;
    let narrow = api.forecast(&body).await;
    assert!(took(&narrow) >= took(&free) * 6, "{narrow}");
    assert_eq!(narrow["gateways"][0]["held_by"], "slots");
    // and so to one of a task that is there
    let asked = api.get(&format!("/v1/tasks/{}/forecast", task.id())).await;
    let ended = api.ended(&format!("/v1/forecasts/{}", asked.id())).await;
    let result = &ended.body["result"];
    assert!(took(result) >= took(&free) * 6, "{ended:?}");
}

#[tokio::test]
async fn a_task_that_runs_is_forecast_from_where_it_stands() {
    let api = Api::new().await;
    let task = api.task(3).await;
    let path = format!("/v1/tasks/{}/forecast", task.id());
    for device in ["d0", "d1", "d2"] {
        api.is_there(device).await;
    }
    let now = api.state.now();
    let entered = StageChange {
        stage: Stage::WaitingForSlot,
        entered_at: now,
        deadline_at: now + Duration::from_hours(1),
        queued_at: Some(now),
        slot_deadline_at: None,
        cell: Some(7),
        cell_limit: Some(50),
        confirmed: false,
        download_errors: 0,
    };
    let upgrades = api.get(&format!("/v1/tasks/{}/upgrades", task.id())).await;
    let upgrade = upgrades.body["items"][0]["id"].as_i64().unwrap();
    api.commit(&[Change::Stage {
        upgrade: UpgradeId(upgrade),
        attempt: 1,
        change: entered,
        line: None,
        at: now,
    }])
    .await;
    let asked = api.get(&path).await;
    assert_eq!(asked.status, StatusCode::ACCEPTED, "{asked:?}");
    assert_eq!(asked.body["task_id"], task.id());
    let ended = api.ended(&path).await;
    assert_eq!(
        (ended.status, ended.id()),
        (StatusCode::OK, asked.id()),
        "it is the same one"
    );
    assert_eq!(ended.body["result"]["succeeded"]["p50"], 3);
    assert_eq!(ended.body["result"]["assumed"]["other_devices"], 0);

    // to a forecast of another task, those of this one are in the same cell
    let body = json!({"name": "x", "package_id": task.body["package_id"], "devices": ["d1"]});
    assert_eq!(api.forecast(&body).await["assumed"]["other_devices"], 1);
    let stopped = api
        .post(&format!("/v1/tasks/{}/stop", task.id()), &json!({}))
        .await;
    assert_eq!(stopped.status, StatusCode::OK);
    let over = api.get(&path).await;
    assert_eq!(
        (over.status, over.problem()),
        (StatusCode::CONFLICT, "task-ended")
    );
}

#[tokio::test]
async fn an_excluded_device_holds_its_phase_open_as_it_does_in_the_task() {
    let api = Api::new().await;
    let package = api.task(4).await.body["package_id"].clone();
    for device in ["d0", "d1", "d2", "d3"] {
        api.is_there(device).await;
    }
    let body = json!({
        "name": "x", "package_id": package, "all": true,
        "phases": [{"filter": "endpoint=in=(d0,d1)"}, {}],
    });
    let task = api.post("/v1/tasks", &body).await;
    assert_eq!(task.status, StatusCode::CREATED, "{task:?}");
    let excluded = json!({"endpoints": ["d0"], "reason": "on loan"});
    let answer = api.post("/v1/exclusions", &excluded).await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let path = format!("/v1/tasks/{}/forecast", task.id());
    api.get(&path).await;
    let result = api.ended(&path).await.body["result"].clone();
    // d1 succeeds; the second phase waits for d0, and so does the task
    assert_eq!(result["succeeded"]["p50"], 1, "{result}");
    assert_eq!(result["unfinished"]["p50"], 2, "{result}");
    let task = api.get(&format!("/v1/tasks/{}", task.id())).await;
    assert_eq!(task.body["phases"][0]["total"], 2, "{task:?}");
    assert_eq!(task.body["phases"][0]["passed"], serde_json::Value::Null);
}

#[tokio::test]
async fn what_a_task_is_refused_for_a_forecast_is() {
    let api = Api::new().await;
    let package = api.task(1).await.body["package_id"].clone();
    api.post("/v1/devices", &json!({"endpoint": "other", "product": "q"}))
        .await;
    let excluded = api
        .post(
            "/v1/exclusions",
            &json!({"endpoints": ["d0"], "reason": "old"}),
        )
        .await;
    assert!(excluded.status.is_success(), "{excluded:?}");
    for (change, status, problem) in [
        (json!({"package_id": 99, "all": true}), 404, "not-found"),
        (json!({"group": 99}), 404, "not-found"),
        (json!({"product": "q"}), 409, "other-product"),
        (json!({"devices": ["other"]}), 409, "other-product"),
        (json!({"devices": ["d0", "nobody"]}), 409, "unknown-devices"),
        (json!({"filter": "endpoint==z"}), 409, "no-devices"),
        (json!({"all": true}), 409, "no-devices"),
        (json!({"devices": ["d0"]}), 409, "no-devices"),
        (json!({"devices": []}), 422, "invalid-field"),
        (json!({"all": true, "name": ""}), 422, "invalid-field"),
        (
            json!({"all": true, "rate": {"per_minute": 0}}),
            422,
            "invalid-field",
        ),
        (json!({"all": true, "more": 1}), 422, "invalid-field"),
    ] {
        let mut body = json!({"name": "x", "package_id": package});
        body.as_object_mut()
            .unwrap()
            .extend(change.as_object().unwrap().clone());
        let refused = api.post("/v1/forecasts", &body).await;
        assert_eq!(
            (refused.status.as_u16(), refused.problem()),
            (status, problem),
            "{body}"
        );
        let task = api.post("/v1/tasks", &body).await;
        assert_eq!(
            (task.status, task.problem()),
            (refused.status, refused.problem())
        );
        assert_eq!(task.body["errors"], refused.body["errors"], "{body}");
    }
}

#[tokio::test]
async fn some_wait_and_more_are_refused_and_any_is_cancelled() {
    let api = Api::new().await;
    // enough of them that none has ended before the last request on a busy machine
    let package = api.task(1_000).await.body["package_id"].clone();
    let body = json!({"name": "x", "package_id": package, "all": true});
    let answers = join_all((0..40).map(|_| api.post("/v1/forecasts", &body))).await;
    let (taken, refused): (Vec<_>, Vec<_>) =
        (answers.iter()).partition(|it| it.status == StatusCode::ACCEPTED);
    assert!(
        taken.len() >= 9 && !refused.is_empty(),
        "{} and {}",
        taken.len(),
        refused.len()
    );
    for answer in refused {
        assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(answer.problem(), "too-many-forecasts");
        assert_eq!(answer.header(header::RETRY_AFTER), "30");
    }
    let last = format!(
        "/v1/forecasts/{}",
        taken.iter().map(|it| it.id()).max().unwrap()
    );
    assert_eq!(api.delete(&last).await.status, StatusCode::NO_CONTENT);
    let cancelled = api.get(&last).await;
    assert_eq!(cancelled.body["state"], "cancelled");
    assert_eq!(cancelled.body["result"], Value::Null);
    assert_eq!(
        api.delete(&last).await.status,
        StatusCode::NO_CONTENT,
        "once more"
    );
    for answer in taken {
        let forecast = format!("/v1/forecasts/{}", answer.id());
        assert_eq!(api.delete(&forecast).await.status, StatusCode::NO_CONTENT);
        api.ended(&forecast).await;
    }
    let gone = api.delete("/v1/forecasts/999").await;
    assert_eq!(gone.problem(), "not-found");
}

#[tokio::test]
async fn the_last_forecasts_are_kept() {
    let api = Api::new().await;
    let package = api.task(1).await.body["package_id"].clone();
    let body = json!({"name": "x", "package_id": package, "all": true});
    for _ in 0..33 {
        api.forecast(&body).await;
    }
    assert_eq!(
        api.get("/v1/forecasts/1").await.status,
        StatusCode::NOT_FOUND
    );
    assert_eq!(api.get("/v1/forecasts/2").await.status, StatusCode::OK);
}
