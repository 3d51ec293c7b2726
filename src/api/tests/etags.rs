//! Changes that are made only by whoever has seen what is changed.

use axum::{
    body::Body,
    http::{Method, Request, StatusCode, header},
};
use serde_json::{Value, json};

use super::{Answer, Api, TOKEN};

impl Api {
    async fn if_match(&self, method: &Method, path: &str, body: &Value, tag: &str) -> Answer {
        let body = match *method {
            Method::DELETE => Body::empty(),
            _ => Body::from(body.to_string()),
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {TOKEN}"))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::IF_MATCH, tag)
            .body(body)
            .unwrap();
        let answer = self.call(request).await;
        self.check_described(method, path, &answer);
        answer
    }

    async fn tag(&self, path: &str) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        answer.header(header::ETAG).to_owned()
    }

    /// Whoever has seen `path` as it is changes it, and whoever has not does not.
    async fn is_changed_by_who_has_seen_it(&self, path: &str, changes: [Value; 2]) {
        let [first, second] = changes;
        let seen = self.tag(path).await;
        assert_eq!(self.tag(path).await, seen, "{path}");
        let answer = self.if_match(&Method::PATCH, path, &first, &seen).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        let next = answer.header(header::ETAG).to_owned();
        assert_ne!(next, seen, "{path}");
        assert_eq!(self.tag(path).await, next, "{path}");
        let before = self.get(path).await.body;
        let late = self.if_match(&Method::PATCH, path, &second, &seen).await;
        assert_eq!(late.status, StatusCode::PRECONDITION_FAILED, "{late:?}");
        assert_eq!(late.problem(), "changed-meanwhile");
        assert!(late.detail().contains(next.trim_matches('"')), "{late:?}");
        assert_eq!(self.get(path).await.body, before, "nothing has changed");
        for wrong in ["W/\"1\"", "three", "\"1\", \"2\""] {
            let refused = self.if_match(&Method::PATCH, path, &second, wrong).await;
            assert_eq!(refused.fields(), ["If-Match"], "{wrong}");
        }
        let any = self.if_match(&Method::PATCH, path, &second, "*").await;
        assert_eq!(any.status, StatusCode::OK, "{any:?}");
    }

    async fn is_removed_by_who_has_seen_it(&self, path: &str) {
        let seen = self.tag(path).await;
        let late = self
            .if_match(&Method::DELETE, path, &Value::Null, "\"77\"")
            .await;
        assert_eq!(late.status, StatusCode::PRECONDITION_FAILED, "{late:?}");
        assert_eq!(self.tag(path).await, seen, "it is there still");
        let removed = self
            .if_match(&Method::DELETE, path, &Value::Null, &seen)
            .await;
        assert_eq!(removed.status, StatusCode::NO_CONTENT, "{removed:?}");
        let gone = self
            .if_match(&Method::DELETE, path, &Value::Null, &seen)
            .await;
        assert_eq!(gone.status, StatusCode::NOT_FOUND, "{gone:?}");
    }
}

