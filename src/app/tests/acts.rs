use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Answer, App};
use crate::{
    ledger::{Change, Failure, Outcome, Stage, StageChange, TaskId, UpgradeId},
    store::OfferRecord,
};

const HOME: &str = "/app/v1/homes/ours";

fn wanted(offer: &OfferRecord) -> Value {
    json!({
        "offer": offer.id.0, "target_version": offer.version.to_string(), "current_version": "V1",
    })
}

async fn start(app: &App, token: &str, device: &str, entries: &[Value]) -> Answer {
    let path = format!("{HOME}/devices/{device}/start");
    app.post(token, &path, &json!({ "entries": entries })).await
}

async fn act(app: &App, token: &str, device: &str, what: &str) -> Answer {
    let path = format!("{HOME}/devices/{device}/{what}");
    app.call(Method::POST, &path, Some(token), None).await
}

async fn status(app: &App, token: &str, device: &str) -> Value {
    let path = format!("{HOME}/devices/{device}/status");
    app.get(token, &path).await.body
}

async fn with_devices(devices: &[&str]) -> (App, String) {
    let app = App::new().await;
    app.devices(devices).await;
    app.home("ours", devices).await;
    let token = app.token("owner").await;
    (app, token)
}

#[tokio::test]
async fn a_start_makes_one_upgrade_however_often_it_is_asked_for() {
    let (app, token) = with_devices(&["d1"]).await;
    let offer = app.offer("V2", |_| ()).await;
    let first = start(&app, &token, "d1", &[wanted(&offer)]).await;
    assert_eq!(first.status, StatusCode::ACCEPTED, "{first:?}");
    let started = &first.body["started"][0];
    assert_eq!(started["offer"], offer.id.0);
    assert_eq!(started["again"], false);
    let again = start(&app, &token, "d1", &[wanted(&offer)]).await;
    assert_eq!(again.body["started"][0]["upgrade"], started["upgrade"]);
    assert_eq!(again.body["started"][0]["again"], true);
    let status = status(&app, &token, "d1").await;
    assert_eq!(status["status_name"], "preparing");
    assert_eq!(status["upgrade"], started["upgrade"]);
    assert_eq!(status["title"], "Radio");
    assert_eq!(status["channel"], 6);
}

#[tokio::test]
async fn what_has_changed_since_it_was_seen_is_told_with_what_there_is_now() {
    let (app, token) = with_devices(&["d1"]).await;
    let offer = app.offer("V2", |_| ()).await;
    for (field, value) in [("target_version", "V1.5"), ("current_version", "V0")] {
        let mut seen = wanted(&offer);
        seen[field] = json!(value);
        let answer = start(&app, &token, "d1", &[seen]).await;
        assert_eq!(answer.status, StatusCode::CONFLICT);
        assert_eq!(answer.problem(), "offer-changed");
        assert_eq!(answer.body["now"]["entries"][0]["target_version"], "V2");
    }
    let withdrawn = (app.state.store)
        .withdraw_offer(&offer.tenant, offer.id, app.now())
        .await;
    withdrawn.unwrap();
    let answer = start(&app, &token, "d1", &[wanted(&offer)]).await;
    assert_eq!((answer.status, answer.code()), (StatusCode::CONFLICT, 5001));
}

#[tokio::test]
async fn a_weak_signal_waits_for_the_users_word() {
    let (app, token) = with_devices(&["d1", "d2"]).await;
    let offer = app
        .offer("V2", |terms| terms.conditions.rsrp_dbm = Some(-110))
        .await;
    let mut news = app.state.signals.news.listen();
    for device in ["d1", "d2"] {
        let answer = start(&app, &token, device, &[wanted(&offer)]).await;
        assert_eq!((answer.status, answer.code()), (StatusCode::CONFLICT, 5005));
        assert!(news.has_changed().unwrap(), "applications are told at once");
        news.mark_unchanged();
        let waits = status(&app, &token, device).await;
        assert!(waits["continue_until"].is_string(), "{waits}");
        assert_eq!(waits["upgrade"], json!(null));
    }
    let goes_on = act(&app, &token, "d1", "continue").await;
    assert_eq!(goes_on.status, StatusCode::ACCEPTED, "{goes_on:?}");
    assert_eq!(goes_on.body["started"][0]["again"], false);
    assert_eq!(status(&app, &token, "d1").await["status_name"], "preparing");
    let cancelled = act(&app, &token, "d2", "cancel").await;
    assert_eq!(cancelled.body["waited"], true, "{cancelled:?}");
    assert_eq!(cancelled.body["upgrades"], json!([]));
    for (device, what) in [("d2", "continue"), ("d2", "cancel"), ("d1", "continue")] {
        let answer = act(&app, &token, device, what).await;
        assert_eq!(answer.problem(), "not-waiting", "{device} {what}");
    }
}

