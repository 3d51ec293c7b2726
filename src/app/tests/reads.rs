use axum::{
    body::Body,
    http::{Request, StatusCode, header},
};
use serde_json::{Value, json};

use super::{App, read};
use crate::package::Version;

async fn in_language(app: &App, token: &str, path: &str, language: &str) -> Value {
    let request = Request::get(path)
        .header(header::AUTHORIZATION, format!("Bearer {token}"))
        .header(header::ACCEPT_LANGUAGE, language)
        .body(Body::empty());
    read(app.send(request.unwrap()).await).await.body
}

#[tokio::test]
async fn a_home_lists_what_its_devices_can_be_upgraded_to_in_the_users_language() {
    let app = App::new().await;
    app.devices(&["d1", "sleepy"]).await;
    app.home("ours", &["d1", "sleepy"]).await;
    let token = app.token("member").await;
    let path = "/app/v1/homes/ours/upgrades";
    assert_eq!(app.get(&token, path).await.body, json!({"items": []}));
    let offer = app.offer("V2", |terms| terms.controllable = false).await;
    let listed = in_language(&app, &token, path, "de-AT, en;q=0.5").await;
    let devices = listed["items"].as_array().unwrap();
    let names: Vec<_> = devices.iter().map(|it| &it["device"]).collect();
    assert_eq!(names, ["d1", "sleepy"]);
    assert_eq!(devices[0]["name"], "Kitchen");
    assert_eq!(devices[0]["icon"], "lamp");
    assert_eq!(devices[0]["status"]["status_name"], "available");
    assert_eq!(devices[0]["status"]["progress"], -1);
    let entry = &devices[0]["entries"][0];
    assert_eq!(entry["offer"], offer.id.0);
    assert_eq!(entry["description"], "Besser.");
    assert_eq!(entry["language"], "de");
    assert_eq!(entry["channel"], 6);
    assert_eq!(entry["channel_text"], "Radio");
    assert_eq!(entry["status"], 1);
    assert_eq!(entry["current_version"], "V1");
    assert_eq!(entry["target_version"], "V2");
    assert_eq!(entry["device_type"], 0);
    assert_eq!(devices[1]["entries"][0]["device_type"], 1);
    assert_eq!(entry["kind"], 0);
    assert_eq!(entry["mode"], 0);
    assert_eq!(entry["url"], json!(null));
    assert_eq!(entry["size_bytes"], 1_200);
    assert_eq!(entry["md5"].as_str().unwrap().len(), 32);
    assert_eq!(entry["sha256"].as_str().unwrap().len(), 64);
    assert_eq!(entry["controllable"], false);
    assert_eq!(entry["waiting_text"], "Press the button.");
    assert_eq!(entry["upgrading_text"], json!(null));
    assert!(entry.get("can_upgrade").is_none() && entry.get("remind").is_none());
    // a member's check is the same without what is needed to start it
    let check = app.get(&token, "/app/v1/homes/ours/devices/d1/check").await;
    let expected = json!({"items": [{"type": 6, "status": 1, "version": "V2", "text": "Better."}]});
    assert_eq!(check.body, expected);
}

#[tokio::test]
async fn offers_that_lead_on_from_one_another_are_told_in_order() {
    let app = App::new().await;
    app.devices(&["d1"]).await;
    app.home("ours", &["d1"]).await;
    let from = |version: &str| vec![Version::new(version).unwrap()];
    app.offer("V3", |terms| terms.conditions.from = from("V2"))
        .await;
    app.offer("V2", |terms| terms.conditions.from = from("V1"))
        .await;
    app.offer("V9", |terms| terms.conditions.from = from("V7"))
        .await;
    let token = app.token("owner").await;
    let told = app
        .get(&token, "/app/v1/homes/ours/devices/d1/upgrades")
        .await;
    let steps: Vec<_> = (told.body["entries"].as_array().unwrap().iter())
        .map(|it| {
            (
                it["step"].as_u64(),
                it["current_version"].as_str(),
                it["target_version"].as_str(),
            )
        })
        .collect();
    assert_eq!(
        steps,
        [
            (Some(1), Some("V1"), Some("V2")),
            (Some(2), Some("V2"), Some("V3"))
        ]
    );
}

#[tokio::test]
async fn a_condition_that_is_not_met_is_told_with_a_reminder() {
    let app = App::new().await;
    app.devices(&["d1"]).await;
    app.home("ours", &["d1"]).await;
    app.offer("V2", |terms| terms.conditions.battery_percent = Some(50))
        .await;
    let token = app.token("owner").await;
    let path = "/app/v1/homes/ours/devices/d1/upgrades";
    let entry = app.get(&token, path).await.body["entries"][0].clone();
    assert_eq!(
        (&entry["can_upgrade"], &entry["error"]),
        (&json!(0), &json!(5013))
    );
    assert!(
        entry["remind"].as_str().unwrap().contains("50 %"),
        "{entry}"
    );
}

#[tokio::test]
async fn a_device_of_another_home_is_none_of_this_one() {
    let app = App::new().await;
    app.devices(&["d1", "d2"]).await;
    app.home("ours", &["d1"]).await;
    app.home("theirs", &["d2"]).await;
    let token = app.token("owner").await;
    for device in ["d2", "nothing", "%20"] {
        for what in ["upgrades", "status", "check", "history", "automatic"] {
            let path = format!("/app/v1/homes/ours/devices/{device}/{what}");
            let answer = app.get(&token, &path).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}: {answer:?}");
            assert_eq!(
                answer.body["detail"],
                "there is no such device in this home"
            );
        }
    }
}

#[tokio::test]
async fn pages_of_the_history_are_bounded() {
    let app = App::new().await;
    app.devices(&["d1"]).await;
    app.home("ours", &["d1"]).await;
    let token = app.token("owner").await;
    let path = "/app/v1/homes/ours/devices/d1/history";
    let empty = json!({"items": [], "next_before": null});
    assert_eq!(app.get(&token, path).await.body, empty);
    for query in ["limit=0", "limit=101", "before=0"] {
        let answer = app.get(&token, &format!("{path}?{query}")).await;
        assert_eq!(answer.problem(), "invalid-field", "{query}");
    }
    for query in ["limit=x", "cursor=a", "before=99999999999999999999"] {
        let answer = app.get(&token, &format!("{path}?{query}")).await;
        assert_eq!(answer.problem(), "bad-parameter", "{query}");
    }
}

#[tokio::test]
async fn an_offer_is_seen_from_its_stage_on() {
    let app = App::new().await;
    app.devices(&["d1"]).await;
    app.home("ours", &["d1"]).await;
    let token = app.token("member").await;
    let now = app.now();
    let minute = std::time::Duration::from_mins(1);
    // the home is not the first of a hundred for any of the first offers
    let staged = |from| {
        move |terms: &mut crate::home::OfferTerms| {
            terms.percent = 1;
            terms.stages = vec![crate::home::OfferStage { from, percent: 100 }];
        }
    };
    let later = app.offer("V2", staged(now + minute)).await;
    assert!(
        !later
            .terms
            .is_visible_to(&super::key("ours"), later.id, now)
    );
    let path = "/app/v1/homes/ours/devices/d1/upgrades";
    assert_eq!(
        app.get(&token, path).await.body["entries"],
        serde_json::json!([])
    );
    let there = app.offer("V3", staged(now.before(minute))).await;
    let entries = app.get(&token, path).await.body["entries"].take();
    assert_eq!(entries[0]["offer"], there.id.0, "{entries}");
    assert_eq!(entries[1], serde_json::Value::Null, "{entries}");
}