#[tokio::test]
async fn a_device_is_changed_by_whoever_has_seen_it() {
    let api = Api::new().await;
    let body = json!({"endpoint": "d0", "product": "p"});
    let added = api.post("/v1/devices", &body).await;
    assert_eq!(added.status, StatusCode::CREATED, "{added:?}");
    let path = "/v1/devices/d0";
    let changes = [json!({"site": "depot-4"}), json!({"site": "depot-5"})];
    api.is_changed_by_who_has_seen_it(path, changes).await;
    api.is_removed_by_who_has_seen_it(path).await;
    let nobody = api
        .if_match(&Method::PATCH, path, &json!({"site": "x"}), "\"1\"")
        .await;
    assert_eq!(nobody.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_group_is_changed_by_whoever_has_seen_it() {
    let api = Api::new().await;
    let body = json!({"name": "north", "filter": "site==north"});
    let added = api.post("/v1/groups", &body).await;
    let path = added.header(header::LOCATION).to_owned();
    assert_eq!(api.tag(&path).await, added.header(header::ETAG));
    let changes = [json!({"name": "south"}), json!({"name": "west"})];
    api.is_changed_by_who_has_seen_it(&path, changes).await;
    api.is_removed_by_who_has_seen_it(&path).await;
}

#[tokio::test]
async fn a_cell_is_changed_by_whoever_has_seen_it() {
    let api = Api::new().await;
    let path = "/v1/cells/7";
    // nobody has ruled anything yet
    let first = api
        .if_match(&Method::PATCH, path, &json!({"limit": 3}), "\"0\"")
        .await;
    assert_eq!(first.status, StatusCode::OK, "{first:?}");
    let changes = [json!({"limit": 4}), json!({"note": "mast"})];
    api.is_changed_by_who_has_seen_it(path, changes).await;
}

#[tokio::test]
async fn a_product_is_changed_by_whoever_has_seen_it() {
    let api = Api::new().await;
    let path = "/v1/products/meter";
    let changes = [
        json!({"settings": {"awake_window_s": 7}}),
        json!({"settings": {"awake_window_s": 8}}),
    ];
    // nobody has created it yet
    api.is_changed_by_who_has_seen_it(path, changes).await;
    api.is_removed_by_who_has_seen_it(path).await;
    let added = api.post("/v1/products", &json!({"product": "meter"})).await;
    assert_eq!(added.header(header::LOCATION), path);
    assert_eq!(api.tag(path).await, added.header(header::ETAG));
}

#[tokio::test]
async fn a_webhook_is_removed_by_whoever_has_seen_it() {
    let api = Api::new().await;
    let body = json!({"url": "https://1.1.1.1/hook"});
    let added = api.post("/v1/webhooks", &body).await;
    if added.status == StatusCode::CREATED {
        let path = added.header(header::LOCATION).to_owned();
        assert_eq!(api.tag(&path).await, added.header(header::ETAG));
        api.is_removed_by_who_has_seen_it(&path).await;
    } else {
        panic!("{added:?}");
    }
}

#[tokio::test]
async fn an_exclusion_is_ended_by_whoever_has_seen_it() {
    let api = Api::new().await;
    let path = "/v1/exclusions/d0";
    let exclude = async |reason: &str| {
        let body = json!({"endpoints": ["d0", "d1"], "reason": reason});
        assert_eq!(
            api.post("/v1/exclusions", &body).await.status,
            StatusCode::OK
        );
        api.tag(path).await
    };
    assert_eq!(api.get(path).await.status, StatusCode::NOT_FOUND);
    let first = exclude("on loan").await;
    let shown = api.get(path).await.body;
    assert_eq!(
        (&shown["endpoint"], &shown["reason"]),
        (&json!("d0"), &json!("on loan"))
    );
    assert_eq!(first, format!("\"{}\"", shown["revision"]));
    let listed = api.get("/v1/exclusions").await.body["items"][0].clone();
    assert_eq!(listed, shown);
    assert_eq!(exclude("on loan").await, first, "nothing has changed");
    let second = exclude("stolen").await;
    assert_ne!(second, first);
    let end = async |tag: &str| api.if_match(&Method::DELETE, path, &Value::Null, tag).await;
    let late = end(&first).await;
    assert_eq!(late.problem(), "changed-meanwhile", "{late:?}");
    assert!(late.detail().contains("d0"), "{late:?}");
    assert_eq!(end(&second).await.status, StatusCode::NO_CONTENT);
    // made anew as it was, it is another one
    let third = exclude("stolen").await;
    assert!(third != first && third != second, "{third}");
    let late = end(&second).await;
    assert_eq!(late.status, StatusCode::PRECONDITION_FAILED, "{late:?}");
    api.is_removed_by_who_has_seen_it(path).await;
}

#[tokio::test]
async fn of_many_at_once_with_one_tag_one_is_changed() {
    let api = Api::new().await;
    let body = json!({"name": "north", "filter": "site==north"});
    let path = api.post("/v1/groups", &body).await;
    let path = path.header(header::LOCATION).to_owned();
    let bodies: Vec<Value> = (0..10).map(|i| json!({"name": format!("g{i}")})).collect();
    let changes = (bodies.iter()).map(|body| api.if_match(&Method::PATCH, &path, body, "\"1\""));
    let answers = futures_util::future::join_all(changes).await;
    let done = answers.iter().filter(|it| it.status == StatusCode::OK);
    assert_eq!(done.count(), 1);
}
