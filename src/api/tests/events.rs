use futures_util::StreamExt as _;

use super::*;
use crate::{api::events::MAX_STREAMS_OF_ONE, notify::Secret};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A stream of events, read as a client does.
pub(super) struct Stream {
    body: axum::body::BodyDataStream,
    text: String,
    /// The ID with which it began.
    begun: Option<String>,
}

impl Stream {
    pub(super) async fn open(api: &Api, path: &str, last: Option<&str>) -> Result<Self, Answer> {
        Self::open_as(api, TOKEN, path, last).await
    }

    pub(super) async fn open_as(
        api: &Api,
        token: &str,
        path: &str,
        last: Option<&str>,
    ) -> Result<Self, Answer> {
        let mut request = Request::builder()
            .uri(path)
            .header(header::AUTHORIZATION, format!("Bearer {token}"));
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let request = request.body(Body::empty()).unwrap();
        let response = api.router.clone().oneshot(request).await.unwrap();
        if response.status() != StatusCode::OK {
            let (parts, body) = response.into_parts();
            let bytes = to_bytes(body, usize::MAX).await.unwrap();
            return Err(Answer {
                status: parts.status,
                headers: parts.headers,
                body: serde_json::from_slice(&bytes).unwrap(),
            });
        }
        assert_eq!(
            response.headers()[header::CONTENT_TYPE],
            "text/event-stream"
        );
        let mut stream = Self {
            body: response.into_body().into_data_stream(),
            text: String::new(),
            begun: None,
        };
        let first = stream.block().await.unwrap();
        assert!(first.contains("retry: 3000"), "{first}");
        stream.begun = (first.lines())
            .find_map(|line| line.strip_prefix("id: "))
            .map(str::to_owned);
        Ok(stream)
    }

    /// The text up to the next empty line; `None` at the end.
    async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.text.split_once("\n\n") {
                let block = block.to_owned();
                self.text = rest.to_owned();
                return Some(block);
            }
            let next = self.body.next();
            let limit = std::time::Duration::from_secs(30);
            let chunk = tokio::time::timeout(limit, next).await.unwrap()?;
            self.text
                .push_str(std::str::from_utf8(&chunk.unwrap()).unwrap());
        }
    }

    /// ID, type and data of the next event.
    pub(super) async fn event(&mut self) -> (String, String, Value) {
        let block = self.block().await.unwrap();
        let field = |name: &str| {
            let mut lines = block.lines().filter_map(|line| line.strip_prefix(name));
            lines.next().unwrap_or_default().to_owned()
        };
        let data = serde_json::from_str(&field("data: ")).unwrap();
        (field("id: "), field("event: "), data)
    }
}

#[tokio::test]
async fn outcomes_are_streamed_as_they_happen() {
    let api = Api::new().await;
    let task = api.task(2).await.id();
    let mut stream = Stream::open(&api, "/v1/events", None).await.unwrap();
    let mut of_other = Stream::open(&api, "/v1/events?task_id=99", None)
        .await
        .unwrap();
    api.fail(1, task).await;
    api.state.signals.written();
    let (id, kind, data) = stream.event().await;
    assert_eq!(kind, "upgrade.failed");
    assert_eq!(data["type"], "upgrade.failed");
    assert_eq!(data["id"], format!("evt_0707070707070707_{id}"));
    assert_eq!(data["data"]["endpoint"], "d0");
    assert_eq!(data["data"]["state"], "failed");
    assert_eq!(data["data"]["reason"], "device_not_heard");
    let stopped = api
        .post(&format!("/v1/tasks/{task}/stop"), &json!({}))
        .await;
    assert_eq!(stopped.status, StatusCode::OK);
    assert_eq!(stream.event().await.1, "upgrade.cancelled");
    let (_, kind, data) = stream.event().await;
    assert_eq!(kind, "task.stopped");
    assert_eq!(data["data"]["cancelled"], 1);
    assert_eq!(data["data"]["failed"], 1);
    // nothing of another task
    assert_eq!(of_other.text, "");
    let pending = futures_util::future::poll_immediate(of_other.block()).await;
    assert_eq!(pending, None);
}

