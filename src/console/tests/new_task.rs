//! The form of a new task.

use axum::http::{Method, StatusCode};
use serde_json::{Value, json};

use super::{Browser, Pages};

const ROLES: [&str; 1] = ["operator"];

/// A form that is filled in, but for the package.
const EVERYTHING: [(&str, &str); 35] = [
    ("name", "spring"),
    ("for", "filter"),
    ("filter", "version<V9,version>=V0,endpoint==d*"),
    ("exclude_devices", "d1"),
    ("phases", "2"),
    ("phase0_kind", "count"),
    ("phase0_size", "1"),
    ("phase0_success", "95.5"),
    ("phase0_soak", "1.5"),
    ("phase0_then", "wait"),
    ("phase1_kind", "rest"),
    ("aborts", "1"),
    ("abort0_kind", "percent"),
    ("abort0_size", "10"),
    ("abort0_min", "20"),
    ("abort0_reason", "wrong_version"),
    ("abort0_reason", "device_not_heard"),
    ("abort0_action", "stop"),
    ("windows", "1"),
    ("window0_from", "22:00"),
    ("window0_to", "05:00"),
    ("window0_day", "mon"),
    ("window0_day", "tue"),
    ("zone", "Asia/Shanghai"),
    ("holidays", "2027-10-01, 2027-10-02"),
    ("at_end", "take_back"),
    ("rate", "60"),
    ("retry_attempts", "2"),
    ("retry_minutes", "5"),
    ("retry_reason", "device_not_heard"),
    ("approval", "1"),
    ("priority", "7"),
    ("weight", "3"),
    ("budget_bytes", "2000000"),
    ("battery_percent", "30"),
];

/// Two devices of a product, and the number of its package.
async fn fleet(pages: &Pages) -> String {
    for endpoint in ["d0", "d1"] {
        let device = json!({"endpoint": endpoint, "product": "meter"});
        pages.api(Method::POST, "/v1/devices", Some(&device)).await;
    }
    pages.upload("meter", "V2").await.to_string()
}

async fn tasks(pages: &Pages) -> Vec<Value> {
    let tasks = pages.api(Method::GET, "/v1/tasks", None).await;
    tasks["items"].as_array().unwrap().clone()
}

/// The form with these fields, and a button.
async fn press(browser: &Browser<'_>, what: &str, fields: &[(&str, &str)]) -> super::Shown {
    let mut fields = fields.to_vec();
    fields.push(("do", what));
    browser.post("/tasks/new", &fields).await
}

#[tokio::test]
async fn a_task_is_created_of_everything_that_was_entered() {
    let pages = Pages::new().await;
    let olga = pages.user("olga", &ROLES).await;
    let package = fleet(&pages).await;
    let mut fields = EVERYTHING.to_vec();
    fields.push(("package0_id", &package));
    let asked = press(&olga, "review", &fields).await;
    assert_eq!(asked.status, StatusCode::OK, "{asked:?}");
    for said in [
        "Create the task “spring”?",
        "It names 2 devices now.",
        "Nothing begins before somebody else approves it.",
        "Monday, Tuesday: from 22:00 to 05:00",
        "The priority is 7, the weight 3.",
    ] {
        assert!(asked.says(said), "{said}: {asked:?}");
    }
    assert_eq!(asked.value_of("phase0_success"), "95.5");
    assert!(tasks(&pages).await.is_empty());
    let created = press(&olga, "create", &fields).await;
    assert!(
        created.location().ends_with("done=task-created"),
        "{created:?}"
    );
    let task = &tasks(&pages).await[0];
    assert_eq!((&task["total"], &task["left_out"]), (&json!(1), &json!(1)));
    assert_eq!(task["phases"][0]["soak_seconds"], 5_400);
    assert_eq!(task["phases"][0]["success_percent"], 95.5);
    assert_eq!(task["phases"][0]["then"], "wait");
    let reasons = json!(["device_not_heard", "wrong_version"]);
    assert_eq!(task["abort"][0]["reasons"], reasons);
    assert_eq!(task["abort"][0]["action"], "stop");
    assert_eq!(task["windows"]["windows"][0]["days"], json!(["mon", "tue"]));
    assert_eq!(task["windows"]["at_end"], "take_back");
    assert_eq!(task["windows"]["holidays"][1], "2027-10-02");
    assert_eq!(task["retry"]["interval_seconds"], 300);
    assert_eq!(task["conditions"]["battery_percent"], 30);
    assert_eq!((&task["priority"], &task["weight"]), (&json!(7), &json!(3)));
    assert_eq!(task["state"], "awaiting_approval");
    assert!(task["created_by"].as_str().unwrap().contains("olga"));
}

