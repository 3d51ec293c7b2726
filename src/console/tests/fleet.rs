//! Devices, groups, exclusions, sites, gateways and cells.

mod cells;
mod devices;

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Browser, Pages, Shown};

/// What everybody who may do everything is granted.
const ALL: [&str; 5] = ["viewer", "operator", "approver", "administrator", "auditor"];
/// What nobody should call anything.
const HOSTILE: &str = "<script>alert('\"&𝄞')</script>";

/// Pages with a user who may do everything, and one who may only look.
async fn pages() -> Pages {
    let pages = Pages::new().await;
    pages.user("anna", &ALL).await;
    pages.user("vera", &["viewer"]).await;
    pages
}

/// Devices of all kinds with hostile names for what may have any, a group of each kind, an exclusion, a site, a cell, and an upgrade.
async fn filled(pages: &Pages) {
    let post = async |path: &str, body: Value| pages.api(Method::POST, path, Some(&body)).await;
    for i in 0..3 {
        let device = json!({"endpoint": format!("meter-{i}"), "product": "meter", "model": HOSTILE, "hardware": HOSTILE,
            "site": HOSTILE, "time_zone": "Europe/Paris", "tags": {"owner": HOSTILE}});
        post("/v1/devices", device).await;
    }
    post(
        "/v1/devices",
        json!({"endpoint": "new", "product": "meter"}),
    )
    .await;
    let gateway = json!({"endpoint": "gate", "product": "box", "mqtt": {"style": "iotda", "secret": "a-long-secret"}});
    post("/v1/devices", gateway).await;
    let child = json!({"endpoint": "behind", "product": "box", "via": "gate", "mqtt": {"style": "iotda", "gateway": true}});
    post("/v1/devices", child).await;
    post(
        "/v1/groups",
        json!({"name": HOSTILE, "filter": "product==meter"}),
    )
    .await;
    post(
        "/v1/groups",
        json!({"name": "list", "devices": ["meter-1"]}),
    )
    .await;
    post(
        "/v1/exclusions",
        json!({"endpoints": ["meter-2", "gone"], "reason": HOSTILE}),
    )
    .await;
    let site = super::super::fields::encode(HOSTILE);
    let limit = json!({"limit": 7, "note": HOSTILE});
    pages
        .api(Method::PUT, &format!("/v1/sites/{site}"), Some(&limit))
        .await;
    let rules = json!({"limit": 3, "note": HOSTILE, "closed_until": "further_notice", "reason": HOSTILE,
        "busy_hours": [{"from": "17:00", "to": "20:00", "zone": "Europe/Paris", "limit": 1, "days": ["mon"]}]});
    pages
        .api(Method::PATCH, "/v1/cells/51234", Some(&rules))
        .await;
    let package = pages.upload("meter", "V2").await;
    let task = json!({"package_id": package, "all": true, "name": HOSTILE});
    post("/v1/tasks", task).await;
}

const READ: [&str; 23] = [
    "/devices",
    "/devices?filter=product%3D%3Dmeter&columns=tags&columns=model&columns=registered",
    "/devices?group=1",
    "/devices/unknown",
    "/devices/meter-0",
    "/devices/meter-2",
    "/devices/gate",
    "/devices/behind",
    "/devices/%6eew",
    "/devices/meter-0/upgrades",
    "/groups",
    "/groups/1",
    "/groups/2",
    "/exclusions",
    "/sites",
    "/sites/one?site=%3Cscript%3Ealert%28%27%22%26%F0%9D%84%9E%27%29%3C%2Fscript%3E",
    "/gateways",
    "/gateways/gate",
    "/cells",
    "/cells?by=list",
    "/cells?by=closed",
    "/cells/51234",
    "/cells/1",
];

const FORMS: [&str; 19] = [
    "/devices/new?endpoint=%22%3Cb%3E",
    "/devices/import",
    "/devices/meter-0/edit",
    "/devices/meter-0/exclude",
    "/devices/meter-0/remove",
    "/devices/meter-2/end-exclusion",
    "/groups/new?filter=site%3D%3D%22%3Cb%3E%22",
    "/groups/1/edit",
    "/groups/2/edit",
    "/groups/1/remove",
    "/exclusions/new",
    "/exclusions/end?endpoint=gone",
    "/sites/limit",
    "/sites/limit?site=%3Cscript%3Ealert%28%27%22%26%F0%9D%84%9E%27%29%3C%2Fscript%3E",
    "/sites/clear?site=%3Cscript%3Ealert%28%27%22%26%F0%9D%84%9E%27%29%3C%2Fscript%3E",
    "/cells/51234/edit",
    "/cells/51234/close",
    "/cells/51234/open",
    "/cells/outage",
];

