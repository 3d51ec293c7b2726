//! Who has done what, and what was refused: the rows of the log, its newest checkpoint, and the log as a file.

use axum::{
    Router,
    extract::RawQuery,
    http::{HeaderValue, Method, header},
    routing::get,
};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    Console,
    calls::Calls,
    fields::Fields,
    listed::{Listed, Pager, query},
    page::Paged,
    sheet::{Block, Cell, Form, Group, Input, Link, Sheet, Table, columns},
    viewer::Viewer,
};
use crate::access::OPERATIONS;

/// By what the rows are chosen.
const CHOSEN_BY: [&str; 6] = ["who", "operation", "target", "result", "since", "until"];
const RESULTS: [&str; 4] = ["done", "refused", "failed", "interrupted"];

/// The pages below `/audit`.
pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/audit", get(show))
        .route("/audit/head", get(head))
        .route("/audit/export", get(export))
}

#[derive(Debug, Deserialize)]
struct Row {
    number: u64,
    at: String,
    who: String,
    tenant: Option<String>,
    source: Option<String>,
    operation: String,
    target: Option<String>,
    before: Option<Map<String, Value>>,
    after: Option<Map<String, Value>>,
    #[serde(default)]
    counts: Map<String, Value>,
    why: Option<String>,
    result: String,
    problem: Option<String>,
    times: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Head {
    head: Checkpoint,
    begins_behind: Option<Checkpoint>,
}

#[derive(Debug, Deserialize)]
struct Checkpoint {
    number: u64,
    hash: String,
    at: String,
    key: String,
    signature: String,
}

/// The page.
async fn show(viewer: Viewer, RawQuery(given): RawQuery) -> Paged {
    let given = Fields::parse(given.unwrap_or_default().as_bytes());
    let at = &viewer;
    let mut asked = given.clone();
    for (name, value) in &mut asked.0 {
        if matches!(name.as_str(), "since" | "until")
            && let Some(time) = at.zone.of_input(value)
        {
            *value = time;
        }
    }
    let path = format!("/v1/audit?{}", query(&asked, &CHOSEN_BY));
    // what is wrong with the choice is said beside it
    let (listed, problem) = match at.get::<Listed<Row>>(&path).await {
        Ok(listed) => (listed, None),
        Err(failure) if matches!(failure.0.status, 400 | 422) => {
            let none = Listed {
                items: Vec::new(),
                next_cursor: None,
            };
            (none, Some(failure.0))
        }
        Err(failure) => return Err(failure),
    };
    let pager = Pager::of(at, "/audit", &given, listed.next_cursor.as_deref());
    let heads = [
        "audit-number",
        "audit-at",
        "audit-who",
        "audit-operation",
        "audit-target",
        "audit-result",
        "audit-further",
    ];
    let table = Table {
        id: "audit",
        label: at.t("menu-audit"),
        columns: columns(at, &heads),
        rows: listed.items.into_iter().map(|it| row(at, it)).collect(),
        none: at.t("audit-none"),
        renews: false,
    };
    Ok(Sheet::new(at, at.t("menu-audit"))
        .link("get_audit_head", Link::to(at, "/audit/head", "audit-head"))
        .link(
            "export_audit",
            Link::to(at, "/audit/export", "audit-export"),
        )
        .form(choice(at, &given), problem)
        .block(Block::Table(table))
        .block(Block::Pager(pager))
        .page())
}

/// What is looked for.
fn choice(at: &Viewer, given: &Fields) -> Form {
    let mut results = vec![(String::new(), at.t("any-of-them"))];
    results.extend(RESULTS.map(|it| (it.to_owned(), at.word("audit-result", it))));
    let operations = OPERATIONS.iter().map(|it| it.name.to_owned());
    let time = |name: &'static str, text| {
        Input::typed(name, at.t(text), "datetime-local").value(given.get(name))
    };
    let inputs = vec![
        Input::line("who", at.t("audit-who"))
            .value(given.get("who"))
            .hint(at.t("audit-who-hint")),
        Input::one_of("operation", at.t("audit-operation"), operations.collect())
            .value(given.get("operation")),
        Input::line("target", at.t("audit-target"))
            .value(given.get("target"))
            .hint(at.t("audit-target-hint")),
        Input::choice("result", at.t("audit-result"), results).value(given.get("result")),
        time("since", "audit-since"),
        time("until", "audit-until"),
    ];
    Form {
        action: at.url("/audit"),
        groups: vec![Group::of(inputs)],
        button: at.t("show-these"),
        looks: true,
        ..Form::default()
    }
}

fn row(at: &Viewer, it: Row) -> Vec<Cell> {
    let class = match &*it.result {
        "done" => "good",
        "refused" => "warn",
        _ => "bad",
    };
    let further = further(at, &it);
    vec![
        Cell::Number(it.number.to_string()),
        Cell::Text(at.time(&it.at)),
        Cell::Text(it.who),
        Cell::Code(it.operation),
        Cell::maybe(it.target),
        Cell::Tag(class, at.word("audit-result", &it.result)),
        if further.is_empty() {
            Cell::None
        } else {
            Cell::Folded(at.t("audit-show"), further)
        },
    ]
}

/// What else a row has, a line each.
fn further(at: &Viewer, it: &Row) -> String {
    let json = |value: &Map<String, Value>| Value::Object(value.clone()).to_string();
    let lines = [
        ("audit-why", it.why.clone()),
        ("audit-problem", it.problem.clone()),
        ("audit-source", it.source.clone()),
        ("of-tenant", it.tenant.clone()),
        ("audit-times", it.times.map(|times| at.n(times))),
        ("audit-before", it.before.as_ref().map(json)),
        ("audit-after", it.after.as_ref().map(json)),
        (
            "audit-counts",
            Some(json(&it.counts)).filter(|_| !it.counts.is_empty()),
        ),
    ];
    let lines = lines
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)));
    let lines: Vec<_> = lines
        .map(|(name, value)| format!("{}: {value}", at.t(name)))
        .collect();
    lines.join("\n")
}

/// How far the log has come, signed.
async fn head(viewer: Viewer) -> Paged {
    let at = &viewer;
    let it: Head = at.get("/v1/audit/head").await?;
    let mut sheet = Sheet::new(at, at.t("audit-head"))
        .block(Block::Sentence("", at.t("audit-head-means")))
        .block(Block::Facts(checkpoint(at, it.head)));
    if let Some(behind) = it.begins_behind {
        sheet = sheet
            .block(Block::Heading(at.t("audit-begins-behind")))
            .block(Block::Facts(checkpoint(at, behind)));
    }
    Ok(sheet
        .block(Block::Sentence("hint", at.t("audit-verify")))
        .page())
}

fn checkpoint(at: &Viewer, it: Checkpoint) -> Vec<(String, Cell)> {
    vec![
        (at.t("audit-number"), Cell::Text(at.n(it.number))),
        (at.t("audit-at"), Cell::Text(at.time(&it.at))),
        (at.t("audit-hash"), Cell::Code(it.hash)),
        (at.t("audit-key"), Cell::Code(it.key)),
        (at.t("audit-signature"), Cell::Code(it.signature)),
    ]
}

/// The log as a file, a line a row.
async fn export(viewer: Viewer) -> Paged {
    let request = Calls::request(Method::GET, "/v1/audit/export", None)?;
    let mut response = viewer.console.calls.send(&viewer.behalf, request).await?;
    response.headers_mut().insert(
        header::CONTENT_DISPOSITION,
        HeaderValue::from_static("attachment; filename=\"cellwise-audit.ndjson\""),
    );
    Ok(response)
}
