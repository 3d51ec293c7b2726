//! Tenants.

use axum::{
    body::Bytes,
    extract::{Path, RawQuery},
    http::Method,
    response::Response,
};
use serde::Deserialize;
use serde_json::json;

use super::{
    super::{
        calls::part,
        confirm::Question,
        fields::{Fields, encode},
        listed::{Listed, Pager, query},
        page::{Paged, done},
        sheet::{Block, Cell, Form, Group, Input, Link, Sheet, Table, columns},
        viewer::Viewer,
    },
    lists,
};
use crate::api::Problem;

#[derive(Debug, Deserialize)]
struct Tenant {
    id: String,
    name: String,
    created_at: String,
}

fn api(tenant: &str) -> String {
    format!("/v1/tenants/{}", encode(tenant))
}

fn place(tenant: &str) -> String {
    format!("/people/tenants/{}", encode(tenant))
}

/// The page.
pub(in crate::console) async fn show(viewer: Viewer, RawQuery(given): RawQuery) -> Paged {
    let given = Fields::parse(given.unwrap_or_default().as_bytes());
    let path = format!("/v1/tenants?{}", query(&given, &[]));
    let tenants: Listed<Tenant> = viewer.get(&path).await?;
    let pager = Pager::of(
        &viewer,
        "/people/tenants",
        &given,
        tenants.next_cursor.as_deref(),
    );
    let at = &viewer;
    let rows = tenants.items.into_iter().map(|it| {
        vec![
            Cell::Link(it.name, at.url(place(&it.id))),
            Cell::Code(it.id),
            Cell::Text(at.time(&it.created_at)),
        ]
    });
    let table = Table {
        id: "tenants",
        label: at.t("tenants"),
        columns: columns(at, &["tenant-name", "tenant-id", "created"]),
        rows: rows.collect(),
        none: at.t("tenants-none"),
        renews: false,
    };
    Ok(Sheet::new(at, at.t("tenants"))
        .link(
            "add_tenant",
            Link::to(at, "/people/tenants/+new", "tenant-new").first(),
        )
        .block(lists(at))
        .block(Block::Table(table))
        .block(Block::Pager(pager))
        .page())
}

/// The form.
pub(in crate::console) async fn show_new(viewer: Viewer) -> Paged {
    Ok(form(&viewer, &Fields::default(), None))
}

fn form(at: &Viewer, entered: &Fields, problem: Option<Problem>) -> Response {
    let form = Form {
        action: at.url("/people/tenants/+new"),
        groups: vec![Group::of(vec![
            Input::line("id", at.t("tenant-id"))
                .value(entered.get("id"))
                .hint(at.t("tenant-id-hint"))
                .required(),
            Input::line("name", at.t("tenant-name")).value(entered.get("name")),
        ])],
        button: at.t("tenant-new"),
        ..Form::default()
    };
    Sheet::new(at, at.t("tenant-new"))
        .form(form, problem)
        .page()
}

/// Adds one.
pub(in crate::console) async fn add(viewer: Viewer, body: Bytes) -> Paged {
    let fields = Fields::parse(&body);
    let mut tenant = json!({"id": fields.get("id")});
    if let Some(name) = fields.some("name") {
        tenant["name"] = name.into();
    }
    match viewer
        .change(Method::POST, "/v1/tenants", Some(&tenant), &fields)
        .await
    {
        Ok(_) => Ok(done(&viewer, "/people/tenants", "tenant-added")),
        Err(problem) => Ok(form(&viewer, &fields.entered(), Some(problem))),
    }
}

/// One of them.
pub(in crate::console) async fn show_one(viewer: Viewer, Path(tenant): Path<String>) -> Paged {
    one(&viewer, &tenant, None, None).await
}

async fn one(
    at: &Viewer,
    tenant: &str,
    entered: Option<(&Fields, &str)>,
    problem: Option<Problem>,
) -> Paged {
    let read = at.read(&api(tenant)).await?;
    let etag = entered.map_or_else(|| read.etag(), |(_, etag)| etag.to_owned());
    let it: Tenant = part(read.body)?;
    let name = entered.map_or(&*it.name, |(fields, _)| fields.get("name"));
    let facts = vec![
        (at.t("tenant-id"), Cell::Code(it.id.clone())),
        (at.t("created"), Cell::Text(at.time(&it.created_at))),
    ];
    let form = Form {
        action: at.url(place(tenant)),
        groups: vec![Group::of(vec![
            Input::line("name", at.t("tenant-name"))
                .value(name)
                .required(),
        ])],
        hidden: vec![("etag", etag)],
        button: at.t("save-it"),
        ..Form::default()
    };
    let delete = Link::to(at, format!("{}/delete", place(tenant)), "tenant-delete").danger();
    let sheet = Sheet::new(at, it.name.clone())
        .link("delete_tenant", delete)
        .block(Block::Facts(facts));
    Ok(if at.may("update_tenant") {
        sheet.form(form, problem).page()
    } else {
        sheet.page()
    })
}

/// Changes its name.
pub(in crate::console) async fn change(
    viewer: Viewer,
    Path(tenant): Path<String>,
    body: Bytes,
) -> Paged {
    let fields = Fields::parse(&body);
    let change = json!({"name": fields.get("name")});
    match viewer
        .change(Method::PATCH, &api(&tenant), Some(&change), &fields)
        .await
    {
        Ok(_) => Ok(done(&viewer, &place(&tenant), "tenant-changed")),
        Err(problem) => {
            let (entered, etag) = (fields.entered(), fields.get("etag"));
            one(&viewer, &tenant, Some((&entered, etag)), Some(problem)).await
        }
    }
}

/// Asks.
pub(in crate::console) async fn ask(viewer: Viewer, Path(tenant): Path<String>) -> Paged {
    question(&viewer, &tenant, None).await
}

async fn question(at: &Viewer, tenant: &str, problem: Option<Problem>) -> Paged {
    let read = at.read(&api(tenant)).await?;
    let etag = read.etag();
    let it: Tenant = part(read.body)?;
    let question = Question {
        at,
        title: at.t1("tenant-ask-delete", "name", it.name),
        means: vec![at.t("tenant-means-delete")],
        inputs: Vec::new(),
        hidden: vec![("etag", etag)],
        button: at.t("tenant-delete"),
        danger: true,
        action: at.url(format_args!("{}/delete", place(tenant))),
        back: at.url(place(tenant)),
        problem,
    };
    Ok(question.page())
}

/// Deletes it.
pub(in crate::console) async fn delete(
    viewer: Viewer,
    Path(tenant): Path<String>,
    body: Bytes,
) -> Paged {
    let fields = Fields::parse(&body);
    match viewer
        .change(Method::DELETE, &api(&tenant), None, &fields)
        .await
    {
        Ok(_) => Ok(done(&viewer, "/people/tenants", "tenant-deleted")),
        Err(problem) => question(&viewer, &tenant, Some(problem)).await,
    }
}
