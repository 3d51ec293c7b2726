//! Tasks and upgrades: what is shown of them, and what is done with them.

mod answered;

use axum::http::{Method, StatusCode, header};
use serde_json::{Value, json};

use super::{Browser, Pages};
use crate::{
    ledger::{Change, Failure, Outcome, TaskId, UpgradeId},
    store::conformance::next_batch,
};

const HOSTILE: &str = "<script>alert(\"x\")</script> 'a' 😀 {{ 7 }}";
const ESCAPED: &str = "&#60;script&#62;";
const ALL: [&str; 4] = ["administrator", "operator", "approver", "auditor"];
/// What is done with a task.
const OPERATIONS: [&str; 9] = [
    "pause",
    "resume",
    "next-phase",
    "stop",
    "retry",
    "copy",
    "approve",
    "refuse",
    "delete",
];

/// What is done with a task of four devices in two phases, one after the other: what is asked, what is entered, and its state afterwards.
const STEPS: [(&str, &str, (&str, &str), &str); 5] = [
    (
        "approve",
        "Phase 1 begins first. Its devices: 1.",
        ("note", "looked at"),
        "running",
    ),
    (
        "pause",
        "Upgrades that wait: 4. None of them begins",
        ("note", "a look"),
        "paused",
    ),
    ("resume", "Upgrades that wait: 4.", ("x", ""), "running"),
    (
        "next-phase",
        "Phase 2 begins. Its devices: 3.",
        ("from", "1"),
        "running",
    ),
    (
        "stop",
        "Upgrades that wait: 4. They are cancelled.",
        ("soft", "1"),
        "stopped",
    ),
];

impl Pages {
    /// So many devices of a product with a package, and a task for all of them with these rules.
    async fn task(&self, name: &str, devices: usize, rules: &Value) -> i64 {
        let package = self.upload("meter", "V2").await;
        for i in 0..devices {
            let device = json!({"endpoint": format!("d{i}"), "product": "meter"});
            self.api(Method::POST, "/v1/devices", Some(&device)).await;
        }
        let mut task = json!({"name": name, "package_id": package, "all": true});
        let rules = rules.as_object().unwrap().clone();
        task.as_object_mut().unwrap().extend(rules);
        let task = self.api(Method::POST, "/v1/tasks", Some(&task)).await;
        task["id"].as_i64().unwrap()
    }

    async fn task_now(&self, id: i64) -> Value {
        let path = format!("/v1/tasks/{id}");
        self.api(Method::GET, &path, None).await
    }

    /// The numbers of a task's upgrades.
    async fn upgrades(&self, task: i64) -> Vec<i64> {
        let path = format!("/v1/tasks/{task}/upgrades");
        let upgrades = self.api(Method::GET, &path, None).await;
        let upgrades = upgrades["items"].as_array().unwrap().iter();
        upgrades.map(|it| it["id"].as_i64().unwrap()).collect()
    }

    /// Ends an upgrade as failed.
    async fn fail(&self, task: i64, upgrade: i64, failure: Failure) {
        let ended = Change::Ended {
            upgrade: UpgradeId(upgrade),
            task: TaskId(task),
            attempt: 1,
            outcome: Outcome::Failed(failure),
            facts: Box::default(),
            retry_at: None,
            at: self.state.clock.now().utc,
        };
        let store = &self.state.store;
        store.commit(next_batch(), &[ended]).await.unwrap();
    }
}

/// The page is there in both languages, and nothing of a name is code.
async fn look(browser: &Browser<'_>, path: &str) {
    for language in ["en", "zh-Hans"] {
        let browser = browser.with(&format!("cellwise-language={language}"));
        let shown = browser.get(path).await;
        assert_eq!(shown.status, StatusCode::OK, "{path}: {shown:?}");
        assert!(shown.says(&format!("<html lang=\"{language}\"")), "{path}");
        assert!(!shown.says("<script>alert"), "{path}: {shown:?}");
        assert!(!shown.says("style=\""), "{path}: {shown:?}");
    }
}