#[tokio::test]
async fn what_waits_is_cancelled_and_what_has_begun_is_not() {
    let (app, token) = with_devices(&["sleepy", "d1"]).await;
    let offer = app.offer("V2", |_| ()).await;
    let begun = start(&app, &token, "sleepy", &[wanted(&offer)]).await;
    assert_eq!(begun.status, StatusCode::ACCEPTED, "{begun:?}");
    let waits = status(&app, &token, "sleepy").await;
    assert_eq!(waits["status"], 5, "{waits}");
    assert_eq!(waits["text"], "Press the button.");
    let cancelled = act(&app, &token, "sleepy", "cancel").await;
    assert_eq!(
        cancelled.body["upgrades"],
        json!([waits["upgrade"]]),
        "{cancelled:?}"
    );

    let begun = start(&app, &token, "d1", &[wanted(&offer)]).await;
    let upgrade = UpgradeId(begun.body["started"][0]["upgrade"].as_i64().unwrap());
    let at = app.now();
    app.commit(&[Change::Stage {
        upgrade,
        attempt: 1,
        change: StageChange {
            stage: Stage::Downloading,
            entered_at: at,
            deadline_at: at + std::time::Duration::from_hours(1),
            queued_at: None,
            slot_deadline_at: None,
            cell: Some(1),
            cell_limit: Some(1),
            confirmed: true,
            download_errors: 0,
        },
        line: None,
        at,
    }])
    .await;
    let answer = act(&app, &token, "d1", "cancel").await;
    assert_eq!(answer.problem(), "upgrade-refused", "{answer:?}");
    assert!(
        answer.body["detail"]
            .as_str()
            .unwrap()
            .contains("has begun")
    );
}

#[tokio::test]
async fn many_devices_are_started_and_each_is_answered_for_itself() {
    let (app, token) = with_devices(&["d1", "d2"]).await;
    let offer = app.offer("V2", |_| ()).await;
    let one = |device: &str| json!({"device": device, "entries": [wanted(&offer)]});
    let mut stale = one("d2");
    stale["entries"][0]["target_version"] = json!("V1.5");
    let body = json!({"devices": [one("d1"), stale, one("d1"), one("elsewhere")]});
    let answer = app.post(&token, &format!("{HOME}/start"), &body).await;
    assert_eq!(answer.status, StatusCode::MULTI_STATUS, "{answer:?}");
    let items = answer.body["items"].as_array().unwrap();
    let came: Vec<_> = (items.iter())
        .map(|it| {
            (
                it["status"].as_u64().unwrap(),
                it["problem"]["code"].as_u64(),
            )
        })
        .collect();
    let expected = [
        (202, None),
        (409, Some(5099)),
        (409, Some(5002)),
        (404, Some(5099)),
    ];
    assert_eq!(came, expected);
    assert_eq!(items[1]["problem"]["now"]["device"], "d2");
    for body in [
        json!({"devices": []}),
        json!({"devices": [{"device": "d1", "entries": []}, {"device": "d1"}]}),
        json!({"devices": vec![one("d1"); 257]}),
    ] {
        let answer = app.post(&token, &format!("{HOME}/start"), &body).await;
        assert_eq!(answer.problem(), "invalid-field");
    }
}

#[tokio::test]
async fn of_many_that_are_started_each_has_a_row_of_its_own_in_the_audit_log() {
    let (app, token) = with_devices(&["d1", "d2"]).await;
    let offer = app.offer("V2", |_| ()).await;
    let one = |device: &str| json!({"device": device, "entries": [wanted(&offer)]});
    let body = json!({"devices": [one("d1"), one("d2")]});
    let answer = app.post(&token, &format!("{HOME}/start"), &body).await;
    assert_eq!(answer.status, StatusCode::MULTI_STATUS, "{answer:?}");
    let rows = app.admin_get("/v1/audit?limit=50").await.body["items"].clone();
    let rows = rows.as_array().unwrap().iter();
    let mut rows: Vec<_> = rows
        .filter(|row| row["operation"] == "start_home_upgrades")
        .map(|row| (row["target"].clone(), row["counts"].clone()))
        .collect();
    rows.reverse();
    let row = |device: &str| {
        let target = format!("home-devices/default/ours/{device}");
        (json!(target), json!({"upgrades": 1}))
    };
    assert_eq!(rows, [row("d1"), row("d2")]);
}

