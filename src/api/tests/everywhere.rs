use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use serde_json::{Value, json};

use super::{Api, TOKEN};
use crate::{health::Part, ledger::Outcome, store::UpgradeState};

#[tokio::test]
async fn everything_under_v1_needs_the_token() {
    let api = Api::with(|config| config.admin.failed_attempts_per_minute = 1_000_000).await;
    for (path, item) in api.description["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let uri = path.replace("{id}", "1").replace("{endpoint}", "a");
            // whoever logs in has nothing to be let in with
            let operation = item[method]["operationId"].as_str().unwrap();
            let open = ["log_in", "begin_oidc", "end_oidc"].contains(&operation);
            let protected = path.starts_with("/v1/") && !open;
            assert_eq!(item[method]["security"].is_array(), protected, "{path}");
            for authorization in [
                "",
                "Bearer wrong",
                "Basic 0123456789abcdef0123456789abcdef",
                TOKEN,
            ] {
                let request = Request::builder()
                    .method(method.to_uppercase().as_str())
                    .uri(&uri)
                    .header(header::AUTHORIZATION, authorization)
                    .body(Body::empty())
                    .unwrap();
                let answer = api.call(request).await;
                let refused = answer.status == StatusCode::UNAUTHORIZED;
                assert_eq!(refused, protected, "{method} {path}: {answer:?}");
                if refused {
                    assert_eq!(answer.problem(), "unauthorized");
                    let challenge = answer.header(header::WWW_AUTHENTICATE);
                    assert!(challenge.starts_with("Bearer"));
                }
            }
        }
    }
}

#[tokio::test]
async fn every_cursor_and_every_webhook_is_described() {
    let api = Api::new().await;
    for (path, item) in api.description["paths"].as_object().unwrap() {
        let parameters = item["get"]["parameters"].as_array();
        let cursor = parameters
            .into_iter()
            .flatten()
            .find(|parameter| parameter["name"] == "cursor");
        if let Some(cursor) = cursor {
            assert!(cursor["schema"]["pattern"].is_string(), "{path}: {cursor}");
        }
    }
    let webhooks = api.description["webhooks"].as_object().unwrap();
    assert_eq!(webhooks.len(), 10);
    let answers = &api.description["paths"]["/v1/tasks"]["get"]["responses"];
    for status in ["429", "503"] {
        assert!(answers[status]["headers"]["Retry-After"].is_object());
    }
}

/// Two types of one name would be described as one of them.
#[tokio::test]
async fn states_are_described_as_they_are() {
    let api = Api::new().await;
    let schemas = &api.description["components"]["schemas"];
    let states = |name: &str| schemas[name]["enum"].to_string();
    assert!(
        states("TaskStateName").contains("running"),
        "{}",
        states("TaskStateName")
    );
    assert!(
        states("DeliveryStateName").contains("delivered"),
        "{}",
        states("DeliveryStateName")
    );
}

