//! Questions that people come with, and the way to their answers.

use serde_json::json;

use crate::{
    browser::{Browser, DESKTOP, LONG, SOON},
    fleet::Site,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_canary_that_failed_is_explained_in_three_clicks() {
    let site = Site::new(6, &["refuse-notification=0x04=6"]).await;
    let task = json!({"package_id": site.package, "all": true, "name": "Canary",
        "phases": [{"count": 3, "success_percent": 100}, {"percent": 100}]});
    let (status, answer) = site.server.api.post("/v1/tasks", &task);
    assert_eq!(status, 201, "{answer}");
    let anna = Browser::logged_in(&site.server, DESKTOP, "anna").await;
    // it comes to the page by itself
    anna.wait_for_text("Held by failures", LONG).await;
    anna.picture("now.png").await;
    anna.click("#needs a").await;
    anna.wait_for("a[href*='reason=']").await;
    anna.click("a[href*='reason=']").await;
    anna.wait_for("td a[href*='/upgrades/']").await;
    anna.click("td a[href*='/upgrades/']").await;
    anna.wait_for_text("low battery", SOON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_clerk_is_told_why_a_meter_is_not_upgraded() {
    let site = Site::new(0, &[]).await;
    let api = &site.server.api;
    let devices = json!({"devices": [{"endpoint": "urn:imei:1", "product": "meter"}, {"endpoint": "urn:imei:2", "product": "meter"},
        {"endpoint": "urn:imei:3", "product": "meter"}]});
    assert!(api.post("/v1/devices", &devices).0 < 300);
    let excluded = json!({"endpoints": ["urn:imei:2"], "reason": "on loan"});
    let (status, answer) = api.post("/v1/exclusions", &excluded);
    assert!(status < 300, "{answer}");
    let task = json!({"package_id": site.package, "devices": ["urn:imei:1"], "name": "Spring"});
    assert_eq!(api.post("/v1/tasks", &task).0, 201);
    let anna = Browser::logged_in(&site.server, DESKTOP, "anna").await;
    for (endpoint, answer) in [
        // it was never heard
        ("urn:imei:1", "heard"),
        ("urn:imei:2", "on loan"),
        ("urn:imei:3", "No task"),
    ] {
        anna.go("/devices").await;
        anna.fill("input[name=filter]", &format!("endpoint=={endpoint}"))
            .await;
        anna.keys("\u{e00c}\u{e007}").await; // away with what completes it, and sends it
        anna.wait_for("table a[href*='/devices/urn']").await;
        anna.click("table a[href*='/devices/urn']").await;
        anna.wait_for_text(endpoint, SOON).await;
        let shown = anna.shown().await;
        assert!(shown.contains(answer), "{endpoint}: {shown}");
    }
}
