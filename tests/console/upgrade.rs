//! A shift's main work: an upgrade from the form to its end, on a page that renews itself.

use crate::{
    browser::{Browser, DESKTOP, LONG, SOON, TELEPHONE},
    fleet::Site,
};

const DEVICES: usize = 6;

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_task_of_two_phases_is_made_and_seen_to_end() {
    let site = Site::new(DEVICES, &[]).await;
    let anna = Browser::logged_in(&site.server, DESKTOP, "anna").await;
    anna.wait_for_text("How to begin", SOON).await;
    anna.click_text("Create an upgrade task").await;
    anna.fill("input[name=name]", "Spring release").await;
    anna.choose("select[name=package0_id]", &site.package.to_string())
        .await;
    // it is told how many devices it is for while it is filled in
    anna.wait_for_text("6 devices", SOON).await;
    anna.fill("input[name=phase0_size]", "50").await;
    anna.click("button[value=more-phases]").await;
    anna.fill("input[name=phase1_size]", "50").await;
    anna.click("button.primary[value=review]").await;
    anna.wait_for("form.sheet button.primary").await;
    let review = anna.shown().await;
    assert!(
        review.contains("Spring release") && review.contains('6'),
        "{review}"
    );
    anna.click("form.sheet button.primary").await;
    anna.wait_for_text("The task was created.", SOON).await;
    assert!(
        anna.path().await.starts_with("/tasks/1"),
        "{}",
        anna.path().await
    );
    // nobody touches the page
    let marked = "window.untouched = true";
    anna.client.execute(marked, Vec::new()).await.unwrap();
    wait_until_finished(&anna).await;
    let untouched = anna
        .client
        .execute("return window.untouched === true", Vec::new())
        .await;
    assert_eq!(untouched.unwrap(), true);
    let (status, task) = site.server.api.get("/v1/tasks/1");
    assert_eq!((status, &task["state"]), (200, &"finished".into()));
    assert_eq!(task["summary"]["succeeded"], DEVICES);
    assert_eq!(task["phases"].as_array().unwrap().len(), 2);
    anna.picture("task.png").await;
    // one of its upgrades, and what was said
    anna.go("/tasks/1/upgrades").await;
    anna.click("td a").await;
    anna.wait_for("main h1").await;
    let shown = anna.shown().await;
    assert!(shown.contains("V2.0"), "{shown}");
    anna.picture("upgrade.png").await;
    assert_eq!(anna.complaints().await, Vec::<String>::new());
}

/// Waits until the page says by itself that the task has ended.
async fn wait_until_finished(browser: &Browser) {
    let selector = "[data-renew]";
    browser.wait_for(selector).await;
    browser.wait_for_text("Finished", LONG).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_task_is_paused_and_resumed_on_a_telephone_after_it_was_told_what_that_does() {
    let site = Site::new(0, &[]).await;
    let device = serde_json::json!({"endpoint": "urn:imei:1", "product": "meter"});
    let (status, answer) = site.server.api.post("/v1/devices", &device);
    assert!(status < 300, "{answer}");
    let task = serde_json::json!({"package_id": site.package, "all": true, "name": "Autumn"});
    let (status, answer) = site.server.api.post("/v1/tasks", &task);
    assert_eq!(status, 201, "{answer}");
    let anna = Browser::logged_in(&site.server, TELEPHONE, "anna").await;
    anna.wait_for_text("Autumn", SOON).await;
    anna.click_text("Autumn").await;
    anna.click("a[href$='/tasks/1/pause']").await;
    anna.wait_for("form.sheet").await;
    let asked = anna.shown().await;
    assert!(asked.contains("Pause the task “Autumn”?"), "{asked}");
    anna.click("form.sheet button").await;
    anna.wait_for_text("The task is paused.", SOON).await;
    assert_eq!(site.server.api.get("/v1/tasks/1").1["state"], "paused");
    anna.go("/now").await;
    anna.wait_for_text("Paused", SOON).await;
    anna.go("/tasks/1/resume").await;
    anna.click("form.sheet button").await;
    anna.wait_for_text("The task goes on.", SOON).await;
    assert_eq!(site.server.api.get("/v1/tasks/1").1["state"], "running");
}