#[tokio::test]
async fn a_client_that_comes_back_gets_what_it_missed() {
    let api = Api::new().await;
    let task = api.task(3).await.id();
    for upgrade in 1..=3 {
        api.fail(upgrade, task).await;
    }
    let mut all = Stream::open(&api, "/v1/events?after=0", None)
        .await
        .unwrap();
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(all.event().await.0);
    }
    let mut rest = Stream::open(&api, "/v1/events?after=0", Some(&ids[1]))
        .await
        .unwrap();
    assert_eq!(rest.event().await.0, ids[2], "the header wins");
    assert_eq!(rest.event().await.0, ids[3]);
    // what is not kept any more is told
    let now = api.state.now() + std::time::Duration::from_secs(1);
    api.state.store.forget_events(now, 2).await.unwrap();
    let mut late = Stream::open(&api, "/v1/events", Some(&ids[0]))
        .await
        .unwrap();
    let (id, kind, data) = late.event().await;
    assert_eq!((id.as_str(), kind.as_str()), ("", "gap"));
    assert_eq!(late.begun, None, "the next break tells it again");
    assert_eq!(data["forgotten"].to_string(), ids[1]);
    assert_eq!(late.event().await.0, ids[2]);
    let mut nothing_missed = Stream::open(&api, "/v1/events", Some(&ids[1]))
        .await
        .unwrap();
    assert_eq!(nothing_missed.event().await.0, ids[2]);
}

#[tokio::test]
async fn a_client_that_has_got_nothing_yet_can_come_back() {
    let api = Api::new().await;
    let task = api.task(3).await.id();
    let empty = Stream::open(&api, "/v1/events", None).await.unwrap();
    assert_eq!(empty.begun.as_deref(), Some("0"));
    api.fail(1, task).await;
    let one = Stream::open(&api, "/v1/events", None).await.unwrap();
    let begun = one.begun.as_deref();
    drop(empty);
    api.fail(2, task).await;
    let mut again = Stream::open(&api, "/v1/events", begun).await.unwrap();
    assert_eq!(again.begun.as_deref(), begun);
    let (second, _, data) = again.event().await;
    assert_eq!(data["data"]["endpoint"], "d1");
    // an old event that is still to be delivered hides no gap
    let body = json!({"url": "https://93.184.216.34/"});
    api.post("/v1/webhooks", &body).await;
    api.fail(3, task).await;
    let now = api.state.now() + std::time::Duration::from_secs(1);
    api.state.store.forget_events(now, 10).await.unwrap();
    let mut late = Stream::open(&api, "/v1/events", Some("0")).await.unwrap();
    let (_, kind, data) = late.event().await;
    assert_eq!(
        (kind.as_str(), data["forgotten"].to_string()),
        ("gap", second)
    );
    let mut all = Stream::open(&api, "/v1/events?after=0", None)
        .await
        .unwrap();
    assert_eq!(all.event().await.1, "upgrade.failed");
}

#[tokio::test]
async fn odd_streams_are_refused() {
    let api = Api::new().await;
    for last in ["x", "-1", "1", "9223372036854775808"] {
        let refused = Stream::open(&api, "/v1/events", Some(last))
            .await
            .err()
            .unwrap();
        assert_eq!(refused.fields(), ["Last-Event-ID"], "{last}");
    }
    let refused = Stream::open(&api, "/v1/events?since=1", None)
        .await
        .err()
        .unwrap();
    assert_eq!(refused.problem(), "bad-parameter");
}

#[tokio::test]
async fn one_caller_leaves_streams_to_others() {
    let api = Api::new().await;
    let mut tokens = Vec::new();
    for n in 0..9 {
        let grants = json!([{"role": "viewer"}]);
        tokens.push(api.token(&format!("v{n}"), grants).await.1);
    }
    let path = "/v1/events";
    let mut open = Vec::new();
    for token in &tokens[..8] {
        for _ in 0..MAX_STREAMS_OF_ONE {
            open.push(Stream::open_as(&api, token, path, None).await.unwrap());
        }
        if open.len() == MAX_STREAMS_OF_ONE {
            let refused = Stream::open_as(&api, token, path, None).await;
            let refused = refused.err().unwrap();
            assert_eq!(refused.problem(), "too-many-streams");
            assert!(refused.detail().contains("v0 has 8"), "{refused:?}");
        }
    }
    let all = Stream::open_as(&api, &tokens[8], path, None).await;
    let all = all.err().unwrap();
    assert_eq!(all.problem(), "too-many-streams");
    assert!(all.detail().starts_with("64"), "{all:?}");
    // with its end another one has the place
    open.pop();
    Stream::open_as(&api, &tokens[8], path, None).await.unwrap();
}

#[tokio::test]
async fn a_stream_ends_when_the_server_stops() {
    let dir = tempfile::tempdir().unwrap();
    let mut state = state(dir.path(), |_| ()).await;
    let (stop, stopped) = watch::channel(false);
    state.stop = stopped;
    let api = Api {
        router: router(state.clone()),
        state,
        description: Value::Null,
        dir,
    };
    let mut stream = Stream::open(&api, "/v1/events", None).await.unwrap();
    stop.send(true).unwrap();
    assert_eq!(stream.block().await, None);
}

