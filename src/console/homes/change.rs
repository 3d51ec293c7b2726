//! A home is added, or what is said of it is changed. Members and devices are changed on its own page.

use axum::{
    body::Bytes,
    extract::{Path, RawQuery},
    http::Method,
    response::Response,
};
use serde_json::{Value, json};

use super::{
    super::{
        calls::part,
        fields::Fields,
        page::{Paged, done},
        sheet::{Form, Group, Input, Sheet},
        tenants,
        viewer::Viewer,
    },
    Named,
    one::HomeBody,
};
use crate::api::Problem;

/// The form for a new one.
pub(in crate::console) async fn show_new(viewer: Viewer) -> Paged {
    new(&viewer, &Fields::default(), None).await
}

async fn new(at: &Viewer, entered: &Fields, problem: Option<Problem>) -> Paged {
    let mut inputs = Vec::new();
    inputs.extend(tenants::choice(at, entered.get("tenant")).await?);
    inputs.push(
        Input::line("home", at.t("home-id"))
            .value(entered.get("home"))
            .hint(at.t("home-id-hint"))
            .required(),
    );
    inputs.extend(said(at, entered));
    let form = Form {
        action: at.url("/homes/+new"),
        groups: vec![Group::of(inputs)],
        // there is none of this name yet
        hidden: vec![("etag", "\"0\"".to_owned())],
        button: at.t("home-new"),
        ..Form::default()
    };
    Ok(Sheet::new(at, at.t("home-new")).form(form, problem).page())
}

/// What is said of a home.
fn said(at: &Viewer, entered: &Fields) -> Vec<Input> {
    let zones = jiff::tz::db().available().map(|zone| zone.to_string());
    let time =
        |name: &'static str, text| Input::typed(name, at.t(text), "time").value(entered.get(name));
    vec![
        Input::line("name", at.t("home-name"))
            .value(entered.get("name"))
            .required(),
        Input::one_of("zone", at.t("zone"), zones.collect())
            .value(entered.get("zone"))
            .hint(at.t("zone-hint")),
        time("quiet_from", "home-quiet-from"),
        time("quiet_to", "home-quiet-to").hint(at.t("home-quiet-hint")),
    ]
}

/// The same as the API takes it.
fn read(fields: &Fields) -> Value {
    let mut home = json!({"name": fields.get("name"), "quiet": null});
    if let Some(zone) = fields.some("zone") {
        home["zone"] = zone.into();
    }
    let (from, to) = (fields.get("quiet_from"), fields.get("quiet_to"));
    if !from.is_empty() || !to.is_empty() {
        home["quiet"] = json!({"from": from, "to": to});
    }
    home
}

/// Adds it.
pub(in crate::console) async fn create(viewer: Viewer, body: Bytes) -> Paged {
    let fields = Fields::parse(&body);
    let tenant = fields.some("tenant");
    let mut named = Named {
        home: fields.get("home").to_owned(),
        tenant: tenant.unwrap_or_default().to_owned(),
    };
    let api = named.api("");
    let home = read(&fields);
    match viewer.change(Method::PUT, &api, Some(&home), &fields).await {
        Ok(_) => {
            if named.tenant == "default" {
                named.tenant.clear();
            }
            Ok(done(&viewer, &named.page(""), "home-added"))
        }
        Err(problem) => new(&viewer, &fields.entered(), Some(problem)).await,
    }
}

/// The form for one that is there.
pub(in crate::console) async fn show(
    viewer: Viewer,
    Path(home): Path<String>,
    RawQuery(query): RawQuery,
) -> Paged {
    let named = Named::of(home, query);
    let read = viewer.read(&named.api("")).await?;
    let etag = read.etag();
    let it: HomeBody = part(read.body)?;
    let (from, to) = it.quiet.map(|it| (it.from, it.to)).unwrap_or_default();
    let entered = [
        ("name", it.name),
        ("zone", it.zone),
        ("quiet_from", from),
        ("quiet_to", to),
    ];
    let entered = entered.map(|(name, value)| (name.to_owned(), value));
    Ok(form(
        &viewer,
        &named,
        (&Fields(entered.to_vec()), etag),
        None,
    ))
}

fn form(
    at: &Viewer,
    named: &Named,
    (entered, etag): (&Fields, String),
    problem: Option<Problem>,
) -> Response {
    let form = Form {
        action: at.url(named.page("/change")),
        groups: vec![Group::of(said(at, entered))],
        hidden: vec![("etag", etag)],
        button: at.t("save-it"),
        ..Form::default()
    };
    let title = at.t1("home-change-one", "home", &*named.home);
    Sheet::new(at, title).form(form, problem).page()
}

/// Changes it.
pub(in crate::console) async fn change(
    viewer: Viewer,
    Path(home): Path<String>,
    RawQuery(query): RawQuery,
    body: Bytes,
) -> Paged {
    let (named, fields) = (Named::of(home, query), Fields::parse(&body));
    let api = named.api("");
    let home = read(&fields);
    match viewer.change(Method::PUT, &api, Some(&home), &fields).await {
        Ok(_) => Ok(done(&viewer, &named.page(""), "home-changed")),
        Err(problem) => {
            let etag = fields.get("etag").to_owned();
            Ok(form(
                &viewer,
                &named,
                (&fields.entered(), etag),
                Some(problem),
            ))
        }
    }
}
