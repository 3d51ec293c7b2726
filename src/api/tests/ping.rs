use axum::{
    body::{Body, to_bytes},
    extract::Request,
    http::{HeaderMap, StatusCode},
};
use serde_json::{Value, json};
use standardwebhooks::Webhook;
use tokio::sync::mpsc;

use super::Api;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A receiver that answers `status`, and what it got.
async fn receiver(status: StatusCode) -> (String, mpsc::UnboundedReceiver<(HeaderMap, Vec<u8>)>) {
    let (told, got) = mpsc::unbounded_channel();
    let router = axum::Router::new().fallback(move |request: Request<Body>| {
        let told = told.clone();
        async move {
            let (parts, body) = request.into_parts();
            let body = to_bytes(body, 10_000).await.unwrap();
            told.send((parts.headers, body.to_vec())).unwrap();
            status
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, router).await });
    (url, got)
}

#[tokio::test]
async fn a_ping_is_posted_signed_and_its_answer_told() {
    let local = "127.0.0.0/8".parse().unwrap();
    let api = Api::with(|config| config.webhooks.allow_networks = vec![local]).await;
    let (works, mut got) = receiver(StatusCode::NO_CONTENT).await;
    let (broken, _got) = receiver(StatusCode::SERVICE_UNAVAILABLE).await;
    for url in [&works, &broken] {
        let added = api
            .post("/v1/webhooks", &json!({"url": url, "secret": SECRET}))
            .await;
        assert_eq!(added.status, StatusCode::CREATED, "{added:?}");
    }
    let pinged = api.post("/v1/webhooks/1/ping", &json!({})).await;
    assert_eq!(pinged.body, json!({"accepted": true, "error": null}));
    let (headers, body) = got.recv().await.unwrap();
    let receiver = Webhook::new(SECRET).unwrap();
    receiver.verify(&body, &headers).unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&body["type"], &body["data"]), (&json!("ping"), &json!({})));
    assert_eq!(body["id"], headers["webhook-id"].to_str().unwrap());
    let refused = api.post("/v1/webhooks/2/ping", &json!({})).await;
    assert_eq!(refused.body["accepted"], false);
    let error = refused.body["error"].as_str().unwrap();
    assert!(error.contains("503"), "{error}");
    let nobody = api.post("/v1/webhooks/3/ping", &json!({})).await;
    assert_eq!(nobody.status, StatusCode::NOT_FOUND);
    // it is no delivery
    let deliveries = api.get("/v1/webhooks/1/deliveries").await;
    assert_eq!(deliveries.body["items"], json!([]));
}
