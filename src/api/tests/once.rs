//! Requests that come twice.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
    middleware::from_fn_with_state,
};
use futures_util::future::join_all;
use serde_json::json;

use super::{Answer, Api, TOKEN};
use crate::{
    api::{once::once, problem::Problem},
    store::StoreError,
};

impl Api {
    async fn post_with_key(&self, path: &str, body: &str, key: &str) -> Answer {
        let request = Request::post(path)
            .header(header::AUTHORIZATION, format!("Bearer {TOKEN}"))
            .header(header::CONTENT_TYPE, "application/json")
            .header("Idempotency-Key", key)
            .body(Body::from(body.to_owned()))
            .unwrap();
        let answer = self.call(request).await;
        self.check_described(&Method::POST, path, &answer);
        answer
    }

    async fn tasks(&self) -> usize {
        let tasks = self.get("/v1/tasks").await;
        tasks.body["items"].as_array().unwrap().len()
    }
}

fn is_replayed(answer: &Answer) -> bool {
    answer.headers.contains_key("idempotency-replayed")
}

#[tokio::test]
async fn a_task_that_is_created_twice_with_one_key_is_one_task() {
    let api = Api::new().await;
    api.task(2).await;
    let body = json!({"name": "again", "package_id": 1, "all": true}).to_string();
    let first = api.post_with_key("/v1/tasks", &body, "\"one\"").await;
    assert_eq!(first.status, StatusCode::CREATED, "{first:?}");
    // the draft has quotation marks, most programs do not
    let again = api.post_with_key("/v1/tasks", &body, "one").await;
    assert!(is_replayed(&again) && !is_replayed(&first));
    assert_eq!((again.status, &again.body), (first.status, &first.body));
    for name in [header::LOCATION, header::ETAG, header::CONTENT_TYPE] {
        assert_eq!(again.headers[&name], first.headers[&name]);
    }
    assert_eq!(api.tasks().await, 2);
    let other = api.post_with_key("/v1/tasks", &body, "two").await;
    assert!(!is_replayed(&other) && other.id() != first.id());
    // what is said by the key is one request, whatever else is
    let wrong = api
        .post_with_key("/v1/tasks", &body.replace("again", "b"), "one")
        .await;
    assert_eq!(wrong.fields(), ["Idempotency-Key"]);
    let elsewhere = api.post_with_key("/v1/tasks/1/pause", &body, "one").await;
    assert_eq!(elsewhere.fields(), ["Idempotency-Key"]);
}

#[tokio::test]
async fn many_at_once_with_one_key_do_it_once() {
    let api = Api::new().await;
    api.task(2).await;
    let body = json!({"name": "again", "package_id": 1, "all": true}).to_string();
    let requests = (0..20).map(|_| api.post_with_key("/v1/tasks", &body, "k"));
    let answers = join_all(requests).await;
    let first: Vec<_> = answers
        .iter()
        .filter(|it| it.status == StatusCode::CREATED && !is_replayed(it))
        .collect();
    assert_eq!(first.len(), 1);
    for answer in &answers {
        match answer.status {
            StatusCode::CREATED => assert_eq!(answer.body, first[0].body),
            _ => assert_eq!(answer.problem(), "request-unanswered"),
        }
    }
    assert_eq!(api.tasks().await, 2);
}

#[tokio::test]
async fn a_key_of_a_request_that_was_refused_is_free() {
    let api = Api::new().await;
    let body = json!({"name": "night", "package_id": 1, "all": true}).to_string();
    let refused = api.post_with_key("/v1/tasks", &body, "k").await;
    assert_eq!(refused.status, StatusCode::NOT_FOUND);
    api.task(1).await;
    let created = api.post_with_key("/v1/tasks", &body, "k").await;
    assert_eq!(created.status, StatusCode::CREATED, "{created:?}");
}

#[tokio::test]
async fn a_request_that_nobody_answered_is_not_carried_out_again() {
    let api = Api::new().await;
    api.task(1).await;
    let body = json!({"note": "a look"}).to_string();
    let key = "lost";
    let first = api.post_with_key("/v1/tasks/1/pause", &body, key).await;
    assert_eq!(first.status, StatusCode::OK);
    // as if the server had ended before it could keep the answer
    let file = api.dir.path().join(crate::store::FILE_NAME);
    let database = sqlx::SqlitePool::connect(&format!("sqlite:{}", file.display()))
        .await
        .unwrap();
    sqlx::query("UPDATE answers SET status = NULL")
        .execute(&database)
        .await
        .unwrap();
    let again = api.post_with_key("/v1/tasks/1/pause", &body, key).await;
    assert_eq!(again.status, StatusCode::CONFLICT);
    assert_eq!(again.problem(), "request-unanswered");
}

#[tokio::test]
async fn a_key_that_is_none_is_refused() {
    let api = Api::new().await;
    for key in [String::new(), "two words".to_owned(), "k".repeat(256)] {
        let answer = api.post_with_key("/v1/devices", "{}", &key).await;
        assert_eq!(answer.fields(), ["Idempotency-Key"], "{key:?}");
    }
    let longest = "k".repeat(255);
    let answer = api.post_with_key("/v1/devices", "{}", &longest).await;
    assert_ne!(answer.fields(), ["Idempotency-Key"]);
}