#[tokio::test]
async fn the_description_lists_every_route() {
    let api = Api::new().await;
    let mut routes = Vec::new();
    let mut names = std::collections::BTreeSet::new();
    for (path, item) in api.description["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            routes.push(format!("{} {path}", method.to_uppercase()));
            let name = item[method]["operationId"].as_str().unwrap();
            assert!(names.insert(name), "{name} is there twice");
        }
    }
    routes.sort();
    assert_eq!(
        routes,
        [
            "DELETE /v1/app-users/{user}",
            "DELETE /v1/devices/{endpoint}",
            "DELETE /v1/exclusions/{endpoint}",
            "DELETE /v1/forecasts/{id}",
            "DELETE /v1/groups/{id}",
            "DELETE /v1/homes/{home}",
            "DELETE /v1/homes/{home}/devices/{endpoint}",
            "DELETE /v1/homes/{home}/members/{user}",
            "DELETE /v1/offers/{id}",
            "DELETE /v1/packages/{id}",
            "DELETE /v1/packages/{id}/sbom",
            "DELETE /v1/products/{product}",
            "DELETE /v1/products/{product}/keys/{key}",
            "DELETE /v1/session",
            "DELETE /v1/sites/{site}",
            "DELETE /v1/tasks/{id}",
            "DELETE /v1/tenants/{tenant}",
            "DELETE /v1/tokens/{id}",
            "DELETE /v1/users/{name}",
            "DELETE /v1/users/{name}/totp",
            "DELETE /v1/webhooks/{id}",
            "GET /livez",
            "GET /metrics",
            "GET /readyz",
            "GET /v1/app-users/{user}",
            "GET /v1/audit",
            "GET /v1/audit/export",
            "GET /v1/audit/head",
            "GET /v1/cells",
            "GET /v1/cells/{id}",
            "GET /v1/cells/{id}/limits",
            "GET /v1/cells/{id}/series",
            "GET /v1/devices",
            "GET /v1/devices/count",
            "GET /v1/devices/unknown",
            "GET /v1/devices/{endpoint}",
            "GET /v1/devices/{endpoint}/series",
            "GET /v1/devices/{endpoint}/upgrades",
            "GET /v1/events",
            "GET /v1/evidence",
            "GET /v1/evidence/count",
            "GET /v1/evidence/export",
            "GET /v1/exclusions",
            "GET /v1/exclusions/{endpoint}",
            "GET /v1/forecasts/{id}",
            "GET /v1/groups",
            "GET /v1/groups/{id}",
            "GET /v1/homes",
            "GET /v1/homes/{home}",
            "GET /v1/me",
            "GET /v1/offers",
            "GET /v1/offers/{id}",
            "GET /v1/packages",
            "GET /v1/packages/{id}",
            "GET /v1/packages/{id}/sbom",
            "GET /v1/products",
            "GET /v1/products/{product}",
            "GET /v1/products/{product}/keys",
            "GET /v1/session/oidc",
            "GET /v1/session/oidc/callback",
            "GET /v1/settings",
            "GET /v1/sites",
            "GET /v1/sites/{site}",
            "GET /v1/tasks",
            "GET /v1/tasks/{id}",
            "GET /v1/tasks/{id}/forecast",
            "GET /v1/tasks/{id}/series",
            "GET /v1/tasks/{id}/upgrades",
            "GET /v1/tenants",
            "GET /v1/tenants/{tenant}",
            "GET /v1/tokens",
            "GET /v1/tokens/{id}",
            "GET /v1/upgrades",
            "GET /v1/upgrades/{id}",
            "GET /v1/users",
            "GET /v1/users/{name}",
            "GET /v1/webhooks",
            "GET /v1/webhooks/{id}",
            "GET /v1/webhooks/{id}/deliveries",
            "PATCH /v1/cells/{id}",
            "PATCH /v1/devices/{endpoint}",
            "PATCH /v1/groups/{id}",
            "PATCH /v1/me",
            "PATCH /v1/packages/{id}",
            "PATCH /v1/products/{product}",
            "PATCH /v1/tasks/{id}",
            "PATCH /v1/tenants/{tenant}",
            "PATCH /v1/users/{name}",
            "POST /v1/app-tokens",
            "POST /v1/app-users/{user}/revoke",
            "POST /v1/cells",
            "POST /v1/devices",
            "POST /v1/exclusions",
            "POST /v1/forecasts",
            "POST /v1/groups",
            "POST /v1/homes",
            "POST /v1/me/totp",
            "POST /v1/me/totp/confirm",
            "POST /v1/me/totp/remove",
            "POST /v1/offers",
            "POST /v1/outages",
            "POST /v1/packages",
            "POST /v1/products",
            "POST /v1/products/{product}/keys",
            "POST /v1/session",
            "POST /v1/tasks",
            "POST /v1/tasks/{id}/approve",
            "POST /v1/tasks/{id}/copy",
            "POST /v1/tasks/{id}/next-phase",
            "POST /v1/tasks/{id}/pause",
            "POST /v1/tasks/{id}/refuse",
            "POST /v1/tasks/{id}/resume",
            "POST /v1/tasks/{id}/retry",
            "POST /v1/tasks/{id}/stop",
            "POST /v1/tenants",
            "POST /v1/tokens",
            "POST /v1/upgrades/{id}/cancel",
            "POST /v1/upgrades/{id}/confirm",
            "POST /v1/upgrades/{id}/retry",
            "POST /v1/upgrades/{id}/skip",
            "POST /v1/users",
            "POST /v1/users/{name}/login-link",
            "POST /v1/webhooks",
            "POST /v1/webhooks/{id}/deliveries/{delivery}/replay",
            "POST /v1/webhooks/{id}/ping",
            "POST /v1/webhooks/{id}/replay",
            "PUT /v1/homes/{home}",
            "PUT /v1/homes/{home}/devices/{endpoint}",
            "PUT /v1/homes/{home}/members/{user}",
            "PUT /v1/offers/{id}",
            "PUT /v1/packages/{id}/sbom",
            "PUT /v1/sites/{site}",
        ]
    );
    let scheme = &api.description["components"]["securitySchemes"]["token"];
    assert_eq!(scheme["scheme"], "bearer");
    assert_references(&api.description, &api.description);
}

