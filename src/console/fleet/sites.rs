//! Sites that have a limit.

use askama::Template;
use axum::{
    Router,
    body::Bytes,
    extract::RawQuery,
    http::{Method, StatusCode},
    response::Response,
    routing::get,
};
use serde::Deserialize;
use serde_json::json;

use super::{
    Tenant,
    devices::{number, quoted},
    for_tenant, tenants,
};
use crate::{
    api::Problem,
    console::{
        Console,
        calls::part,
        confirm::Question,
        fields::{Fields, encode},
        listed::{Listed, Pager, query},
        page::{Failure, Paged, done, page, page_with, status},
        viewer::Viewer,
    },
};

/// The pages below `/sites`. A site may be called as it likes, so that its name stands in the query.
pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/sites", get(list))
        .route("/sites/one", get(show))
        .route("/sites/limit", get(ask).post(set))
        .route("/sites/clear", get(ask_clearing).post(clear))
}

#[derive(Debug, Deserialize)]
struct Site {
    #[serde(rename = "site")]
    name: String,
    #[serde(default)]
    tenant: Option<String>,
    limit: u32,
    note: Option<String>,
    #[serde(default)]
    active: Option<u64>,
    #[serde(default)]
    waiting: Option<u64>,
}

impl Site {
    /// Names it in an address.
    fn query(&self) -> String {
        query_of(&self.name, self.tenant.as_deref())
    }

    /// The filter for its devices.
    fn filter(&self) -> String {
        let site = quoted(&self.name);
        match &self.tenant {
            Some(tenant) => format!("site=={site};tenant=={}", quoted(tenant)),
            None => format!("site=={site}"),
        }
    }
}

fn query_of(site: &str, tenant: Option<&str>) -> String {
    let tenant = tenant.map(|tenant| format!("&tenant={}", encode(tenant)));
    format!("site={}{}", encode(site), tenant.unwrap_or_default())
}

/// The path of the site that an address or a form names.
fn call(fields: &Fields) -> Result<String, Failure> {
    match fields.some("site") {
        Some(site) => Ok(for_tenant(&format!("/v1/sites/{}", encode(site)), fields)),
        None => Err(Failure(Problem::not_found("the address names no site"))),
    }
}

#[derive(Template)]
#[template(path = "fleet/sites.html")]
struct ListPage<'a> {
    at: &'a Viewer,
    sites: Vec<Site>,
    pager: Pager,
}

#[derive(Template)]
#[template(path = "fleet/site.html")]
struct SitePage<'a> {
    at: &'a Viewer,
    site: Site,
}

#[derive(Template)]
#[template(path = "fleet/site_form.html")]
struct FormPage<'a> {
    at: &'a Viewer,
    fields: &'a Fields,
    /// Empty for a site that has no limit yet.
    etag: &'a str,
    tenants: Vec<Tenant>,
    problem: Option<Problem>,
}

async fn list(viewer: Viewer, RawQuery(given): RawQuery) -> Paged {
    let given = super::given(given);
    let path = format!("/v1/sites?{}", query(&given, &[]));
    let found: Listed<Site> = viewer.get(&path).await?;
    let pager = Pager::of(&viewer, "/sites", &given, found.next_cursor.as_deref());
    Ok(page(&ListPage {
        at: &viewer,
        sites: found.items,
        pager,
    }))
}

async fn show(viewer: Viewer, RawQuery(given): RawQuery) -> Paged {
    let site: Site = viewer.get(&call(&super::given(given))?).await?;
    let at = &viewer;
    Ok(page(&SitePage { at, site }))
}

/// The form, for a new one or for one that has a limit.
async fn ask(viewer: Viewer, RawQuery(given): RawQuery) -> Paged {
    let mut fields = super::given(given);
    let mut etag = String::new();
    if fields.some("site").is_some() {
        let answer = viewer.read(&call(&fields)?).await?;
        etag = answer.etag();
        let site: Site = part(answer.body)?;
        fields.0.push(("limit".to_owned(), site.limit.to_string()));
        let note = site.note.unwrap_or_default();
        fields.0.push(("note".to_owned(), note));
    }
    form(&viewer, &fields, &etag, None).await
}