/// A page that is whole: one heading of the first rank, and nothing that was not escaped.
fn check(path: &str, shown: &Shown) {
    assert_eq!(shown.status, StatusCode::OK, "{path}: {shown:?}");
    assert_eq!(shown.text.matches("<h1").count(), 1, "{path}");
    assert!(!shown.says("<script>alert"), "{path}: {}", shown.text);
    assert!(!shown.says("style=\""), "{path}");
    assert_eq!(on(&shown.text), None, "{path}");
    assert!(shown.text.trim_end().ends_with("</html>"), "{path}");
}

/// An attribute that would be a script.
fn on(text: &str) -> Option<&str> {
    let mut found = text.match_indices(" on").map(|(at, _)| &text[at + 1..]);
    found.find(|text| {
        let rest = text.trim_start_matches(|c: char| c.is_ascii_alphabetic());
        rest.starts_with('=')
    })
}

#[tokio::test]
async fn every_page_is_whole_for_everybody_in_both_languages() {
    let pages = pages().await;
    filled(&pages).await;
    let (anna, vera) = (pages.log_in("anna").await, pages.log_in("vera").await);
    let chinese = anna.with("cellwise-language=zh-Hans");
    for path in READ {
        check(path, &anna.get(path).await);
        check(path, &chinese.get(path).await);
        let shown = vera.get(path).await;
        check(path, &shown);
        // but the button to log out
        assert_eq!(shown.text.matches("method=\"post\"").count(), 1, "{path}");
        for change in [
            "/edit", "/remove", "/exclude", "/close", "/limit", "/clear", "/new", "/import",
            "/outage",
        ] {
            assert!(
                !shown.text.contains(&format!("{change}\"")),
                "{path} leads to {change}"
            );
        }
    }
    for path in FORMS {
        let shown = anna.get(path).await;
        check(path, &shown);
        assert!(shown.says("name=\"csrf\""), "{path}");
        check(path, &chinese.get(path).await);
    }
}

#[tokio::test]
async fn every_list_can_be_empty() {
    let pages = pages().await;
    let anna = pages.log_in("anna").await;
    for (path, text) in [
        ("/devices", "0 devices"),
        ("/groups", "There are no groups yet."),
        ("/exclusions", "No device is excluded."),
        ("/sites", "No site has a limit."),
        ("/gateways", "No device names a gateway."),
        (
            "/cells",
            "No device has upgraded or waited in any cell yet.",
        ),
        ("/devices/unknown", "Nobody was refused"),
    ] {
        let shown = anna.get(path).await;
        check(path, &shown);
        assert!(shown.says(text), "{path}: {}", shown.text);
    }
    for path in [
        "/devices/none",
        "/groups/7",
        "/gateways/none",
        "/sites/one?site=a",
        "/sites/one",
        "/devices/none/edit",
        "/devices/none/dance",
        "/cells/1/dance",
        "/exclusions/end",
        "/exclusions/end?endpoint=a",
    ] {
        assert_eq!(anna.get(path).await.status, StatusCode::NOT_FOUND, "{path}");
    }
}

/// A form that was refused shows why, and what was entered; without the page's own it does nothing.
async fn refused(browser: &Browser<'_>, path: &str, fields: &[(&str, &str)], kept: &str) {
    let shown = browser.post(path, fields).await;
    assert_eq!(
        shown.status,
        StatusCode::UNPROCESSABLE_ENTITY,
        "{path}: {shown:?}"
    );
    assert!(shown.says("role=\"alert\""), "{path}");
    assert!(shown.says(kept), "{path}: {}", shown.text);
    let shown = browser.post_bare(path, fields).await;
    assert!(shown.status.is_client_error(), "{path}: {shown:?}");
}

/// A form that does what it is for only with what the page has in it.
async fn done(browser: &Browser<'_>, path: &str, fields: &[(&str, &str)], to: &str) {
    let bare = browser.post_bare(path, fields).await;
    assert_eq!(bare.status, StatusCode::FORBIDDEN, "{path}: {bare:?}");
    let shown = browser.post(path, fields).await;
    assert_eq!(shown.status, StatusCode::SEE_OTHER, "{path}: {shown:?}");
    assert!(
        shown.location().starts_with(&format!("/console{to}")),
        "{path}: {shown:?}"
    );
    let led = browser
        .get(shown.location().strip_prefix("/console").unwrap())
        .await;
    assert_eq!(led.status, StatusCode::OK, "{path}: {led:?}");
    assert!(led.says("class=\"notice\""), "{path}: {}", led.text);
}
