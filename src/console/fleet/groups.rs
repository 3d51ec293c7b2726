//! Groups: lists of devices, and filters that are kept under a name.

use askama::Template;
use axum::{
    Router,
    body::Bytes,
    extract::{Path, RawQuery},
    http::{Method, StatusCode},
    response::Response,
    routing::get,
};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Tenant, for_tenant, several, tenants};
use crate::{
    api::Problem,
    console::{
        Console,
        calls::part,
        confirm::Question,
        fields::Fields,
        listed::{Listed, Pager, query},
        page::{Failure, Paged, done, page, page_with, status},
        viewer::Viewer,
    },
};

/// The pages below `/groups`.
pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/groups", get(list))
        .route("/groups/new", get(ask_new).post(add))
        .route("/groups/{id}", get(show))
        .route("/groups/{id}/edit", get(ask_edit).post(edit))
        .route("/groups/{id}/remove", get(ask_removal).post(remove))
}

#[derive(Debug, Deserialize)]
struct Group {
    id: i64,
    #[serde(default)]
    tenant: Option<String>,
    name: String,
    filter: Option<String>,
    members: Option<u64>,
    created_at: String,
}

#[derive(Template)]
#[template(path = "fleet/groups.html")]
struct ListPage<'a> {
    at: &'a Viewer,
    groups: Vec<Group>,
    pager: Pager,
}

#[derive(Template)]
#[template(path = "fleet/group.html")]
struct GroupPage<'a> {
    at: &'a Viewer,
    group: Group,
}

#[derive(Template)]
#[template(path = "fleet/group_form.html")]
struct FormPage<'a> {
    at: &'a Viewer,
    /// A new one where it is `None`.
    changed: Option<Changed<'a>>,
    fields: &'a Fields,
    tenants: Vec<Tenant>,
    problem: Option<Problem>,
}

/// A group that is changed, and its `ETag`.
struct Changed<'a> {
    group: &'a Group,
    etag: &'a str,
}

async fn list(viewer: Viewer, RawQuery(given): RawQuery) -> Paged {
    let given = super::given(given);
    let path = format!("/v1/groups?{}", query(&given, &[]));
    let found: Listed<Group> = viewer.get(&path).await?;
    let pager = Pager::of(&viewer, "/groups", &given, found.next_cursor.as_deref());
    Ok(page(&ListPage {
        at: &viewer,
        groups: found.items,
        pager,
    }))
}

async fn show(viewer: Viewer, Path(id): Path<i64>) -> Paged {
    let (group, _) = tagged(&viewer, id).await?;
    let at = &viewer;
    Ok(page(&GroupPage { at, group }))
}

async fn tagged(viewer: &Viewer, id: i64) -> Result<(Group, String), Failure> {
    let answer = viewer.read(&format!("/v1/groups/{id}")).await?;
    let etag = answer.etag();
    Ok((part(answer.body)?, etag))
}

fn form(shown: &FormPage<'_>) -> Response {
    let code = shown.problem.as_ref().map_or(StatusCode::OK, status);
    page_with(code, shown)
}

/// The address may have the filter.
async fn ask_new(viewer: Viewer, RawQuery(given): RawQuery) -> Paged {
    new(&viewer, &super::given(given), None).await
}

async fn new(at: &Viewer, fields: &Fields, problem: Option<Problem>) -> Paged {
    Ok(form(&FormPage {
        at,
        changed: None,
        fields,
        tenants: tenants(at, fields).await?,
        problem,
    }))
}

async fn add(viewer: Viewer, body: Bytes) -> Paged {
    let fields = Fields::parse(&body);
    let mut group = json!({"name": fields.get("name")});
    if let Some(filter) = fields.some("filter") {
        group["filter"] = filter.into();
    }
    let devices = several(fields.get("devices"));
    if !devices.is_empty() {
        group["devices"] = devices.into();
    }
    let path = for_tenant("/v1/groups", &fields);
    let added = viewer.change(Method::POST, &path, Some(&group), &fields);
    match added.await {
        Ok(answer) => {
            let id = answer.body["id"].as_i64().unwrap_or_default();
            Ok(done(&viewer, &format!("/groups/{id}"), "group-added"))
        }
        Err(problem) => new(&viewer, &fields.entered(), Some(problem)).await,
    }
}

async fn ask_edit(viewer: Viewer, Path(id): Path<i64>) -> Paged {
    let (group, etag) = tagged(&viewer, id).await?;
    let filter = group.filter.clone().unwrap_or_default();
    let fields = [("name", group.name.clone()), ("filter", filter)];
    let fields = Fields(fields.map(|(name, value)| (name.to_owned(), value)).into());
    Ok(form(&FormPage {
        at: &viewer,
        changed: Some(Changed {
            group: &group,
            etag: &etag,
        }),
        fields: &fields,
        tenants: Vec::new(),
        problem: None,
    }))
}

async fn edit(viewer: Viewer, Path(id): Path<i64>, body: Bytes) -> Paged {
    let fields = Fields::parse(&body);
    let mut update = Map::new();
    update.insert("name".to_owned(), fields.get("name").into());
    if let Some(filter) = fields.some("filter") {
        update.insert("filter".to_owned(), filter.into());
    }
    for name in ["add", "remove"] {
        let devices = several(fields.get(name));
        if !devices.is_empty() {
            update.insert(name.to_owned(), devices.into());
        }
    }
    let (path, update) = (format!("/v1/groups/{id}"), Value::Object(update));
    let changed = viewer.change(Method::PATCH, &path, Some(&update), &fields);
    match changed.await {
        Ok(_) => Ok(done(&viewer, &format!("/groups/{id}"), "group-changed")),
        Err(problem) => {
            let (group, _) = tagged(&viewer, id).await?;
            Ok(form(&FormPage {
                at: &viewer,
                changed: Some(Changed {
                    group: &group,
                    etag: fields.get("etag"),
                }),
                fields: &fields.entered(),
                tenants: Vec::new(),
                problem: Some(problem),
            }))
        }
    }
}

async fn ask_removal(viewer: Viewer, Path(id): Path<i64>) -> Paged {
    removal(&viewer, id, None).await
}

async fn removal(at: &Viewer, id: i64, problem: Option<Problem>) -> Paged {
    let (group, etag) = tagged(at, id).await?;
    let question = Question {
        at,
        title: at.t1("group-ask-remove", "name", &group.name),
        means: vec![at.t("group-means-remove")],
        inputs: Vec::new(),
        hidden: vec![("etag", etag)],
        button: at.t("group-remove"),
        danger: true,
        action: at.url(format_args!("/groups/{id}/remove")),
        back: at.url(format_args!("/groups/{id}")),
        problem,
    };
    Ok(question.page())
}

async fn remove(viewer: Viewer, Path(id): Path<i64>, body: Bytes) -> Paged {
    let fields = Fields::parse(&body);
    let path = format!("/v1/groups/{id}");
    match viewer.change(Method::DELETE, &path, None, &fields).await {
        Ok(_) => Ok(done(&viewer, "/groups", "group-removed")),
        Err(problem) => removal(&viewer, id, Some(problem)).await,
    }
}
