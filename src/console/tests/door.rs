//! Who gets to a page.

use axum::http::{StatusCode, header};

use super::{PASSWORD, Pages, Shown};

const ALL: [&str; 4] = ["administrator", "operator", "approver", "auditor"];

#[tokio::test]
async fn whoever_has_not_logged_in_is_asked_to_and_led_on() {
    let pages = Pages::new().await;
    pages.user("anna", &ALL).await;
    let stranger = pages.browser();
    let shown = stranger.get("/tasks?cursor=a").await;
    assert_eq!(shown.status, StatusCode::SEE_OTHER);
    assert_eq!(
        shown.location(),
        "/console/login?next=%2Ftasks%3Fcursor%3Da"
    );
    let form = stranger.get("/login?next=%2Ftasks%3Fcursor%3Da").await;
    assert_eq!(form.status, StatusCode::OK);
    assert_eq!(form.value_of("next"), "/tasks?cursor=a");
    let wrong = [("name", "anna"), ("password", "wrong horse battery")];
    let shown = stranger.post_bare("/login", &wrong).await;
    assert_eq!(shown.status, StatusCode::UNAUTHORIZED);
    assert!(shown.says("the name or the password is wrong"));
    assert!(shown.says("value=\"anna\"") && !shown.says("wrong horse"));
    let right = [
        ("name", "anna"),
        ("password", PASSWORD),
        ("next", "/tasks?cursor=a"),
    ];
    let shown = stranger.post_bare("/login", &right).await;
    assert_eq!(shown.location(), "/console/tasks?cursor=a");
}

#[tokio::test]
async fn a_log_in_leads_to_no_other_host() {
    let pages = Pages::new().await;
    pages.user("anna", &ALL).await;
    for next in [
        "https://evil.example/",
        "//evil.example/",
        "",
        "tasks",
        "/\\evil.example",
    ] {
        let fields = [("name", "anna"), ("password", PASSWORD), ("next", next)];
        let shown = pages.browser().post_bare("/login", &fields).await;
        // what is led to is always below the console
        assert!(
            shown.location().starts_with("/console/"),
            "{next}: {shown:?}"
        );
    }
}

#[tokio::test]
async fn what_was_entered_when_the_session_ended_is_sent_again_after_the_log_in() {
    let pages = Pages::new().await;
    let anna = pages.user("anna", &ALL).await;
    let package = pages.upload("meter", "V2").await;
    let device = serde_json::json!({"endpoint": "urn:imei:1", "product": "meter"});
    pages
        .api(axum::http::Method::POST, "/v1/devices", Some(&device))
        .await;
    let task = serde_json::json!({"package_id": package, "all": true, "name": "Spring"});
    let task = pages
        .api(axum::http::Method::POST, "/v1/tasks", Some(&task))
        .await;
    let pause = format!("/tasks/{}/pause", task["id"]);
    let asked = anna.get(&pause).await;
    let csrf = asked.value_of("csrf");
    anna.post("/logout", &[]).await;
    // the page is still open
    let fields = [
        ("csrf", &*csrf),
        ("note", "\"later\" <b>"),
        ("password", "secret"),
    ];
    let shown = anna.post_bare(&pause, &fields).await;
    assert_eq!(shown.status, StatusCode::UNAUTHORIZED);
    assert!(shown.says("what you have entered is kept") && !shown.says("secret"));
    let (kept, to) = (shown.value_of("kept"), shown.value_of("to"));
    let kept = kept.replace("&#38;", "&");
    assert_eq!(to, pause);
    let fields = [
        ("name", "anna"),
        ("password", PASSWORD),
        ("kept", &*kept),
        ("to", &*to),
    ];
    let shown = pages.browser().post_bare("/login", &fields).await;
    assert_eq!(shown.status, StatusCode::OK);
    assert!(
        shown.says("&#34;later&#34; &#60;b&#62;") && !shown.says("<b>"),
        "{shown:?}"
    );
    let mut anna = pages.browser();
    anna.cookies = shown.headers[header::SET_COOKIE]
        .to_str()
        .unwrap()
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    let again = [
        ("csrf", &*shown.value_of("csrf")),
        ("once", &*shown.value_of("once")),
    ];
    let shown = anna.post_bare(&pause, &again).await;
    assert_eq!(shown.status, StatusCode::SEE_OTHER, "{shown:?}");
}

#[tokio::test]
async fn a_form_that_no_page_of_the_session_has_sent_changes_nothing() {
    let pages = Pages::new().await;
    let anna = pages.user("anna", &ALL).await;
    for csrf in ["", "0123", &"0".repeat(64)] {
        let shown = anna.post_bare("/logout", &[("csrf", csrf)]).await;
        assert_eq!(shown.status, StatusCode::FORBIDDEN, "{csrf}");
        assert!(shown.headers[header::CONTENT_TYPE] == "text/html; charset=utf-8");
    }
    assert_eq!(anna.get("/now").await.status, StatusCode::OK);
    assert_eq!(anna.post("/logout", &[]).await.location(), "/console/login");
    assert_eq!(anna.get("/now").await.status, StatusCode::SEE_OTHER);
}