#[tokio::test]
async fn a_form_that_is_sent_twice_creates_one_task_and_one_without_csrf_none() {
    let pages = Pages::new().await;
    let olga = pages.user("olga", &ROLES).await;
    let package = fleet(&pages).await;
    let fields = [("name", "n"), ("package0_id", &*package), ("do", "create")];
    let bare = olga.post_bare("/tasks/new", &fields).await;
    assert_eq!(bare.status, StatusCode::FORBIDDEN, "{bare:?}");
    assert_eq!(bare.value_of("name"), "n");
    assert!(tasks(&pages).await.is_empty());
    let once = olga.get("/tasks/new").await.value_of("once");
    let fields = [("name", "n"), ("package0_id", &package), ("once", &once)];
    let first = press(&olga, "create", &fields).await;
    let second = press(&olga, "create", &fields).await;
    assert_eq!(first.status, StatusCode::SEE_OTHER, "{first:?}");
    assert_eq!(first.location(), second.location());
    assert_eq!(tasks(&pages).await.len(), 1);
    let vera = pages.user("vera", &["viewer"]).await;
    let sent = press(&vera, "create", &fields).await;
    assert_eq!(sent.status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn what_is_wrong_is_told_and_what_was_entered_stays() {
    let pages = Pages::new().await;
    let olga = pages.user("olga", &ROLES).await;
    let package = fleet(&pages).await;
    let hostile = "<script>alert(1)</script>\"'😀";
    for (field, value, said) in [
        ("phase0_size", "many", "phases[0].percent"),
        ("rate", "1.5", "rate.per_minute"),
        ("start_at", "tomorrow", "This is not a time."),
        ("abort0_size", "-", "abort[0].percent"),
        ("priority", "9999999999999999999999", "priority"),
        ("priority", "300", "This number is out of range."),
        ("weight", "-1", "weight"),
        ("battery_percent", "300", "conditions.battery_percent"),
        ("filter", "((", "filter"),
        ("window0_from", "25:00", "windows.windows[0].from"),
        ("phase0_soak", "1e300", "This is not a number."),
    ] {
        let fields = [
            ("name", hostile),
            ("package0_id", &package),
            ("for", "filter"),
            ("window0_to", "05:00"),
            ("zone", "UTC"),
            (field, value),
        ];
        // a field that is not this one is well
        let good = [("filter", "endpoint==d0"), ("window0_from", "22:00")];
        let good = good.into_iter().filter(|(name, _)| *name != field);
        let fields: Vec<_> = fields.into_iter().chain(good).collect();
        let shown = press(&olga, "create", &fields).await;
        assert!(shown.status.is_client_error(), "{field}: {shown:?}");
        assert!(shown.says(said), "{field}: {shown:?}");
        assert!(
            shown.says(&format!("value=\"{value}\"")),
            "{field}: {shown:?}"
        );
        assert!(!shown.says("<script>alert"), "{field}: {shown:?}");
        assert!(shown.says("id=\"problem\""), "{field}: {shown:?}");
    }
    let no_package = press(&olga, "review", &[("name", "n")]).await;
    assert!(no_package.says("Choose a package."), "{no_package:?}");
    let no_name = press(&olga, "review", &[("package0_id", &*package)]).await;
    assert!(no_name.says("Give the task a name."), "{no_name:?}");
    assert!(tasks(&pages).await.is_empty());
}

#[tokio::test]
async fn rows_are_added_without_a_script_and_not_without_end() {
    let pages = Pages::new().await;
    let olga = pages.user("olga", &ROLES).await;
    let fields = [("name", "n"), ("phases", "1"), ("phase0_size", "10")];
    let shown = press(&olga, "more-phases", &fields).await;
    assert!(shown.says("name=\"phase1_size\"") && !shown.says("name=\"phase2_size\""));
    assert_eq!(shown.value_of("phase0_size"), "10");
    assert_eq!(shown.value_of("name"), "n");
    let shown = press(&olga, "more-phases", &[("phases", "1000000")]).await;
    assert!(shown.says("name=\"phase19_size\"") && !shown.says("name=\"phase20_size\""));
    let shown = press(&olga, "more-nothing", &fields).await;
    assert_eq!(shown.value_of("phase0_size"), "10");
}

#[tokio::test]
async fn the_form_tells_for_how_many_devices_it_is_and_the_request() {
    let pages = Pages::new().await;
    let olga = pages.user("olga", &ROLES).await;
    let package = fleet(&pages).await;
    for (kind, field, value, count) in [
        ("all", "filter", "", "2 devices"),
        ("filter", "filter", "endpoint==d1", "one device"),
        ("devices", "devices", "d0, d1\r\nd1 d7", "3 devices"),
    ] {
        let fields = [
            ("name", "it's"),
            ("package0_id", &*package),
            ("for", kind),
            (field, value),
        ];
        let shown = olga.post_bare("/tasks/new/preview", &fields).await;
        assert_eq!(shown.status, StatusCode::OK, "{shown:?}");
        let said = format!("It names {count} now.");
        assert!(shown.says(&said), "{kind}: {shown:?}");
        assert!(shown.says("id=\"count\" data-part"), "{shown:?}");
        assert!(shown.says("it&#39;\\&#39;&#39;s"), "{shown:?}");
    }
    let none = olga.post_bare("/tasks/new/preview", &[]).await;
    assert!(none.says("Choose a package to see"), "{none:?}");
    // another page leads here with what is on it
    let path = format!("/tasks/new?package={package}&filter=endpoint%3D%3Dd0");
    let shown = olga.get(&path).await;
    assert!(shown.says("It names one device now."), "{shown:?}");
    assert!(shown.says(&format!("<option value=\"{package}\" selected>")));
    assert!(shown.says("value=\"filter\" checked"), "{shown:?}");
}

#[tokio::test]
async fn a_forecast_is_shown_beside_the_form() {
    let pages = Pages::new().await;
    let olga = pages.user("olga", &ROLES).await;
    let package = fleet(&pages).await;
    let fields = [("name", "n"), ("package0_id", &*package)];
    let mut shown = press(&olga, "forecast", &fields).await;
    assert_eq!(shown.status, StatusCode::OK, "{shown:?}");
    let forecast = shown.value_of("forecast");
    let again = [
        ("name", "n"),
        ("package0_id", &*package),
        ("forecast", &*forecast),
    ];
    while shown.says("value=\"look\"") {
        shown = press(&olga, "look", &again).await;
    }
    assert!(
        shown.says("Through, as likely earlier as later"),
        "{shown:?}"
    );
    assert!(tasks(&pages).await.is_empty());
    let gone = [("name", "n"), ("forecast", "999")];
    let shown = press(&olga, "look", &gone).await;
    assert_eq!(shown.status, StatusCode::NOT_FOUND, "{shown:?}");
    assert_eq!(shown.value_of("name"), "n");
}

#[tokio::test]
async fn a_number_out_of_range_is_told_where_the_rules_are_looked_at() {
    let pages = Pages::new().await;
    let olga = pages.user("olga", &ROLES).await;
    let package = fleet(&pages).await;
    for (field, value, said) in [
        ("abort0_min", "-1", "abort[0].min_results"),
        ("phase0_size", "-1", "phases[0].count"),
        ("priority", "300", "priority"),
        ("signal_dbm", "-40000", "conditions.signal_dbm"),
    ] {
        let fields = [
            ("name", "spring"),
            ("package0_id", &*package),
            ("abort0_size", "10"),
            ("phase0_kind", "count"),
            (field, value),
        ];
        let shown = press(&olga, "review", &fields).await;
        assert_eq!(shown.status, StatusCode::UNPROCESSABLE_ENTITY, "{shown:?}");
        assert!(shown.says(said), "{field}: {shown:?}");
        let kept = format!("value=\"{value}\"");
        assert!(shown.says(&kept), "{field}: {shown:?}");
        assert_eq!(shown.value_of("abort0_size"), "10");
    }
}

#[tokio::test]
async fn rows_that_are_passed_over_go_behind_the_others() {
    let pages = Pages::new().await;
    let olga = pages.user("olga", &ROLES).await;
    let package = fleet(&pages).await;
    let fields = [
        ("name", "n"),
        ("package0_id", &*package),
        ("phases", "3"),
        // a phase that ends with a wait is one, whatever it has
        ("phase1_then", "wait"),
        ("phase2_size", "500"),
        ("aborts", "2"),
        ("abort1_size", "900"),
    ];
    let shown = press(&olga, "create", &fields).await;
    assert_eq!(shown.status, StatusCode::UNPROCESSABLE_ENTITY, "{shown:?}");
    assert!(shown.says("phases[1].percent"), "{shown:?}");
    assert!(shown.says("abort[0].percent"), "{shown:?}");
    assert_eq!(shown.value_of("phase1_size"), "500");
    assert_eq!(shown.value_of("abort0_size"), "900");
    assert_eq!(shown.value_of("abort1_size"), "");
}

#[tokio::test]
async fn what_was_chosen_stays_chosen_although_no_list_has_it() {
    let pages = Pages::new().await;
    let olga = pages.user("olga", &ROLES).await;
    let fields = [("package0_id", "77"), ("exclude_group", "<b>")];
    let shown = press(&olga, "more-phases", &fields).await;
    assert!(
        shown.says("<option value=\"77\" selected>Package 77"),
        "{shown:?}"
    );
    assert!(
        shown.says("<option value=\"&#60;b&#62;\" selected>"),
        "{shown:?}"
    );
}

#[tokio::test]
async fn what_was_entered_and_not_chosen_is_not_passed_over() {
    let pages = Pages::new().await;
    let anna = pages.user("anna", &["viewer", "operator"]).await;
    let package = pages.upload("meter", "V2").await.to_string();
    for (name, value) in [("filter", "site==north"), ("devices", "m1"), ("group", "7")] {
        let fields = [
            ("do", "review"),
            ("name", "x"),
            ("packages", "1"),
            ("package0_id", &*package),
            ("for", "all"),
            (name, value),
        ];
        let shown = anna.post("/tasks/new", &fields).await;
        assert_eq!(shown.status, StatusCode::UNPROCESSABLE_ENTITY, "{name}");
        assert!(shown.says("all devices are chosen") && shown.says(value));
    }
    let fields = [
        ("do", "review"),
        ("name", "x"),
        ("packages", "1"),
        ("package0_id", &*package),
        ("for", "filter"),
        ("filter", "site==north"),
    ];
    let shown = anna.post("/tasks/new", &fields).await;
    assert!(shown.says("Package: meter V2"), "{shown:?}");
    assert!(shown.says("Devices that fit the filter site==north"));
}