#[tokio::test]
async fn every_page_is_shown_whatever_there_is() {
    let pages = Pages::new().await;
    let anna = pages.user("anna", &ALL).await;
    let vera = pages.user("vera", &["viewer"]).await;
    for path in ["/tasks", "/upgrades"] {
        look(&anna, path).await;
        look(&vera, path).await;
    }
    look(&anna, "/tasks/new").await;
    look(&anna, "/approvals").await;
    let rules = json!({
        "phases": [{"count": 1, "success_percent": 95, "then": "wait"}, {"percent": 50, "soak_seconds": 3_600}],
        "abort": [{"percent": 10, "min_results": 2, "reasons": ["wrong_version"]}, {"count": 3, "action": "stop"}],
        "rate": {"per_minute": 60, "factor": 2, "each": 10},
        "windows": {"windows": [{"from": "22:00", "to": "05:00", "days": ["mon"]}, {"from": "12:00", "to": "13:00"}],
            "zone": "Europe/Berlin", "holidays": ["2027-12-25"], "at_end": "take_back"},
        "retry": {"attempts": 2, "interval_seconds": 300, "reasons": ["device_not_heard"]},
        "budget": {"bytes_per_month": 2_000_000, "airtime_estimated_seconds_per_month": 36_000},
        "conditions": {"battery_percent": 30, "space_kib": 100, "signal_dbm": -110},
        "confirmation": "device_owner", "approval": true, "priority": 7, "weight": 3,
        "exclude": {"devices": ["d3"]}, "allow_downgrade": true,
    });
    let task = pages.task(HOSTILE, 4, &rules).await;
    let upgrade = pages.upgrades(task).await[0];
    for path in [
        "/tasks".to_owned(),
        format!("/tasks/{task}"),
        format!("/tasks/{task}/upgrades"),
        "/upgrades".to_owned(),
        format!("/upgrades/{upgrade}"),
    ] {
        look(&anna, &path).await;
        look(&vera, &path).await;
    }
    look(&anna, &format!("/tasks/{task}/change")).await;
    look(&anna, "/approvals").await;
    let shown = anna.get(&format!("/tasks/{task}")).await;
    for said in [
        ESCAPED,
        "Waits for approval",
        "Monday: from 22:00 to 05:00",
        "The priority is 7, the weight 3.",
        "The task stops when 3 have failed",
        "Only these reasons count: It runs another version afterwards",
        "The battery has 30 % at least.",
        "The owner of each device confirms its upgrade.",
    ] {
        assert!(shown.says(said), "{said}: {shown:?}");
    }
}

