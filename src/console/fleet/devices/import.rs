//! Adds the devices of a file.

use askama::Template;
use axum::http::{Method, StatusCode};
use serde::Deserialize;

use crate::{
    api::Problem,
    console::{
        calls::part,
        fields::Fields,
        fleet::{Tenant, for_tenant, tenants},
        page::{Paged, page, page_with, status},
        upload::{Target, Upload, pass_on},
        viewer::Viewer,
    },
};

#[derive(Template)]
#[template(path = "fleet/devices_import.html")]
struct ImportPage<'a> {
    at: &'a Viewer,
    tenants: Vec<Tenant>,
    problem: Option<Problem>,
}

#[derive(Template)]
#[template(path = "fleet/devices_imported.html")]
struct ImportedPage<'a> {
    at: &'a Viewer,
    taken: Taken,
}

/// What became of the rows.
#[derive(Debug, Deserialize)]
struct Taken {
    rows: u64,
    added: u64,
    unchanged: u64,
    updated: u64,
    keys_set: u64,
    refused_total: u64,
    refused: Vec<Refused>,
}

#[derive(Debug, Deserialize)]
struct Refused {
    line: u64,
    column: Option<String>,
    detail: String,
}

/// The form.
pub(super) async fn ask(viewer: Viewer) -> Paged {
    form(&viewer, &Fields::default(), None).await
}

async fn form(at: &Viewer, fields: &Fields, problem: Option<Problem>) -> Paged {
    let code = problem.as_ref().map_or(StatusCode::OK, status);
    let shown = ImportPage {
        at,
        tenants: tenants(at, fields).await?,
        problem,
    };
    Ok(page_with(code, &shown))
}

/// Adds them.
pub(super) async fn take(viewer: Viewer, body: Upload) -> Paged {
    let target = |fields: &Fields| Target {
        method: Method::POST,
        path: for_tenant("/v1/devices", fields),
        kind: "text/csv",
    };
    let (fields, answer) = pass_on(&viewer, body, target).await;
    match answer {
        Ok(answer) => Ok(page(&ImportedPage {
            at: &viewer,
            taken: part(answer.body)?,
        })),
        Err(problem) => form(&viewer, &fields.entered(), Some(problem)).await,
    }
}