async fn form(
    at: &Viewer,
    fields: &Fields,
    etag: &str,
    problem: Option<Problem>,
) -> Result<Response, Failure> {
    let code = problem.as_ref().map_or(StatusCode::OK, status);
    let tenants = if etag.is_empty() {
        tenants(at, fields).await?
    } else {
        Vec::new()
    };
    let shown = FormPage {
        at,
        fields,
        etag,
        tenants,
        problem,
    };
    Ok(page_with(code, &shown))
}

/// Asks back, and sets the limit when that was answered.
async fn set(viewer: Viewer, body: Bytes) -> Paged {
    let fields = Fields::parse(&body);
    let set = async {
        let call = call(&fields).map_err(|_| Problem::field("site", "a site has a name"))?;
        let limit = number(&fields, "limit")?;
        let limit = limit.ok_or_else(|| Problem::field("limit", "it is missing"))?;
        if !fields.ticked("sure") {
            return Ok(Some(question(&viewer, &fields, limit)));
        }
        let site = match fields.some("note") {
            Some(note) => json!({"limit": limit, "note": note}),
            None => json!({"limit": limit}),
        };
        let mut leave = fields.leave();
        if leave.etag.is_empty() {
            // a new one is none that is there
            "\"0\"".clone_into(&mut leave.etag);
        }
        let set = viewer.change_with(Method::PUT, &call, Some(&site), &leave);
        set.await.map(|_| None)
    };
    match set.await {
        Ok(Some(question)) => Ok(question),
        Ok(None) => {
            let query = query_of(fields.get("site"), fields.some("tenant"));
            Ok(done(&viewer, &format!("/sites/one?{query}"), "site-set"))
        }
        Err(problem) => {
            let (entered, etag) = (fields.entered(), fields.get("etag"));
            form(&viewer, &entered, etag, Some(problem)).await
        }
    }
}

fn question(at: &Viewer, fields: &Fields, limit: u32) -> Response {
    let names = ["site", "tenant", "limit", "note", "etag"];
    let hidden = names.map(|name| (name, fields.get(name).to_owned()));
    let hidden = hidden.into_iter().chain([("sure", "1".to_owned())]);
    let question = Question {
        at,
        title: at.t1("site-ask", "name", fields.get("site")),
        means: vec![
            at.t1("site-means", "count", limit),
            at.t("fleet-nobody-loses"),
        ],
        inputs: Vec::new(),
        hidden: hidden.filter(|(_, value)| !value.is_empty()).collect(),
        button: at.t("site-set"),
        danger: false,
        action: at.url("/sites/limit"),
        back: at.url("/sites"),
        problem: None,
    };
    question.page()
}

async fn ask_clearing(viewer: Viewer, RawQuery(given): RawQuery) -> Paged {
    clearing(&viewer, &super::given(given), None).await
}

async fn clearing(at: &Viewer, fields: &Fields, problem: Option<Problem>) -> Paged {
    let answer = at.read(&call(fields)?).await?;
    let etag = answer.etag();
    let site: Site = part(answer.body)?;
    let question = Question {
        at,
        title: at.t1("site-ask-clear", "name", &site.name),
        means: vec![at.t("site-means-clear")],
        inputs: Vec::new(),
        hidden: vec![
            ("site", site.name.clone()),
            ("tenant", site.tenant.clone().unwrap_or_default()),
            ("etag", etag),
        ],
        button: at.t("site-clear"),
        danger: true,
        action: at.url("/sites/clear"),
        back: at.url(format_args!("/sites/one?{}", site.query())),
        problem,
    };
    Ok(question.page())
}

async fn clear(viewer: Viewer, body: Bytes) -> Paged {
    let fields = Fields::parse(&body);
    let path = call(&fields)?;
    match viewer.change(Method::DELETE, &path, None, &fields).await {
        Ok(_) => Ok(done(&viewer, "/sites", "site-cleared")),
        Err(problem) => clearing(&viewer, &fields, Some(problem)).await,
    }
}