fn assert_references(root: &Value, value: &Value) {
    match value {
        Value::Object(object) => {
            if let Some(Value::String(reference)) = object.get("$ref") {
                assert!(root.pointer(&reference[1..]).is_some(), "{reference}");
            }
            object.values().for_each(|v| assert_references(root, v));
        }
        Value::Array(array) => array.iter().for_each(|v| assert_references(root, v)),
        _ => {}
    }
}

#[tokio::test]
async fn what_is_not_there_is_a_problem_too() {
    let api = Api::new().await;
    let unknown = api.get("/v1/pakcages").await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    assert_eq!(unknown.problem(), "no-such-path");
    assert_eq!(unknown.body["instance"], "/v1/pakcages");
    let method = api.delete("/v1/tasks").await;
    assert_eq!(method.status, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(method.problem(), "method-not-allowed");
    let mut allowed: Vec<_> = method.header(header::ALLOW).split(',').collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["GET", "HEAD", "POST"]);
    for path in [
        "/v1/packages/7",
        "/v1/tasks/7",
        "/v1/forecasts/7",
        "/v1/tasks/7/forecast",
        "/v1/tasks/7/series",
        "/v1/devices/a/series",
        "/v1/upgrades/7",
        "/v1/tasks/7/upgrades",
        "/v1/devices/a",
        "/v1/cells/7",
    ] {
        let answer = api.get(path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        assert_eq!(answer.problem(), "not-found");
    }
    for path in [
        "/v1/packages/x",
        "/v1/tasks/1.5",
        "/v1/upgrades/99999999999999999999",
        "/v1/devices/%FF",
    ] {
        let answer = api.get(path).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{path}");
        assert_eq!(answer.problem(), "bad-path");
    }
}

#[tokio::test]
async fn bodies_that_are_not_what_they_should_be() {
    let api = Api::new().await;
    for (body, problem) in [
        ("", "malformed-json"),
        ("{", "malformed-json"),
        ("{\"endpoint\":\"a\"} x", "malformed-json"),
        ("\u{FEFF}{}", "malformed-json"),
        ("[]", "invalid-field"),
        ("null", "invalid-field"),
        ("{\"endpoint\":\"a\",\"unknown\":1}", "invalid-field"),
        ("{\"endpoint\":\"a\",\"endpoint\":\"b\"}", "invalid-field"),
        ("{\"endpoint\":7}", "invalid-field"),
    ] {
        let answer = api.json(Method::POST, "/v1/devices", body).await;
        assert_eq!(answer.problem(), problem, "{body:?}");
    }
    let place = api
        .json(
            Method::POST,
            "/v1/devices",
            "{\"devices\":[{\"endpoint\":\"a\"},{\"endpoint\":false}]}",
        )
        .await;
    assert_eq!(place.fields(), ["devices[1].endpoint"]);
    let broken = api
        .json(Method::POST, "/v1/devices", "{\n \"endpoint\" 7")
        .await;
    assert_eq!(broken.status, StatusCode::BAD_REQUEST);
    assert!(broken.detail().contains("line 2 column"), "{broken:?}");
    let deep = api
        .json(Method::POST, "/v1/devices", &"[".repeat(100_000))
        .await;
    assert!(deep.status.is_client_error());
    for content_type in [None, Some("text/plain"), Some("application/jsonx")] {
        let answer = api
            .send(Method::POST, "/v1/tasks", content_type, Body::from("{}"))
            .await;
        assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
        assert_eq!(answer.problem(), "wrong-content-type");
    }
    let charset = "Application/JSON; charset=utf-8";
    let body = Body::from("{\"endpoint\":\"a\"}");
    let answer = api
        .send(Method::POST, "/v1/devices", Some(charset), body)
        .await;
    assert_eq!(answer.status, StatusCode::CREATED);
    let large = format!("{{\"endpoint\":\"{}\"}}", "a".repeat(4 * 1024 * 1024));
    let answer = api.json(Method::POST, "/v1/devices", &large).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(answer.problem(), "too-large");
}

#[tokio::test]
async fn parameters_of_lists_are_checked() {
    let api = Api::new().await;
    let task = api.task(1).await.id();
    let upgrades = format!("/v1/tasks/{task}/upgrades");
    for list in [
        "/v1/packages",
        "/v1/devices",
        "/v1/tasks",
        "/v1/cells",
        "/v1/upgrades",
        &*upgrades,
    ] {
        for (query, status, problem) in [
            ("limit=0", 422, "invalid-field"),
            ("limit=1001", 422, "invalid-field"),
            ("limit=-1", 400, "bad-parameter"),
            ("limit=x", 400, "bad-parameter"),
            ("limit=", 400, "bad-parameter"),
            ("limit=1&limit=2", 400, "bad-parameter"),
            ("page=2", 400, "bad-parameter"),
            ("cursor=x", 422, "invalid-field"),
            ("cursor=", 422, "invalid-field"),
            ("cursor=666f6f", 422, "invalid-field"),
            ("cursor=ff", 422, "invalid-field"),
        ] {
            let answer = api.get(&format!("{list}?{query}")).await;
            assert_eq!(answer.status, status, "{list}?{query}: {answer:?}");
            assert_eq!(answer.problem(), problem);
        }
        let answer = api.get(&format!("{list}?limit=1000")).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.body["next_cursor"], Value::Null);
    }
}