#[tokio::test]
async fn pages_may_do_nothing_but_what_they_need() {
    let pages = Pages::new().await;
    let anna = pages.user("anna", &ALL).await;
    for path in [
        "/now",
        "/login",
        "/nowhere",
        "/tasks/1/pause",
        "/tasks/x/pause",
    ] {
        let shown = anna.get(path).await;
        let policy = shown.headers[header::CONTENT_SECURITY_POLICY]
            .to_str()
            .unwrap();
        assert!(
            policy.starts_with("default-src 'none'; script-src 'self';"),
            "{path}"
        );
        assert!(!policy.contains("unsafe"));
        assert_eq!(shown.headers[header::CACHE_CONTROL], "no-store", "{path}");
        assert!(!shown.says("style=") && !shown.says(" on") || !shown.says("onclick"));
    }
    let shown = anna.get("/nowhere").await;
    assert_eq!(shown.status, StatusCode::NOT_FOUND);
    assert!(shown.says("<h1>") && shown.says("/console/now"));
}

#[tokio::test]
async fn files_are_kept_by_browsers_and_change_their_address() {
    let pages = Pages::new().await;
    let browser = pages.browser();
    let page = browser.get("/login").await;
    for name in ["console.css", "console.js", "icon.svg"] {
        let (before, _) = page.text.split_once(name).unwrap();
        let address = before.rsplit('"').next().unwrap();
        let address = address.strip_prefix("/console").unwrap();
        let file = browser.get(&format!("{address}{name}")).await;
        assert_eq!(file.status, StatusCode::OK);
        let kept = file.headers[header::CACHE_CONTROL].to_str().unwrap();
        assert!(kept.contains("immutable") && file.text.len() > 100);
    }
    let missing = browser.get("/static/1/none.js").await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn behind_a_prefix_pages_lead_to_pages_behind_it() {
    let pages = Pages::with(|config| config.console.path_prefix = "/iot/cellwise".to_owned()).await;
    pages.user_behind("/iot/cellwise").await;
}

#[tokio::test]
async fn a_console_that_is_not_enabled_is_not_there() {
    let pages = Pages::with(|config| config.console.enabled = false).await;
    assert_eq!(
        pages.browser().get("/login").await.status,
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn a_language_is_chosen_once() {
    let pages = Pages::new().await;
    let browser = pages.browser();
    let shown = browser.get("/language?set=zh-Hans&next=%2Flogin").await;
    assert_eq!(shown.location(), "/console/login");
    let cookie = shown.headers[header::SET_COOKIE].to_str().unwrap();
    let chosen = browser.with(cookie.split(';').next().unwrap());
    assert!(chosen.get("/login").await.says("<html lang=\"zh-Hans\">"));
    assert!(browser.get("/login").await.says("<html lang=\"en\">"));
    let odd = browser.get("/language?set=%0d%0aX&next=%2f%0d%0ax").await;
    assert_eq!(odd.location(), "/console/now");
}

#[tokio::test]
async fn nothing_is_kept_of_what_another_site_has_sent() {
    let pages = Pages::new().await;
    pages.user("anna", &ALL).await;
    for site in ["cross-site", "same-site", "none"] {
        let mut stranger = pages.browser();
        stranger.site = site;
        let shown = stranger
            .post_bare("/tasks/1/stop", &[("note", "evil")])
            .await;
        assert_eq!(shown.status, StatusCode::SEE_OTHER, "{site}");
        assert!(!shown.says("evil") && shown.location().contains("/login?next="));
        let fields = [
            ("name", "anna"),
            ("password", PASSWORD),
            ("kept", "note=evil"),
            ("to", "/tasks/1/stop"),
        ];
        let shown = stranger.post_bare("/login", &fields).await;
        assert_eq!(shown.location(), "/console/login", "{site}");
        assert!(shown.headers.get(header::SET_COOKIE).is_none());
    }
}

/// What is shown after the log-in to whoever has sent this when the session had ended.
async fn goes_on(pages: &Pages, path: &str, fields: &[(&str, &str)]) -> Shown {
    let shown = pages.browser().post_bare(path, fields).await;
    assert_eq!(shown.status, StatusCode::UNAUTHORIZED, "{shown:?}");
    let kept = shown.value_of("kept").replace("&#38;", "&");
    let fields = [
        ("name", "anna"),
        ("password", PASSWORD),
        ("kept", &*kept),
        ("to", path),
    ];
    pages.browser().post_bare("/login", &fields).await
}

#[tokio::test]
async fn what_was_looked_at_stays_what_is_changed_and_secrets_are_asked_for_again() {
    let pages = Pages::new().await;
    pages.user("anna", &ALL).await;
    let fields = [
        ("etag", "\"7\""),
        ("key", "0001"),
        ("identity", "meter"),
        ("no_key", ""),
    ];
    let shown = goes_on(&pages, "/devices/urn:imei:1/edit", &fields).await;
    assert_eq!(shown.value_of("etag"), "&#34;7&#34;");
    assert_eq!(shown.value_of("identity"), "meter");
    assert!(shown.says("name=\"key\" type=\"password\"") && !shown.says("0001"));
    assert!(shown.says("/devices/urn:imei:1/edit"));
    // what was empty is not asked for
    let fields = [("etag", "\"7\""), ("key", "")];
    let shown = goes_on(&pages, "/devices/urn:imei:1/edit", &fields).await;
    assert!(!shown.says("type=\"password\""), "{shown:?}");
}

#[tokio::test]
async fn a_page_that_takes_forms_alone_is_a_page_when_it_is_gone_to() {
    let pages = Pages::new().await;
    let anna = pages.user("anna", &ALL).await;
    let shown = anna.get("/logout").await;
    assert_eq!(shown.status, StatusCode::NOT_FOUND);
    assert!(shown.says("<h1>"));
}