#[tokio::test]
async fn a_body_that_is_none_is_refused() {
    let (app, token) = with_devices(&["d1"]).await;
    let offer = app.offer("V2", |_| ()).await;
    let twice = [wanted(&offer), wanted(&offer)];
    let mut no_version = wanted(&offer);
    no_version["target_version"] = json!("");
    for entries in [&[][..], &twice, &[no_version], &vec![wanted(&offer); 9]] {
        let answer = start(&app, &token, "d1", entries).await;
        assert_eq!(
            answer.status,
            StatusCode::UNPROCESSABLE_ENTITY,
            "{entries:?}"
        );
        assert!(
            answer.body["errors"][0]["field"]
                .as_str()
                .unwrap()
                .starts_with("entries")
        );
    }
    let path = format!("{HOME}/devices/d1/start");
    let answer = app
        .post(&token, &path, &json!({"entries": [], "more": 1}))
        .await;
    assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY);
    let answer = app.call(Method::POST, &path, Some(&token), None).await;
    assert_eq!(answer.status, StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn how_it_ended_is_told_until_there_is_something_newer() {
    let (app, token) = with_devices(&["d1"]).await;
    let offer = app.offer("V2", |_| ()).await;
    let begun = start(&app, &token, "d1", &[wanted(&offer)]).await;
    let upgrade = UpgradeId(begun.body["started"][0]["upgrade"].as_i64().unwrap());
    let ended = Change::Ended {
        upgrade,
        task: TaskId(offer.task.0),
        attempt: 1,
        outcome: Outcome::Failed(Failure::DownloadStalled),
        facts: Box::default(),
        retry_at: None,
        at: app.now() + std::time::Duration::from_secs(1),
    };
    app.commit(&[ended]).await;
    let told = status(&app, &token, "d1").await;
    assert_eq!(told["status_name"], "timed_out", "{told}");
    assert_eq!(
        (&told["error"], &told["reason"]),
        (&json!(5016), &json!("download_stalled"))
    );
    let past = app
        .get(&token, &format!("{HOME}/devices/d1/history"))
        .await
        .body;
    assert_eq!(past["items"][0]["upgrade"], upgrade.0);
    assert_eq!(past["items"][0]["error"], 5016);
    assert_eq!(past["items"][0]["target_version"], "V2");
    // and it can be started anew
    let again = start(&app, &token, "d1", &[wanted(&offer)]).await;
    assert_eq!(again.body["started"][0]["again"], false, "{again:?}");
}

#[tokio::test]
async fn a_plan_waits_for_the_word_of_somebody_at_home() {
    let (app, token) = with_devices(&["d1", "d2"]).await;
    let uploaded = app.offer("V2", |_| ()).await;
    plan(&app, uploaded.package.0).await;
    let awaiting = async |device: &str| status(&app, &token, device).await["awaiting"].clone();
    let (first, second) = (awaiting("d1").await, awaiting("d2").await);
    assert_eq!(first["target_version"], "V2");
    let confirmed = word(&app, &token, "d1", "confirm", &first).await;
    assert_eq!(confirmed.status, StatusCode::OK, "{confirmed:?}");
    assert_eq!(confirmed.body["awaiting"], json!(null));
    // an answer that was lost is asked for again; what is confirmed is not refused
    let again = word(&app, &token, "d1", "confirm", &first).await;
    assert_eq!(again.body, confirmed.body);
    let refused = word(&app, &token, "d1", "refuse", &first).await;
    assert_eq!(refused.problem(), "not-waiting");
    let refused = word(&app, &token, "d2", "refuse", &second).await;
    assert_eq!(refused.body["status_name"], "failed", "{refused:?}");
    assert_eq!(refused.body["reason"], "refused_by_owner");
    for what in ["confirm", "refuse"] {
        let answer = word(&app, &token, "d2", what, &second).await;
        assert_eq!(answer.problem(), "not-waiting");
        let path = format!("{HOME}/devices/d1/plan/{what}");
        let unnamed = app.post(&token, &path, &json!({})).await;
        assert_eq!(unnamed.status, StatusCode::UNPROCESSABLE_ENTITY);
    }
}

/// Confirms or refuses what waits.
async fn word(app: &App, token: &str, device: &str, what: &str, awaiting: &Value) -> Answer {
    let path = format!("{HOME}/devices/{device}/plan/{what}");
    app.post(token, &path, &json!({"upgrade": awaiting["upgrade"]}))
        .await
}

/// A plan of the operator's that waits for somebody at home.
async fn plan(app: &App, package: i64) {
    let body = json!({
        "name": "plan", "package_id": package, "all": true, "confirmation": "device_owner",
    });
    let task = app.admin_post("/v1/tasks", &body).await;
    assert_eq!(task.status, StatusCode::CREATED, "{task:?}");
}

#[tokio::test]
async fn another_plan_than_the_one_that_was_seen_is_not_begun() {
    let (app, token) = with_devices(&["d1", "d2"]).await;
    for version in ["V2", "V3"] {
        let uploaded = app.offer(version, |_| ()).await;
        plan(&app, uploaded.package.0).await;
    }
    let seen = status(&app, &token, "d1").await["awaiting"].clone();
    assert_eq!(seen["target_version"], "V2");
    let of_the_other = status(&app, &token, "d2").await["awaiting"].clone();
    let refused = word(&app, &token, "d1", "refuse", &seen).await;
    assert_eq!(refused.status, StatusCode::OK, "{refused:?}");
    let next = refused.body["awaiting"].clone();
    assert_eq!(next["target_version"], "V3");
    // what is over, what is of another device, and what there never was
    for seen in [&seen, &of_the_other, &json!({"upgrade": 999})] {
        for what in ["confirm", "refuse"] {
            let answer = word(&app, &token, "d1", what, seen).await;
            assert_eq!(answer.status, StatusCode::CONFLICT);
            assert_eq!(answer.problem(), "offer-changed", "{seen} {what}");
            assert_eq!(answer.body["now"]["status"]["awaiting"], next);
        }
    }
    let waits = status(&app, &token, "d2").await["awaiting"].clone();
    assert_eq!(waits, of_the_other);
}

/// Two members say the same at once, and one of them twice.
#[tokio::test]
async fn what_is_said_at_once_by_several_is_done_once() {
    let (app, owner) = with_devices(&["d1", "d2", "sleepy"]).await;
    let other = app.token("administrator").await;
    let weak = app
        .offer("V2", |terms| terms.conditions.rsrp_dbm = Some(-110))
        .await;
    let statuses = |answers: [&Answer; 3]| {
        let mut statuses = answers.map(|it| it.status.as_u16());
        statuses.sort_unstable();
        statuses
    };
    start(&app, &owner, "d1", &[wanted(&weak)]).await;
    let (a, b, c) = tokio::join!(
        act(&app, &owner, "d1", "continue"),
        act(&app, &owner, "d1", "continue"),
        act(&app, &other, "d1", "continue"),
    );
    // one has started it, for the others nothing waits any more
    assert_eq!(statuses([&a, &b, &c]), [202, 409, 409], "{a:?} {b:?} {c:?}");
    start(&app, &owner, "d2", &[wanted(&weak)]).await;
    let (a, b, c) = tokio::join!(
        act(&app, &owner, "d2", "continue"),
        act(&app, &other, "d2", "cancel"),
        act(&app, &owner, "d2", "cancel"),
    );
    // it goes on, or it was cancelled first, or it goes on and was cancelled then: never twice
    let cancelled = [&b, &c]
        .into_iter()
        .filter(|it| it.status == StatusCode::OK);
    assert_eq!(cancelled.count(), 1, "{a:?} {b:?} {c:?}");
    let waits = status(&app, &owner, "d2").await;
    assert_eq!(waits["continue_until"], json!(null), "{waits}");
    assert_ne!(waits["status_name"], "preparing", "{waits}");

    let offer = app.offer("V3", |_| ()).await;
    let entries = [wanted(&offer)];
    let (a, b, c) = tokio::join!(
        start(&app, &owner, "sleepy", &entries),
        start(&app, &owner, "sleepy", &entries),
        start(&app, &other, "sleepy", &entries),
    );
    let started = [&a, &b, &c].map(|it| &it.body["started"][0]);
    let fresh = started.into_iter().filter(|it| it["again"] == false);
    assert_eq!(fresh.count(), 1, "{a:?} {b:?} {c:?}");
    assert!(
        started
            .iter()
            .all(|it| it["upgrade"] == started[0]["upgrade"])
    );
    let (a, b, c) = tokio::join!(
        act(&app, &owner, "sleepy", "cancel"),
        act(&app, &owner, "sleepy", "cancel"),
        act(&app, &other, "sleepy", "cancel"),
    );
    assert_eq!(statuses([&a, &b, &c]), [200, 409, 409], "{a:?} {b:?} {c:?}");
}

#[tokio::test]
async fn a_plan_is_confirmed_and_refused_once_however_many_say_so() {
    let (app, owner) = with_devices(&["d1", "d2"]).await;
    let other = app.token("administrator").await;
    let uploaded = app.offer("V2", |_| ()).await;
    plan(&app, uploaded.package.0).await;
    let first = status(&app, &owner, "d1").await["awaiting"].clone();
    let (a, b) = tokio::join!(
        word(&app, &owner, "d1", "confirm", &first),
        word(&app, &other, "d1", "confirm", &first),
    );
    assert_eq!((a.status, b.status), (StatusCode::OK, StatusCode::OK));
    let second = status(&app, &owner, "d2").await["awaiting"].clone();
    let (a, b) = tokio::join!(
        word(&app, &owner, "d2", "confirm", &second),
        word(&app, &other, "d2", "refuse", &second),
    );
    // who comes second is told that nothing waits
    let answers = [a.status, b.status].map(|it| it.as_u16());
    assert!(
        answers == [200, 409] || answers == [409, 200],
        "{a:?} {b:?}"
    );
}

#[tokio::test]
async fn devices_that_are_started_at_once_are_rationed_one_by_one() {
    let app = App::with(|config| {
        config.app.requests_per_user_per_second = 1;
    })
    .await;
    app.devices(&["d1", "d2"]).await;
    app.home("ours", &["d1", "d2"]).await;
    let token = app.token("owner").await;
    let offer = app.offer("V2", |_| ()).await;
    let one = |device: String| json!({"device": device, "entries": [wanted(&offer)]});
    let many: Vec<Value> = (0..256).map(|at| one(format!("elsewhere-{at}"))).collect();
    let path = format!("{HOME}/start");
    let answer = app.post(&token, &path, &json!({"devices": many})).await;
    assert_eq!(answer.status, StatusCode::MULTI_STATUS);
    let items = answer.body["items"].as_array().unwrap();
    assert!(items.iter().all(|it| it["status"] == 404), "{answer:?}");
    // that was a whole home, and one request of two
    let body = json!({"devices": many[..200]});
    let answer = app.post(&token, &path, &body).await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS, "{answer:?}");
    assert_eq!(answer.problem(), "too-many-requests");
    let wait: u64 = answer.headers["retry-after"]
        .to_str()
        .unwrap()
        .parse()
        .unwrap();
    assert!((150..=210).contains(&wait), "{wait}");
}