#[tokio::test]
async fn a_webhook_is_added_shown_and_removed() {
    let api = Api::new().await;
    let task = api.task(1).await.id();
    let url = "https://93.184.216.34/hook";
    let added = api.post("/v1/webhooks", &json!({"url": url})).await;
    assert_eq!(added.status, StatusCode::CREATED, "{added:?}");
    let made = added.body["secret"].as_str().unwrap();
    assert!(Secret::parse(made).is_ok());
    assert_eq!(added.body["task_id"], Value::Null);
    let path = added.header(header::LOCATION).to_owned();
    let body = json!({"url": url, "secret": SECRET, "task_id": task});
    let of_task = api.post("/v1/webhooks", &body).await;
    assert_eq!(of_task.body["secret"], SECRET);
    let shown = api.get(&path).await;
    assert_eq!(
        (shown.status, &shown.body["url"]),
        (StatusCode::OK, &json!(url))
    );
    assert!(shown.body.get("secret").is_none());
    let list = api.get("/v1/webhooks?limit=1").await;
    assert_eq!(list.body["items"].as_array().unwrap().len(), 1);
    let cursor = list.body["next_cursor"].as_str().unwrap();
    let rest = api.get(&format!("/v1/webhooks?cursor={cursor}")).await;
    assert_eq!(rest.body["items"][0]["task_id"], task);

    api.fail(1, task).await;
    let deliveries = api.get(&format!("{path}/deliveries")).await;
    let items = deliveries.body["items"].as_array().unwrap();
    let kinds: Vec<&Value> = items.iter().map(|item| &item["type"]).collect();
    assert_eq!(kinds, ["task.finished", "upgrade.failed"]);
    assert_eq!(items[0]["state"], "pending");
    assert_eq!(api.get(&path).await.body["pending"], 2);
    let failed = api.get(&format!("{path}/deliveries?state=failed")).await;
    assert_eq!(failed.body["items"], json!([]));
    let odd = api.get(&format!("{path}/deliveries?state=lost")).await;
    assert_eq!(odd.problem(), "bad-parameter");
    let replayed = api.post(&format!("{path}/replay"), &json!({})).await;
    assert_eq!(replayed.body["replayed"], 0);
    let one = format!("{path}/deliveries/{}/replay", items[0]["id"]);
    assert_eq!(api.post(&one, &json!({})).await.body["replayed"], 1);
    let other = format!("{path}/deliveries/999/replay");
    assert_eq!(api.post(&other, &json!({})).await.problem(), "not-found");

    assert_eq!(api.delete(&path).await.status, StatusCode::NO_CONTENT);
    assert_eq!(api.delete(&path).await.problem(), "not-found");
    assert_eq!(api.get(&path).await.problem(), "not-found");
    let gone = api.get(&format!("{path}/deliveries")).await;
    assert_eq!(gone.problem(), "not-found");
}

#[tokio::test]
async fn a_webhook_that_does_not_do_is_refused() {
    let api = Api::new().await;
    let add = async |body: Value| api.post("/v1/webhooks", &body).await;
    for url in [
        "http://127.0.0.1:9/",
        "http://localhost/",
        "http://10.0.0.1/",
        "http://[::1]/",
        "http://169.254.169.254/latest",
        "ftp://example.com/",
        "example.com",
        "http://me:secret@93.184.216.34/",
    ] {
        let refused = add(json!({"url": url})).await;
        assert_eq!(refused.fields(), ["url"], "{url}");
    }
    let both = add(json!({"url": "x", "secret": "y"})).await;
    assert_eq!(both.fields(), ["url", "secret"]);
    let url = "https://93.184.216.34/";
    let unknown = add(json!({"url": url, "task_id": 99})).await;
    assert_eq!(
        (unknown.status, unknown.problem()),
        (StatusCode::NOT_FOUND, "not-found")
    );

    let allowed = Api::with(|config| {
        config.webhooks.allow_networks = vec!["127.0.0.0/8".parse().unwrap()];
    })
    .await;
    let body = json!({"url": "http://localhost:9/"});
    assert_eq!(
        allowed.post("/v1/webhooks", &body).await.status,
        StatusCode::CREATED
    );
}

#[tokio::test]
async fn a_task_can_bring_its_webhook() {
    let api = Api::new().await;
    let first = api.task(1).await;
    let package = first.body["package_id"].clone();
    let task = |url: &str, secret: &str| json!({"name": "day", "package_id": package, "all": true, "webhook": {"url": url, "secret": secret}});
    let refused = api.post("/v1/tasks", &task("http://127.0.0.1/", "x")).await;
    assert_eq!(refused.fields(), ["webhook.url", "webhook.secret"]);
    let created = api
        .post("/v1/tasks", &task("https://93.184.216.34/", SECRET))
        .await;
    assert_eq!(created.status, StatusCode::CREATED, "{created:?}");
    let webhooks = api.get("/v1/webhooks").await;
    assert_eq!(webhooks.body["items"][0]["task_id"], created.id());
}