#[tokio::test]
async fn every_post_takes_a_key() {
    let api = Api::new().await;
    for (path, item) in api.description["paths"].as_object().unwrap() {
        if item["post"].is_null() {
            continue;
        }
        let parameters = item["post"]["parameters"].as_array();
        let mut parameters = parameters.into_iter().flatten();
        let key = parameters
            .clone()
            .find(|it| it["name"] == "Idempotency-Key");
        // what is kept for a key would be a fast hash of a password
        let takes_a_password = [
            "/v1/me/totp",
            "/v1/me/totp/remove",
            "/v1/session",
            "/v1/users",
        ];
        if takes_a_password.contains(&&**path) {
            assert!(key.is_none(), "{path}");
            continue;
        }
        assert!(key.is_some_and(|key| key["required"] != true), "{path}");
        assert!(
            parameters.any(|it| it["name"] == "Idempotency-Key"),
            "{path}"
        );
        let path = path.replace("{id}", "1").replace("{endpoint}", "a");
        let refused = api.post_with_key(&path, "{}", "two words").await;
        assert_eq!(refused.fields(), ["Idempotency-Key"], "{path}");
    }
}

#[tokio::test]
async fn a_secret_is_told_once() {
    let api =
        Api::with(|config| config.webhooks.allow_networks = vec!["192.0.2.0/24".parse().unwrap()])
            .await;
    let body = json!({"url": "https://192.0.2.1/hook"}).to_string();
    let first = api.post_with_key("/v1/webhooks", &body, "hook").await;
    assert_eq!(first.status, StatusCode::CREATED, "{first:?}");
    let again = api.post_with_key("/v1/webhooks", &body, "hook").await;
    assert_eq!(again.problem(), "request-unanswered");
    let webhooks = api.get("/v1/webhooks").await;
    assert_eq!(webhooks.body["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_package_that_is_sent_twice_with_one_key_is_there_once() {
    let api = Api::new().await;
    let content: Vec<u8> = (0..3_000_000_u32)
        .map(|i| i.to_le_bytes()[i as usize % 3])
        .collect();
    let upload = async |content: &[u8]| {
        let request = Request::post("/v1/packages?product=p&version=V2&segment_size=500")
            .header(header::AUTHORIZATION, format!("Bearer {TOKEN}"))
            .header(header::CONTENT_TYPE, "application/octet-stream")
            .header(header::CONTENT_LENGTH, content.len())
            .header("Idempotency-Key", "upload")
            .body(Body::from(content.to_owned()))
            .unwrap();
        api.call(request).await
    };
    let first = upload(&content).await;
    assert_eq!(first.status, StatusCode::CREATED, "{first:?}");
    let again = upload(&content).await;
    assert!(is_replayed(&again), "{again:?}");
    assert_eq!(again.body, first.body);
    // however it is cut on its way
    let parts: Vec<_> = content
        .chunks(700_001)
        .map(|part| Ok::<_, std::io::Error>(part.to_vec()))
        .collect();
    let request = Request::post("/v1/packages?product=p&version=V2&segment_size=500")
        .header(header::AUTHORIZATION, format!("Bearer {TOKEN}"))
        .header(header::CONTENT_TYPE, "application/octet-stream")
        .header(header::CONTENT_LENGTH, content.len())
        .header("Idempotency-Key", "upload")
        .body(Body::from_stream(futures_util::stream::iter(parts)))
        .unwrap();
    assert!(is_replayed(&api.call(request).await));
    let other = upload(&content[1..]).await;
    assert_eq!(other.fields(), ["Idempotency-Key"]);
}

/// A request that fails so, as often as it is carried out.
async fn fails_with(problem: fn() -> Problem) -> (usize, Vec<Answer>) {
    let mut api = Api::new().await;
    let carried_out = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&carried_out);
    let handler = move || async move {
        counter.fetch_add(1, Relaxed);
        problem()
    };
    api.router = axum::Router::new()
        .route("/v1/things", axum::routing::post(handler))
        .layer(from_fn_with_state(api.state.clone(), once));
    let mut answers = Vec::new();
    for _ in 0..2 {
        answers.push(api.post_with_key("/v1/things", "{}", "one").await);
    }
    (carried_out.load(Relaxed), answers)
}

#[tokio::test]
async fn what_may_have_been_done_is_not_done_twice() {
    // the database may have failed after it has written
    let (times, answers) = fails_with(|| {
        let source = "the disk went away while it was committed".into();
        let doing = "adding a group";
        StoreError::Failed { doing, source }.into()
    })
    .await;
    assert_eq!(times, 1);
    assert_eq!(answers[0].status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answers[1].status, StatusCode::CONFLICT);
    assert_eq!(
        answers[1].body["type"],
        "urn:cellwise:problem:request-unanswered"
    );
    // and what certainly was not is
    let (times, answers) = fails_with(|| {
        let status = StatusCode::INSUFFICIENT_STORAGE;
        Problem::new(status, "disk-full", "The disk is full", "free space")
    })
    .await;
    assert_eq!(times, 2);
    assert_eq!(answers[1].status, StatusCode::INSUFFICIENT_STORAGE);
}