#[tokio::test]
async fn what_is_refused_waits_for_nobody_who_writes() {
    let (app, token) = with_devices(&["d1"]).await;
    let offer = app.offer("V2", |_| ()).await;
    let mut stale = wanted(&offer);
    stale["target_version"] = json!("V1.5");
    let mut unknown = wanted(&offer);
    unknown["offer"] = json!(999);
    let mut writer = app.side_door().await;
    let writing = sqlx::Connection::begin_with(&mut writer, "BEGIN IMMEDIATE");
    let writing = writing.await.unwrap();
    for (device, entry, status) in [
        ("d1", &stale, StatusCode::CONFLICT),
        ("d1", &unknown, StatusCode::CONFLICT),
        ("d2", &wanted(&offer), StatusCode::NOT_FOUND),
    ] {
        let entries = std::slice::from_ref(entry);
        let answer = start(&app, &token, device, entries);
        let answer = tokio::time::timeout(std::time::Duration::from_secs(4), answer);
        assert_eq!(answer.await.unwrap().status, status, "{device} {entry}");
    }
    writing.rollback().await.unwrap();
    let begun = start(&app, &token, "d1", &[wanted(&offer)]).await;
    assert_eq!(begun.status, StatusCode::ACCEPTED, "{begun:?}");
}
