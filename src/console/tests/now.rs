//! What needs a person is on the first page.

use axum::http::Method;
use serde_json::json;

use super::Pages;

#[tokio::test]
async fn what_runs_and_what_waits_for_somebody_is_told_in_both_languages() {
    let pages = Pages::new().await;
    let anna = pages
        .user("anna", &["viewer", "operator", "administrator"])
        .await;
    let shown = anna.get("/now").await;
    assert!(shown.says("Nothing waits for a person.") && shown.says("How to begin"));
    let package = pages.upload("meter", "V2").await;
    let device = json!({"endpoint": "urn:imei:1", "product": "meter"});
    pages.api(Method::POST, "/v1/devices", Some(&device)).await;
    for (name, more) in [
        ("Runs <b>", json!({})),
        ("Waits", json!({"approval": true})),
        ("Held", json!({})),
    ] {
        let mut task = json!({"package_id": package, "all": true, "name": name});
        let body = task.as_object_mut().unwrap();
        body.extend(more.as_object().unwrap().clone());
        pages.api(Method::POST, "/v1/tasks", Some(&task)).await;
    }
    pages
        .api(Method::POST, "/v1/tasks/3/pause", Some(&json!({})))
        .await;
    let close = json!({"closed_until": "further_notice", "reason": "works & more"});
    pages.api(Method::PATCH, "/v1/cells/7", Some(&close)).await;
    let shown = anna.get("/now").await;
    assert!(shown.says("Runs &#60;b&#62;") && !shown.says("<b>"));
    for text in ["Approval", "Waits", "Paused", "Held", "Cell 7 is closed"] {
        assert!(shown.says(text), "{text}: {shown:?}");
    }
    assert!(!shown.says("Nothing waits") && !shown.says("How to begin"));
    let chinese = anna.with("cellwise-language=zh-Hans").get("/now").await;
    for text in ["待审批", "已暂停", "小区 7 已关闭"] {
        assert!(chinese.says(text), "{text}: {chinese:?}");
    }
}
