//! Devices that are not to be upgraded.

use askama::Template;
use axum::{
    Router,
    body::Bytes,
    extract::RawQuery,
    http::{Method, StatusCode},
    routing::get,
};
use serde::Deserialize;
use serde_json::json;

use super::{devices::quoted, several};
use crate::{
    api::Problem,
    console::{
        Console,
        confirm::Question,
        fields::Fields,
        listed::{Listed, Pager, query},
        page::{Paged, done, page, page_with, status},
        viewer::Viewer,
    },
};

/// The pages below `/exclusions`. An exclusion is ended on the page of its device.
pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/exclusions", get(list))
        .route("/exclusions/new", get(ask).post(add))
        .route("/exclusions/end", get(end::ask).post(end::carry_out))
}

#[derive(Debug, Deserialize)]
struct Exclusion {
    endpoint: String,
    reason: String,
    excluded_at: String,
}

impl Exclusion {
    /// There need not be such a device: this finds it, or nothing.
    fn filter(&self) -> String {
        format!("endpoint=={}", quoted(&self.endpoint))
    }
}

#[derive(Template)]
#[template(path = "fleet/exclusions.html")]
struct ListPage<'a> {
    at: &'a Viewer,
    exclusions: Vec<Exclusion>,
    pager: Pager,
}

#[derive(Template)]
#[template(path = "fleet/exclusion_new.html")]
struct NewPage<'a> {
    at: &'a Viewer,
    fields: &'a Fields,
    problem: Option<&'a Problem>,
}

async fn list(viewer: Viewer, RawQuery(given): RawQuery) -> Paged {
    let given = super::given(given);
    let path = format!("/v1/exclusions?{}", query(&given, &[]));
    let found: Listed<Exclusion> = viewer.get(&path).await?;
    let next = found.next_cursor.as_deref();
    let pager = Pager::of(&viewer, "/exclusions", &given, next);
    Ok(page(&ListPage {
        at: &viewer,
        exclusions: found.items,
        pager,
    }))
}

async fn ask(viewer: Viewer, RawQuery(given): RawQuery) -> Paged {
    Ok(form(&viewer, &super::given(given), None))
}

fn form(at: &Viewer, fields: &Fields, problem: Option<&Problem>) -> axum::response::Response {
    let code = problem.map_or(StatusCode::OK, status);
    page_with(
        code,
        &NewPage {
            at,
            fields,
            problem,
        },
    )
}

/// Asks back how many they are, and excludes them when that was answered.
async fn add(viewer: Viewer, body: Bytes) -> Paged {
    let fields = Fields::parse(&body);
    let endpoints = several(fields.get("endpoints"));
    if !fields.ticked("sure") && !endpoints.is_empty() {
        let at = &viewer;
        let question = Question {
            at,
            title: at.t1("exclusion-ask", "count", endpoints.len()),
            means: vec![
                at.t("device-means-exclude"),
                at.t1("exclusion-reason-is", "reason", fields.get("reason")),
            ],
            inputs: Vec::new(),
            hidden: vec![
                ("endpoints", endpoints.join(" ")),
                ("reason", fields.get("reason").to_owned()),
                ("sure", "1".to_owned()),
            ],
            button: at.t("device-exclude"),
            danger: false,
            action: at.url("/exclusions/new"),
            back: at.url("/exclusions"),
            problem: None,
        };
        return Ok(question.page());
    }
    let excluded = json!({"endpoints": endpoints, "reason": fields.get("reason")});
    let path = "/v1/exclusions";
    match viewer
        .change(Method::POST, path, Some(&excluded), &fields)
        .await
    {
        Ok(_) => Ok(done(
            &viewer,
            path.trim_start_matches("/v1"),
            "exclusions-added",
        )),
        Err(problem) => Ok(form(&viewer, &fields.entered(), Some(&problem))),
    }
}

/// Ends an exclusion. There need not be such a device any more.
mod end {
    use super::{Bytes, Fields, Method, Paged, Problem, Question, RawQuery, Viewer, done};
    use crate::console::{fields::encode, page::Failure};

    pub(super) async fn ask(viewer: Viewer, RawQuery(given): RawQuery) -> Paged {
        let given = super::super::given(given);
        question(&viewer, given.get("endpoint"), None).await
    }

    async fn question(at: &Viewer, endpoint: &str, problem: Option<Problem>) -> Paged {
        if endpoint.is_empty() {
            let problem = Problem::not_found("the address names no device");
            return Err(Failure(problem));
        }
        let answer = at.read(&path(endpoint)).await?;
        let question = Question {
            at,
            title: at.t1("device-ask-end-exclusion", "name", endpoint),
            means: vec![at.t("device-means-end-exclusion")],
            inputs: Vec::new(),
            hidden: vec![("endpoint", endpoint.to_owned()), ("etag", answer.etag())],
            button: at.t("device-end-exclusion"),
            danger: false,
            action: at.url("/exclusions/end"),
            back: at.url("/exclusions"),
            problem,
        };
        Ok(question.page())
    }

    fn path(endpoint: &str) -> String {
        format!("/v1/exclusions/{}", encode(endpoint))
    }

    pub(super) async fn carry_out(viewer: Viewer, body: Bytes) -> Paged {
        let fields = Fields::parse(&body);
        let endpoint = fields.get("endpoint");
        let path = path(endpoint);
        match viewer.change(Method::DELETE, &path, None, &fields).await {
            Ok(_) => Ok(done(&viewer, "/exclusions", "exclusion-ended")),
            Err(problem) => question(&viewer, endpoint, Some(problem)).await,
        }
    }
}
