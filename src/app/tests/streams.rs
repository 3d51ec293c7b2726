use std::time::Duration;

use axum::{
    body::Body,
    http::{Request, StatusCode, header},
};
use futures_util::StreamExt as _;
use serde_json::{Value, json};

use super::{App, key};

/// A stream of a home.
struct Stream {
    body: axum::body::BodyDataStream,
    text: String,
}

/// An event: its id, its kind, its data.
type Event = (String, String, Value);

impl Stream {
    async fn open(app: &App, token: &str, last: Option<&str>) -> Self {
        let mut request = Request::get("/app/v1/homes/ours/events")
            .header(header::AUTHORIZATION, format!("Bearer {token}"));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let response = app.send(request.body(Body::empty()).unwrap()).await;
        assert_eq!(response.status(), StatusCode::OK);
        Self {
            body: response.into_body().into_data_stream(),
            text: String::new(),
        }
    }

    /// The next event; `None`: the stream is over.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    let lines = event.lines();
                    let mut values = lines.filter_map(|line| line.strip_prefix(name));
                    values.next().map(|it| it.trim_start().to_owned())
                };
                let told = field("data:").map(|data| {
                    let data = serde_json::from_str(&data).unwrap();
                    (field("id:").unwrap(), field("event:").unwrap(), data)
                });
                self.text = rest.to_owned();
                if told.is_some() {
                    return told;
                }
                continue;
            }
            let part = tokio::time::timeout(Duration::from_mins(1), self.body.next());
            let part = part.await.expect("an event within a minute")?.unwrap();
            self.text.push_str(std::str::from_utf8(&part).unwrap());
        }
    }
}

async fn start(app: &App, token: &str, device: &str, offer: i64) {
    let body = json!({"entries": [{"offer": offer, "target_version": "V2"}]});
    let path = format!("/app/v1/homes/ours/devices/{device}/start");
    let answer = app.post(token, &path, &body).await;
    assert_eq!(answer.status, StatusCode::ACCEPTED, "{answer:?}");
}

#[tokio::test]
async fn a_stream_tells_where_devices_stand_and_goes_on_after_a_break() {
    let app = App::new().await;
    app.devices(&["d1", "d2"]).await;
    app.home("ours", &["d1", "d2"]).await;
    let offer = app.offer("V2", |_| ()).await;
    let (owner, member) = (app.token("owner").await, app.token("member").await);
    let mut stream = Stream::open(&app, &member, None).await;
    let mut last = String::new();
    for device in ["d1", "d2"] {
        let (id, kind, data) = stream.next().await.unwrap();
        assert_eq!((kind.as_str(), &data["device"]), ("status", &json!(device)));
        assert_eq!(data["status_name"], "available");
        last = id;
    }
    start(&app, &owner, "d2", offer.id.0).await;
    let (id, _, data) = stream.next().await.unwrap();
    assert_eq!(
        (&data["device"], &data["status_name"]),
        (&json!("d2"), &json!("preparing"))
    );
    drop(stream);
    // who has heard of it is told nothing, and then what is new
    let mut knows = Stream::open(&app, &member, Some(&id)).await;
    // who has not is told of that alone
    let mut missed = Stream::open(&app, &member, Some(&last)).await;
    let (_, _, data) = missed.next().await.unwrap();
    assert_eq!(
        (&data["device"], &data["status_name"]),
        (&json!("d2"), &json!("preparing"))
    );
    start(&app, &owner, "d1", offer.id.0).await;
    for stream in [&mut knows, &mut missed] {
        let (_, _, data) = stream.next().await.unwrap();
        assert_eq!(
            (&data["device"], &data["status_name"]),
            (&json!("d1"), &json!("preparing"))
        );
    }
}

#[tokio::test]
async fn a_stream_tells_of_a_device_that_has_left_and_ends_with_its_user() {
    let app = App::new().await;
    app.devices(&["d1", "d2"]).await;
    app.home("ours", &["d1", "d2"]).await;
    let member = app.token("member").await;
    let mut stream = Stream::open(&app, &member, None).await;
    for _ in 0..2 {
        stream.next().await.unwrap();
    }
    let home = key("ours");
    app.state.store.take_from_home(&home, "d1").await.unwrap();
    app.state.listeners.hint(&home);
    let (_, kind, data) = stream.next().await.unwrap();
    assert_eq!((kind.as_str(), data), ("removed", json!({"device": "d1"})));
    app.stop();
    assert_eq!(stream.next().await, None);
    assert_eq!(app.state.listeners.open(), 0);
}

#[tokio::test]
async fn who_comes_back_begins_anew_where_a_device_has_left() {
    let app = App::new().await;
    app.devices(&["d1", "d2"]).await;
    app.home("ours", &["d1", "d2"]).await;
    let member = app.token("member").await;
    let mut stream = Stream::open(&app, &member, None).await;
    stream.next().await.unwrap();
    let (id, ..) = stream.next().await.unwrap();
    drop(stream);
    app.state
        .store
        .take_from_home(&key("ours"), "d1")
        .await
        .unwrap();
    let mut stream = Stream::open(&app, &member, Some(&id)).await;
    let (reset, kind, data) = stream.next().await.unwrap();
    assert_eq!((kind.as_str(), data), ("reset", json!({})));
    let (id, kind, data) = stream.next().await.unwrap();
    assert_eq!((kind.as_str(), &data["device"]), ("status", &json!("d2")));
    drop(stream);
    // who was told to, and no more, is told of what is there; who was told of that is not
    let mut stream = Stream::open(&app, &member, Some(&reset)).await;
    let (again, kind, data) = stream.next().await.unwrap();
    assert_eq!((kind.as_str(), &data["device"]), ("status", &json!("d2")));
    assert_eq!(again, id);
}

#[tokio::test]
async fn streams_are_bounded_and_take_no_made_up_ids() {
    let app = App::with(|config| config.app.per_home_listeners = 1).await;
    app.devices(&["d1"]).await;
    app.home("ours", &["d1"]).await;
    let member = app.token("member").await;
    let path = "/app/v1/homes/ours/events";
    let request = Request::get(path)
        .header(header::AUTHORIZATION, format!("Bearer {member}"))
        .header("last-event-id", "17");
    let answer = super::read(app.send(request.body(Body::empty()).unwrap()).await).await;
    assert_eq!(answer.problem(), "invalid-field");
    let first = Stream::open(&app, &member, None).await;
    let answer = app.get(&member, path).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.problem(), "too-many-streams");
    drop(first);
    Stream::open(&app, &member, None).await;
    assert_eq!(app.settings().get().app.per_home_listeners, 1);
}
