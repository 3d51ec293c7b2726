//! The list of webhooks, and a new one. Its secret is shown once.

use axum::{body::Bytes, extract::RawQuery, http::Method};
use serde::Deserialize;
use serde_json::json;

use super::super::{
    calls::part,
    fields::Fields,
    listed::{Listed, Pager, query},
    page::Paged,
    people::{is_sent_again, not_shown},
    sheet::{Block, Cell, Form, Group, Input, Link, Sheet, Table, columns, of_tenant},
    tenants,
    viewer::Viewer,
};
use crate::api::Problem;

/// A webhook.
#[derive(Debug, Deserialize)]
pub(super) struct Webhook {
    pub(super) id: i64,
    pub(super) tenant: Option<String>,
    pub(super) task_id: Option<i64>,
    pub(super) url: String,
    pub(super) created_at: String,
    pub(super) pending: u64,
    pub(super) failed: u64,
}

#[derive(Debug, Deserialize)]
struct Added {
    id: i64,
    secret: String,
}

impl Webhook {
    /// How it stands.
    pub(super) fn standing(&self, at: &Viewer) -> Cell {
        match (self.failed, self.pending) {
            (0, 0) => Cell::Tag("good", at.t("webhook-all-told")),
            (0, pending) => Cell::Tag("busy", at.t1("webhook-pending", "count", pending)),
            (failed, _) => Cell::Tag("bad", at.t1("webhook-failed", "count", failed)),
        }
    }

    /// Of which task it is told.
    pub(super) fn task(&self, at: &Viewer) -> Cell {
        match self.task_id {
            Some(id) => Cell::Link(format!("{id}"), at.url(format_args!("/tasks/{id}"))),
            None => Cell::Text(at.t("webhook-every-task")),
        }
    }
}

/// The page.
pub(in crate::console) async fn show(viewer: Viewer, RawQuery(given): RawQuery) -> Paged {
    let given = Fields::parse(given.unwrap_or_default().as_bytes());
    let path = format!("/v1/webhooks?{}", query(&given, &[]));
    let webhooks: Listed<Webhook> = viewer.get(&path).await?;
    let pager = Pager::of(
        &viewer,
        "/webhooks",
        &given,
        webhooks.next_cursor.as_deref(),
    );
    let at = &viewer;
    let tenants = webhooks.items.iter().any(|it| it.tenant.is_some());
    let heads = ["webhook-url", "webhook-standing", "webhook-task", "created"];
    let mut heads = columns(at, &heads);
    heads.extend(tenants.then(|| at.t("of-tenant")));
    let rows = webhooks.items.into_iter().map(|it| {
        let mut row = vec![
            Cell::Link(it.url.clone(), at.url(format_args!("/webhooks/{}", it.id))),
            it.standing(at),
            it.task(at),
            Cell::Text(at.time(&it.created_at)),
        ];
        if tenants {
            row.push(Cell::maybe(it.tenant));
        }
        row
    });
    let table = Table {
        id: "webhooks",
        label: at.t("menu-webhooks"),
        columns: heads,
        rows: rows.collect(),
        none: at.t("webhooks-none"),
        renews: true,
    };
    Ok(Sheet::new(at, at.t("menu-webhooks"))
        .link(
            "add_webhook",
            Link::to(at, "/webhooks/new", "webhook-new").first(),
        )
        .block(Block::Table(table))
        .block(Block::Pager(pager))
        .page())
}

/// The form.
pub(in crate::console) async fn show_new(viewer: Viewer) -> Paged {
    form(&viewer, &Fields::default(), None).await
}

async fn form(at: &Viewer, entered: &Fields, problem: Option<Problem>) -> Paged {
    let mut inputs = Vec::new();
    inputs.extend(tenants::choice(at, entered.get("tenant")).await?);
    inputs.extend([
        Input::typed("url", at.t("webhook-url"), "url")
            .value(entered.get("url"))
            .hint(at.t("webhook-url-hint"))
            .required(),
        Input::typed("task_id", at.t("webhook-task"), "number")
            .value(entered.get("task_id"))
            .hint(at.t("webhook-task-hint")),
        Input::secret("secret", at.t("webhook-secret"), "off").hint(at.t("webhook-secret-hint")),
    ]);
    let form = Form {
        action: at.url("/webhooks/new"),
        groups: vec![Group::of(inputs)],
        button: at.t("webhook-new"),
        ..Form::default()
    };
    Ok(Sheet::new(at, at.t("webhook-new"))
        .form(form, problem)
        .page())
}

/// Adds one, and shows its secret.
pub(in crate::console) async fn add(viewer: Viewer, body: Bytes) -> Paged {
    let at = &viewer;
    let fields = Fields::parse(&body);
    let mut webhook = json!({"url": fields.get("url")});
    if let Some(secret) = fields.some("secret") {
        webhook["secret"] = secret.into();
    }
    if let Some(task) = fields.some("task_id") {
        let Ok(task) = task.parse::<i64>() else {
            let problem = Problem::field("task_id", "give the number of a task, or leave it empty");
            return form(at, &fields.entered(), Some(problem)).await;
        };
        webhook["task_id"] = task.into();
    }
    let path = of_tenant("/v1/webhooks", fields.some("tenant"));
    match at
        .change(Method::POST, &path, Some(&webhook), &fields)
        .await
    {
        Ok(answer) => {
            let added: Added = part(answer.body)?;
            let page = format!("/webhooks/{}", added.id);
            Ok(Sheet::new(at, at.t("webhook-added"))
                .block(Block::Sentence("warning", at.t("shown-once")))
                .block(Block::Plain(
                    "webhook-secret",
                    at.t("webhook-secret"),
                    added.secret,
                ))
                .block(Block::Links(vec![Link::to(at, page, "webhook-show")]))
                .page())
        }
        Err(problem) if is_sent_again(&problem) => {
            let link = Link::to(at, "/webhooks", "menu-webhooks");
            Ok(not_shown(at, at.t("webhook-new"), "secret-not-shown", link))
        }
        Err(problem) => form(at, &fields.entered(), Some(problem)).await,
    }
}
