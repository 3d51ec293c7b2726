//! One webhook: its deliveries, and what is done with it.

use axum::{
    body::Bytes,
    extract::{Path, RawQuery},
    http::Method,
};
use serde::Deserialize;

use super::{
    super::{
        confirm::Question,
        fields::Fields,
        listed::{Listed, Pager, query},
        page::{Failure, Paged, done},
        sheet::{Block, Cell, Form, Group, Input, Link, Sheet, Table, columns},
        viewer::Viewer,
    },
    list::Webhook,
};
use crate::api::Problem;

#[derive(Debug, Deserialize)]
struct Delivery {
    id: i64,
    #[serde(rename = "type")]
    kind: String,
    state: String,
    attempts: u32,
    last_at: Option<String>,
    last_error: Option<String>,
    next_at: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Pinged {
    accepted: bool,
    error: Option<String>,
}

const STATES: [&str; 3] = ["pending", "failed", "delivered"];

/// The page.
pub(in crate::console) async fn show(
    viewer: Viewer,
    Path(id): Path<i64>,
    RawQuery(given): RawQuery,
) -> Paged {
    let given = Fields::parse(given.unwrap_or_default().as_bytes());
    let at = &viewer;
    let it: Webhook = at.get(&format!("/v1/webhooks/{id}")).await?;
    let path = format!("/v1/webhooks/{id}/deliveries?{}", query(&given, &["state"]));
    let deliveries: Listed<Delivery> = at.get(&path).await?;
    let page = format!("/webhooks/{id}");
    let pager = Pager::of(at, &page, &given, deliveries.next_cursor.as_deref());
    let mut facts = vec![
        (at.t("webhook-standing"), it.standing(at)),
        (at.t("webhook-task"), it.task(at)),
        (at.t("created"), Cell::Text(at.time(&it.created_at))),
    ];
    facts.extend(
        it.tenant
            .map(|tenant| (at.t("of-tenant"), Cell::Text(tenant))),
    );
    let mut sheet = Sheet::new(at, it.url).link(
        "ping_webhook",
        Link::to(at, format!("{page}/ping"), "webhook-ping"),
    );
    if it.failed > 0 {
        let replay = Link::to(at, format!("{page}/replay"), "webhook-replay");
        sheet = sheet.link("replay_failed", replay);
    }
    let remove = Link::to(at, format!("{page}/remove"), "webhook-remove").danger();
    let rows = deliveries.items.into_iter().map(|it| row(at, id, it));
    let heads = [
        "delivery-event",
        "delivery-state",
        "delivery-attempts",
        "delivery-last",
        "delivery-next",
        "delivery-error",
        "delivery-what",
    ];
    let table = Table {
        id: "deliveries",
        label: at.t("deliveries"),
        columns: columns(at, &heads),
        rows: rows.collect(),
        none: at.t("deliveries-none"),
        renews: true,
    };
    Ok(sheet
        .link("remove_webhook", remove)
        .block(Block::Facts(facts))
        .block(Block::Heading(at.t("deliveries")))
        .block(Block::Form(filter(at, &page, &given)))
        .block(Block::Table(table))
        .block(Block::Pager(pager))
        .page())
}

/// Which deliveries are listed.
fn filter(at: &Viewer, page: &str, given: &Fields) -> Form {
    let mut states = vec![(String::new(), at.t("any-of-them"))];
    states.extend(STATES.map(|state| (state.to_owned(), at.word("delivery-state", state))));
    Form {
        action: at.url(page),
        groups: vec![Group::of(vec![
            Input::choice("state", at.t("delivery-state"), states).value(given.get("state")),
        ])],
        button: at.t("show-these"),
        looks: true,
        ..Form::default()
    }
}

fn row(at: &Viewer, webhook: i64, it: Delivery) -> Vec<Cell> {
    let class = match &*it.state {
        "delivered" => "good",
        "failed" => "bad",
        _ => "busy",
    };
    let time = |time: Option<String>| Cell::maybe(time.map(|time| at.ago(&time)));
    let replayable = it.state != "pending" && at.may("replay_delivery");
    let replay = format!("/webhooks/{webhook}/deliveries/{}/replay", it.id);
    vec![
        Cell::Text(it.kind),
        Cell::Tag(class, at.word("delivery-state", &it.state)),
        Cell::Number(at.n(it.attempts)),
        time(it.last_at),
        time(it.next_at),
        Cell::maybe(it.last_error),
        if replayable {
            Cell::Link(at.t("delivery-replay"), at.url(replay))
        } else {
            Cell::None
        },
    ]
}

/// What is asked back.
struct Operation {
    name: &'static str,
    method: Method,
    behind: &'static str,
    danger: bool,
    ask: &'static str,
    means: &'static str,
    button: &'static str,
}

const OPERATIONS: [Operation; 3] = [
    Operation {
        name: "ping",
        method: Method::POST,
        behind: "/ping",
        danger: false,
        ask: "webhook-ask-ping",
        means: "webhook-means-ping",
        button: "webhook-ping",
    },
    Operation {
        name: "replay",
        method: Method::POST,
        behind: "/replay",
        danger: false,
        ask: "webhook-ask-replay",
        means: "webhook-means-replay",
        button: "webhook-replay",
    },
    Operation {
        name: "remove",
        method: Method::DELETE,
        behind: "",
        danger: true,
        ask: "webhook-ask-remove",
        means: "webhook-means-remove",
        button: "webhook-remove",
    },
];

fn named(name: &str) -> Result<&'static Operation, Failure> {
    let found = OPERATIONS.iter().find(|operation| operation.name == name);
    found.ok_or_else(|| Problem::not_found(format!("nothing is called {name:?} here")).into())
}

