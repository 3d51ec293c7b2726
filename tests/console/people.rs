//! Who may do what, seen from the browser.

use serde_json::json;

use crate::{
    browser::{Browser, DESKTOP, PASSWORD, SOON, TELEPHONE},
    fleet::{Site, add_user},
    pages::walk,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_viewer_sees_no_button_that_it_may_not_press() {
    let site = Site::new(2, &[]).await;
    let task = json!({"package_id": site.package, "all": true, "name": "Spring"});
    let (status, answer) = site.server.api.post("/v1/tasks", &task);
    assert_eq!(status, 201, "{answer}");
    add_user(&site.server, "vera", &["viewer"]);
    let vera = Browser::logged_in(&site.server, DESKTOP, "vera").await;
    let forms = "return [...document.querySelectorAll('form[method=post]')].map(form => new URL(form.action).pathname)
        .filter(path => !path.endsWith('/logout') && !path.includes('/account'))";
    let seen = walk(&vera, "viewer", Some(forms)).await;
    assert!(
        seen.contains_key("/tasks") && seen.contains_key("/devices"),
        "{seen:?}"
    );
    for shut in ["/people", "/audit", "/approvals/1/approve"] {
        assert!(!seen.contains_key(shut), "{seen:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn two_people_begin_a_task_one_of_them_on_a_telephone() {
    let site = Site::new(0, &[]).await;
    let device = json!({"endpoint": "urn:imei:1", "product": "meter"});
    let (status, answer) = site.server.api.post("/v1/devices", &device);
    assert!(status < 300, "{answer}");
    add_user(&site.server, "olga", &["viewer", "operator", "approver"]);
    add_user(&site.server, "paul", &["viewer", "approver"]);
    let olga = Browser::logged_in(&site.server, DESKTOP, "olga").await;
    olga.go("/tasks/new").await;
    olga.fill("input[name=name]", "Winter").await;
    olga.choose("select[name=package0_id]", &site.package.to_string())
        .await;
    olga.click("input[name=approval]").await;
    olga.click("button.primary[value=review]").await;
    olga.click("form.sheet button.primary").await;
    olga.wait_for_text("The task was created.", SOON).await;
    assert_eq!(
        site.server.api.get("/v1/tasks/1").1["state"],
        "awaiting_approval"
    );
    // nobody answers for a task of its own
    olga.go("/tasks/1/approve").await;
    olga.click("form.sheet button").await;
    olga.wait_for("#problem").await;
    assert_eq!(
        site.server.api.get("/v1/tasks/1").1["state"],
        "awaiting_approval"
    );
    let paul = Browser::logged_in(&site.server, TELEPHONE, "paul").await;
    paul.wait_for_text("Winter", SOON).await;
    paul.go("/approvals").await;
    paul.picture("approvals.png").await;
    paul.click("a[href*='/tasks/1/approve']").await;
    paul.click("form.sheet button").await;
    paul.wait_for("#notice .notice").await;
    let task = site.server.api.get("/v1/tasks/1").1;
    assert_eq!(task["state"], "running", "{task}");
    assert!(task["approval"].to_string().contains("paul"), "{task}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_session_that_ends_in_the_middle_of_a_form_loses_nothing() {
    let site = Site::new(1, &[]).await;
    let anna = Browser::logged_in(&site.server, DESKTOP, "anna").await;
    anna.go("/tasks/new").await;
    anna.fill("input[name=name]", "\"Night\" <release> & more")
        .await;
    anna.choose("select[name=package0_id]", &site.package.to_string())
        .await;
    anna.client.delete_cookie("__Host-cellwise").await.unwrap();
    anna.click("button.primary[value=review]").await;
    anna.wait_for_text("Your session has ended", SOON).await;
    anna.fill("input[name=name]", "anna").await;
    anna.fill("input[name=password]", PASSWORD).await;
    anna.click("form.stack button").await;
    anna.wait_for_text("\"Night\" <release> & more", SOON).await;
    anna.click("main form button.primary").await; // sends what was kept
    anna.wait_for("form.sheet button[value=create]").await;
    anna.click("form.sheet button[value=create]").await;
    anna.wait_for_text("The task was created.", SOON).await;
    let (_, task) = site.server.api.get("/v1/tasks/1");
    assert_eq!(task["name"], "\"Night\" <release> & more");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn whoever_logs_out_is_out_and_the_way_back_shows_nothing() {
    let site = Site::new(0, &[]).await;
    let anna = Browser::logged_in(&site.server, DESKTOP, "anna").await;
    anna.go("/tasks").await;
    anna.click("header.top form button").await;
    anna.wait_for("input[name=password]").await;
    anna.client.back().await.unwrap();
    anna.wait_for("input[name=password]").await;
}