#[tokio::test]
async fn pages_follow_each_other_to_the_end() {
    let api = Api::new().await;
    let task = api.task(5).await.id();
    for list in [
        "/v1/devices?limit=2".to_owned(),
        format!("/v1/tasks/{task}/upgrades?limit=2"),
    ] {
        let mut seen = Vec::new();
        let mut path = list.clone();
        loop {
            let page = api.get(&path).await.body;
            let items = page["items"].as_array().unwrap();
            seen.extend(items.iter().map(|item| item["endpoint"].clone()));
            match page["next_cursor"].as_str() {
                Some(cursor) => path = format!("{list}&cursor={cursor}"),
                None => break,
            }
        }
        assert_eq!(seen, ["d0", "d1", "d2", "d3", "d4"]);
    }
    let cursor = api.get("/v1/devices?limit=1").await.body["next_cursor"]
        .as_str()
        .unwrap()
        .to_owned();
    let other = api.get(&format!("/v1/tasks?cursor={cursor}")).await;
    assert_eq!(other.fields(), ["cursor"]);
}

#[tokio::test]
async fn a_source_that_asks_too_often_is_told_to_wait() {
    let api = Api::with(|config| config.admin.requests_per_second = 1).await;
    let mut answer = api.get("/v1/tasks").await;
    for _ in 0..3 {
        answer = api.get("/v1/tasks").await;
    }
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.problem(), "too-many-requests");
    assert!(answer.header(header::RETRY_AFTER).parse::<u64>().unwrap() >= 1);
    assert_eq!(api.get("/livez").await.status, StatusCode::OK);
}

#[tokio::test]
async fn readiness_says_what_does_not_work() {
    let api = Api::new().await;
    for part in Part::ALL {
        api.state.health.works(part);
    }
    assert_eq!(api.get("/readyz").await.status, StatusCode::OK);
    api.state.health.failed(Part::Store, "the disk is full");
    let answer = api.get("/readyz").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.problem(), "not-ready");
    assert_eq!(answer.detail(), "store: the disk is full");
    assert_eq!(api.get("/livez").await.status, StatusCode::OK);
    assert_eq!(api.get("/metrics").await.status, StatusCode::OK);
}