/// Asks.
pub(in crate::console) async fn ask(
    viewer: Viewer,
    Path((id, operation)): Path<(i64, String)>,
) -> Paged {
    question(&viewer, id, named(&operation)?, None).await
}

async fn question(at: &Viewer, id: i64, operation: &Operation, problem: Option<Problem>) -> Paged {
    let it: Webhook = at.get(&format!("/v1/webhooks/{id}")).await?;
    let question = Question {
        at,
        title: at.t1(operation.ask, "url", it.url),
        means: vec![at.t1(operation.means, "count", it.failed)],
        inputs: Vec::new(),
        hidden: Vec::new(),
        button: at.t(operation.button),
        danger: operation.danger,
        action: at.url(format_args!("/webhooks/{id}/{}", operation.name)),
        back: at.url(format_args!("/webhooks/{id}")),
        problem,
    };
    Ok(question.page())
}

/// Does it.
pub(in crate::console) async fn carry_out(
    viewer: Viewer,
    Path((id, operation)): Path<(i64, String)>,
    body: Bytes,
) -> Paged {
    let operation = named(&operation)?;
    let fields = Fields::parse(&body);
    let path = format!("/v1/webhooks/{id}{}", operation.behind);
    let page = format!("/webhooks/{id}");
    match viewer
        .change(operation.method.clone(), &path, None, &fields)
        .await
    {
        Ok(answer) if operation.name == "ping" => {
            let pinged: Pinged = super::super::calls::part(answer.body)?;
            if pinged.accepted {
                return Ok(done(&viewer, &page, "webhook-ping"));
            }
            let error = pinged.error.unwrap_or_default();
            let text = viewer.t1("webhook-not-taken", "error", error);
            Ok(Sheet::new(&viewer, viewer.t("webhook-ping"))
                .block(Block::Sentence("problem", text))
                .block(Block::Links(vec![Link::to(&viewer, page, "webhook-show")]))
                .page())
        }
        Ok(_) if operation.name == "remove" => Ok(done(&viewer, "/webhooks", "webhook-removed")),
        Ok(_) => Ok(done(&viewer, &page, "webhook-replay")),
        Err(problem) => question(&viewer, id, operation, Some(problem)).await,
    }
}

/// Asks whether one delivery is sent again.
pub(in crate::console) async fn ask_delivery(
    viewer: Viewer,
    Path((id, delivery)): Path<(i64, i64)>,
) -> Paged {
    delivery_question(&viewer, id, delivery, None).await
}

async fn delivery_question(at: &Viewer, id: i64, delivery: i64, problem: Option<Problem>) -> Paged {
    let it: Webhook = at.get(&format!("/v1/webhooks/{id}")).await?;
    let question = Question {
        at,
        title: at.t1("delivery-ask-replay", "number", delivery),
        means: vec![at.t1("delivery-means-replay", "url", it.url)],
        inputs: Vec::new(),
        hidden: Vec::new(),
        button: at.t("delivery-replay"),
        danger: false,
        action: at.url(format_args!("/webhooks/{id}/deliveries/{delivery}/replay")),
        back: at.url(format_args!("/webhooks/{id}")),
        problem,
    };
    Ok(question.page())
}

/// Sends it again.
pub(in crate::console) async fn replay_delivery(
    viewer: Viewer,
    Path((id, delivery)): Path<(i64, i64)>,
    body: Bytes,
) -> Paged {
    let fields = Fields::parse(&body);
    let path = format!("/v1/webhooks/{id}/deliveries/{delivery}/replay");
    match viewer.change(Method::POST, &path, None, &fields).await {
        Ok(_) => Ok(done(&viewer, &format!("/webhooks/{id}"), "delivery-replay")),
        Err(problem) => delivery_question(&viewer, id, delivery, Some(problem)).await,
    }
}