#[tokio::test]
async fn a_viewer_is_shown_nothing_that_he_may_not_press() {
    let pages = Pages::new().await;
    let vera = pages.user("vera", &["viewer"]).await;
    let task = pages.task("night", 2, &json!({"approval": true})).await;
    let upgrade = pages.upgrades(task).await[0];
    let shown = vera.get(&format!("/tasks/{task}")).await;
    for operation in OPERATIONS.iter().chain(&["change"]) {
        let link = format!("/tasks/{task}/{operation}\"");
        assert!(!shown.says(&link), "{operation}: {shown:?}");
    }
    assert!(!vera.get("/tasks").await.says("/tasks/new"));
    assert!(!vera.get("/tasks").await.says("/approvals"));
    let shown = vera.get(&format!("/upgrades/{upgrade}")).await;
    for operation in ["cancel", "retry", "skip", "confirm"] {
        let link = format!("/upgrades/{upgrade}/{operation}\"");
        assert!(!shown.says(&link), "{operation}: {shown:?}");
    }
    for operation in OPERATIONS {
        let path = format!("/tasks/{task}/{operation}");
        let fields = [("note", "n"), ("name", "copy")];
        assert_eq!(vera.get(&path).await.status, StatusCode::FORBIDDEN);
        let sent = vera.post(&path, &fields).await;
        assert_eq!(sent.status, StatusCode::FORBIDDEN, "{operation}");
    }
    assert_eq!(pages.task_now(task).await["state"], "awaiting_approval");
    let missing = vera.get("/tasks/999").await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
    let nothing = vera.get(&format!("/tasks/{task}/sing")).await;
    assert_eq!(nothing.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_task_is_steered_by_forms_that_say_what_they_do() {
    let pages = Pages::new().await;
    let anna = pages.user("anna", &ALL).await;
    let rules = json!({"approval": true, "phases": [{"count": 1}, {}]});
    let task = pages.task("night", 4, &rules).await;
    for (operation, says, (field, value), state) in STEPS {
        let path = format!("/tasks/{task}/{operation}");
        let asked = anna.get(&path).await;
        assert!(asked.says(says), "{operation}: {asked:?}");
        let etag = if operation == "approve" {
            asked.value_of("etag").replace("&#34;", "\"")
        } else {
            String::new()
        };
        let fields = [(field, value), ("etag", &*etag)];
        let sent = anna.post(&path, &fields).await;
        let url = format!("/console/tasks/{task}?done=task-{operation}");
        assert_eq!(sent.location(), url, "{operation}: {sent:?}");
        let now = pages.task_now(task).await;
        assert_eq!(now["state"], state, "{operation}: {now}");
    }
    let now = pages.task_now(task).await;
    assert_eq!(now["approval"]["by"], "anna");
    assert_eq!(
        (&now["approval"]["note"], &now["phase"]),
        (&json!("looked at"), &json!(2))
    );
}

#[tokio::test]
async fn a_task_is_copied_and_deleted() {
    let pages = Pages::new().await;
    let anna = pages.user("anna", &ALL).await;
    let task = pages.task("night", 2, &json!({})).await;
    // a copy starts anew, and leads to its own page
    let path = format!("/tasks/{task}/copy");
    let sent = anna.post(&path, &[("name", "again")]).await;
    let copy = format!("/console/tasks/{}?", task + 1);
    assert!(sent.location().starts_with(&copy), "{sent:?}");
    assert!(sent.location().ends_with("done=task-copy"), "{sent:?}");
    assert_eq!(pages.task_now(task + 1).await["name"], "again");
    // what runs is not deleted
    let delete = format!("/tasks/{task}/delete");
    let sent = anna.post(&delete, &[]).await;
    assert_eq!(sent.status, StatusCode::CONFLICT, "{sent:?}");
    let stopped = anna.post(&format!("/tasks/{task}/stop"), &[]).await;
    assert_eq!(stopped.status, StatusCode::SEE_OTHER, "{stopped:?}");
    let sent = anna.post(&delete, &[]).await;
    assert_eq!(sent.location(), "/console/tasks?done=task-delete");
    let gone = anna.get(&format!("/tasks/{task}")).await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_is_refused_is_asked_again_with_what_was_entered() {
    let pages = Pages::new().await;
    let anna = pages.user("anna", &ALL).await;
    let task = pages.task("night", 1, &json!({"approval": true})).await;
    // nobody refuses without a word
    let path = format!("/tasks/{task}/refuse");
    let sent = anna.post(&path, &[("note", "")]).await;
    assert_eq!(sent.status, StatusCode::UNPROCESSABLE_ENTITY, "{sent:?}");
    assert!(sent.says("say why it is refused"), "{sent:?}");
    let long = "x".repeat(501);
    let sent = anna.post(&path, &[("note", &long)]).await;
    assert_eq!(sent.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(sent.says(&format!("value=\"{long}\"")), "{sent:?}");
    // what was looked at is approved, and nothing else
    let path = format!("/tasks/{task}/approve");
    let sent = anna.post(&path, &[("etag", "\"99\"")]).await;
    assert_eq!(sent.status, StatusCode::PRECONDITION_FAILED, "{sent:?}");
    // no form of another page
    for operation in ["approve", "refuse", "stop"] {
        let path = format!("/tasks/{task}/{operation}");
        let sent = anna.post_bare(&path, &[("note", "n")]).await;
        assert_eq!(sent.status, StatusCode::FORBIDDEN, "{operation}: {sent:?}");
    }
    assert_eq!(pages.task_now(task).await["state"], "awaiting_approval");
}

#[tokio::test]
async fn tasks_that_wait_are_approved_from_their_list() {
    let pages = Pages::new().await;
    let anna = pages.user("anna", &["approver"]).await;
    assert!(anna.get("/approvals").await.says("No task waits"));
    let task = pages.task("night", 2, &json!({"approval": true})).await;
    let listed = anna.get("/approvals").await;
    let link = format!("/console/tasks/{task}/approve?from_list=1");
    assert!(listed.says(&link), "{listed:?}");
    assert!(listed.says("Phase 1 begins first. Its devices: 2."));
    let asked = anna
        .get(&format!("/tasks/{task}/approve?from_list=1"))
        .await;
    assert_eq!(asked.value_of("from_list"), "1");
    let sent = anna
        .post(&format!("/tasks/{task}/approve"), &[("from_list", "1")])
        .await;
    assert_eq!(sent.location(), "/console/approvals?done=task-approve");
    assert_eq!(pages.task_now(task).await["state"], "running");
    assert!(anna.get("/approvals").await.says("No task waits"));
}

#[tokio::test]
async fn failures_lead_to_their_upgrades_and_are_retried_by_reason() {
    let pages = Pages::new().await;
    let anna = pages.user("anna", &ALL).await;
    let task = pages.task("night", 4, &json!({})).await;
    let upgrades = pages.upgrades(task).await;
    for upgrade in &upgrades[..2] {
        pages.fail(task, *upgrade, Failure::DeviceNotHeard).await;
    }
    pages.fail(task, upgrades[2], Failure::SlotTimedOut).await;
    let now = pages.task_now(task).await;
    let failures = json!({"device_not_heard": 2, "slot_timed_out": 1});
    assert_eq!(now["failures"], failures);
    let shown = anna.get(&format!("/tasks/{task}")).await;
    let link = format!("/console/tasks/{task}/upgrades?state=failed&amp;reason=slot_timed_out");
    assert!(shown.says(&link), "{shown:?}");
    let listed = anna
        .get(&format!(
            "/tasks/{task}/upgrades?state=failed&reason=slot_timed_out"
        ))
        .await;
    assert!(listed.says(">d2</a>"), "{listed:?}");
    assert!(!listed.says(">d0</a>") && !listed.says(">d3</a>"));
    let path = format!("/tasks/{task}/retry");
    let asked = anna.get(&format!("{path}?reason=device_not_heard")).await;
    assert!(
        asked.says("failed for “The device was not heard”: 2."),
        "{asked:?}"
    );
    assert_eq!(asked.value_of("reason"), "device_not_heard");
    let sent = anna.post(&path, &[("reason", "device_not_heard")]).await;
    assert_eq!(sent.status, StatusCode::SEE_OTHER, "{sent:?}");
    let now = pages.task_now(task).await;
    assert_eq!(now["failures"], json!({"slot_timed_out": 1}));
    let sent = anna.post(&path, &[("reason", "<b>")]).await;
    assert_eq!(sent.status, StatusCode::UNPROCESSABLE_ENTITY, "{sent:?}");
}

#[tokio::test]
async fn upgrades_are_exported_as_csv() {
    let pages = Pages::new().await;
    let vera = pages.user("vera", &["viewer"]).await;
    let task = pages.task("night", 3, &json!({})).await;
    let upgrades = pages.upgrades(task).await;
    pages.fail(task, upgrades[0], Failure::DeviceNotHeard).await;
    let file = vera.get(&format!("/tasks/{task}/upgrades.csv")).await;
    assert_eq!(file.status, StatusCode::OK);
    let kind = file.headers[header::CONTENT_TYPE].to_str().unwrap();
    assert!(kind.starts_with("text/csv"), "{kind}");
    let lines: Vec<_> = file.text.split_terminator("\r\n").collect();
    assert_eq!(lines.len(), 4, "{lines:?}");
    assert!(lines[0].starts_with("id,device,state,reason,"));
    let begin = format!("{},d0,failed,device_not_heard,", upgrades[0]);
    assert!(lines[1].starts_with(&begin), "{lines:?}");
    // the reason that was chosen goes with the link, and into the file
    let path = format!("/tasks/{task}/upgrades?state=failed&reason=slot_timed_out");
    let link = format!("/tasks/{task}/upgrades.csv?state=failed&amp;reason=slot_timed_out\"");
    assert!(vera.get(&path).await.says(&link));
    for (reason, rows) in [("slot_timed_out", 0), ("device_not_heard", 1)] {
        let path = format!("/tasks/{task}/upgrades.csv?state=&reason={reason}");
        let file = vera.get(&path).await;
        assert_eq!(file.text.matches("\r\n").count(), 1 + rows, "{file:?}");
    }
    let file = vera
        .get(&format!("/tasks/{task}/upgrades.csv?state=pending"))
        .await;
    assert_eq!(file.text.split_terminator("\r\n").count(), 3);
    let missing = vera.get("/tasks/99/upgrades.csv").await;
    assert_eq!(missing.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn an_upgrade_is_explained_and_steered() {
    let pages = Pages::new().await;
    let anna = pages.user("anna", &ALL).await;
    let rules = json!({"confirmation": "device_owner"});
    let task = pages.task("night", 3, &rules).await;
    let upgrades = pages.upgrades(task).await;
    let path = |upgrade: usize, rest: &str| format!("/upgrades/{}{rest}", upgrades[upgrade]);
    let shown = anna.get(&path(0, "")).await;
    assert!(shown.says("/confirm\"") && shown.says("owner"), "{shown:?}");
    let sent = anna.post(&path(0, "/confirm"), &[("by", "flat 12")]).await;
    assert!(
        sent.location().ends_with("?done=upgrade-confirm"),
        "{sent:?}"
    );
    let shown = anna.get(&path(0, "")).await;
    assert!(
        !shown.says("/confirm\"") && shown.says("flat 12"),
        "{shown:?}"
    );
    let long = "x".repeat(201);
    let sent = anna.post(&path(1, "/confirm"), &[("by", &*long)]).await;
    assert_eq!(sent.status, StatusCode::UNPROCESSABLE_ENTITY, "{sent:?}");
    assert!(sent.says(&format!("value=\"{long}\"")), "{sent:?}");
    let sent = anna.post(&path(1, "/refuse"), &[("by", "flat 7")]).await;
    assert!(
        sent.location().ends_with("?done=upgrade-refuse"),
        "{sent:?}"
    );
    let shown = anna.get(&path(1, "")).await;
    assert!(shown.says("Refused by the owner"), "{shown:?}");
    for (operation, state) in [
        ("skip", "cancelled"),
        ("retry", "pending"),
        ("cancel", "cancelled"),
    ] {
        let operation = format!("/{operation}");
        assert_eq!(anna.get(&path(2, &operation)).await.status, StatusCode::OK);
        let sent = anna.post_bare(&path(2, &operation), &[]).await;
        assert_eq!(sent.status, StatusCode::FORBIDDEN, "{sent:?}");
        let sent = anna.post(&path(2, &operation), &[]).await;
        assert_eq!(sent.status, StatusCode::SEE_OTHER, "{operation}: {sent:?}");
        let now = format!("/v1{}", path(2, ""));
        let now = pages.api(Method::GET, &now, None).await;
        assert_eq!(now["state"], state, "{operation}");
    }
}

#[tokio::test]
async fn rules_are_changed_by_who_has_seen_them() {
    let pages = Pages::new().await;
    let anna = pages.user("anna", &ALL).await;
    let rules = json!({"rate": {"per_minute": 60}, "abort": [{"percent": 10}], "approval": true,
        "windows": {"windows": [{"from": "22:00", "to": "05:00"}], "zone": "Europe/Berlin"}});
    let task = pages.task("night", 2, &rules).await;
    let path = format!("/tasks/{task}/change");
    let form = anna.get(&path).await;
    let etag = form.value_of("etag").replace("&#34;", "\"");
    assert_eq!(form.value_of("rate"), "60");
    assert_eq!(form.value_of("window0_from"), "22:00");
    let fields = |what: &'static str| {
        vec![
            ("do", what),
            ("etag", &*etag),
            ("aborts", "1"),
            ("abort0_size", "10"),
            ("abort0_kind", "percent"),
            ("abort0_min", "1"),
            ("abort0_action", "pause"),
            ("windows", "1"),
            ("zone", "Europe/Berlin"),
            ("at_end", "finish"),
            ("priority", "8"),
            ("weight", "1"),
            ("rate", "120"),
        ]
    };
    let asked = anna.post(&path, &fields("review")).await;
    assert!(asked.says("It has no windows any more."), "{asked:?}");
    assert!(
        asked.says("At most 120 upgrades begin a minute."),
        "{asked:?}"
    );
    assert_eq!(asked.value_of("rate"), "120");
    let more = anna.post(&path, &fields("more-aborts")).await;
    assert!(more.says("name=\"abort1_size\""), "{more:?}");
    assert_eq!(more.value_of("rate"), "120");
    let sent = anna.post(&path, &fields("save")).await;
    assert!(sent.location().ends_with("?done=task-changed"), "{sent:?}");
    let now = pages.task_now(task).await;
    assert_eq!(
        (&now["priority"], &now["windows"]),
        (&json!(8), &Value::Null)
    );
    assert_eq!(now["rate"]["per_minute"], 120);
    assert_eq!(now["abort"][0]["percent"], 10.0);
    // somebody else was there: nothing is changed, and what was entered is shown
    let mut stale = fields("save");
    stale.push(("budget_bytes", "2000000"));
    let sent = anna.post(&path, &stale).await;
    assert_eq!(sent.status, StatusCode::PRECONDITION_FAILED, "{sent:?}");
    assert_eq!(sent.value_of("budget_bytes"), "2000000");
    let mut wrong = fields("review");
    wrong.push(("budget_bytes", "many"));
    let sent = anna.post(&path, &wrong).await;
    assert!(sent.says("This is not a whole number."), "{sent:?}");
    assert_eq!(sent.value_of("budget_bytes"), "many");
    let bare = anna.post_bare(&path, &fields("save")).await;
    assert_eq!(bare.status, StatusCode::FORBIDDEN, "{bare:?}");
}