#[tokio::test]
async fn states_reasons_and_times_are_described_as_what_they_are() {
    let api = Api::new().await;
    let property = |schema: &str, name: &str| {
        &api.description["components"]["schemas"][schema]["properties"][name]
    };
    let named = |property: &Value| -> Vec<String> {
        let names = property["enum"].as_array().unwrap();
        names
            .iter()
            .map(|name| name.as_str().unwrap().to_owned())
            .collect()
    };
    let states: Vec<&str> = UpgradeState::all().map(UpgradeState::name).collect();
    assert_eq!(named(property("UpgradeBody", "state")), states);
    assert_eq!(named(property("OutcomeBody", "reason")), Outcome::REASONS);
    assert_eq!(named(property("StageBody", "name")).len(), 7);
    for (schema, name) in [
        ("UpgradeBody", "created_at"),
        ("UpgradeBody", "ended_at"),
        ("EventBody", "at"),
        ("TaskBody", "start_at"),
        ("DeviceBody", "last_heard_at"),
    ] {
        assert_eq!(
            property(schema, name)["format"],
            "date-time",
            "{schema}.{name}"
        );
    }
}

#[tokio::test]
async fn the_description_has_a_page_to_read_it() {
    let api = Api::new().await;
    let page = api.get("/docs/").await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.body.as_str().unwrap().contains("swagger-ui"));
    let script = api.get("/docs/swagger-initializer.js").await;
    assert!(script.body.as_str().unwrap().contains("/openapi.json"));
    let redirect = api.get("/docs").await;
    assert!(redirect.status.is_redirection() || redirect.status.is_success());
}

#[tokio::test]
async fn writes_wake_the_rollout() {
    let api = Api::new().await;
    let body = json!({"endpoint": "a"});
    api.post("/v1/devices", &body).await;
    tokio::time::timeout(
        std::time::Duration::from_secs(5),
        api.state.signals.intent.changed(),
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn every_answer_tells_what_is_left_and_no_other_origin_is_let_in() {
    let api = Api::new().await;
    for (path, item) in api.description["paths"].as_object().unwrap() {
        let methods = item.as_object().unwrap().keys().map(String::as_str);
        for method in methods.chain(["options"]) {
            let request = Request::builder()
                .method(method.to_uppercase().as_str())
                .uri(path.replace("{id}", "1").replace("{endpoint}", "a"))
                .header(header::ORIGIN, "https://elsewhere.example")
                .header(header::ACCESS_CONTROL_REQUEST_METHOD, "POST")
                .body(Body::empty())
                .unwrap();
            let answer = api.call(request).await;
            let names = answer.headers.keys().map(header::HeaderName::as_str);
            let origins = names.filter(|name| name.starts_with("access-control"));
            assert_eq!(origins.count(), 0, "{method} {path}: {answer:?}");
            let limited = path.starts_with("/v1/");
            for name in ["ratelimit", "ratelimit-policy"] {
                let told = answer.headers.get(name).map(|it| it.to_str().unwrap());
                assert_eq!(told.is_some(), limited, "{method} {path}: {answer:?}");
                assert!(told.is_none_or(|it| it.starts_with("\"address\";")));
            }
            let Some(responses) = item[method]["responses"].as_object() else {
                continue;
            };
            for (status, response) in responses {
                let told = response["headers"]["RateLimit"].is_object();
                assert_eq!(told, limited, "{method} {path} {status}");
            }
        }
    }
}

#[tokio::test]
async fn a_source_that_asks_too_often_is_told_how_long_to_wait() {
    let api = Api::with(|config| config.admin.requests_per_second = 1).await; // it has asked once
    assert_eq!(api.get("/v1/tasks").await.status, StatusCode::OK);
    let refused = api.get("/v1/tasks").await;
    assert_eq!(refused.problem(), "too-many-requests");
    assert_eq!(refused.headers["ratelimit-policy"], "\"address\";q=2;w=2");
    let wait = refused.header(header::RETRY_AFTER);
    let limit = format!("\"address\";r=0;t={wait}");
    assert_eq!(refused.headers["ratelimit"], limit.as_str());
}
