//! A package is uploaded.

use axum::{http::Method, response::Response};

use super::super::{
    fields::Fields,
    page::{Failure, Paged, done},
    sheet::{Form, Group, Input, Sheet},
    tenants,
    upload::{Target, Upload, pass_on},
    viewer::Viewer,
};
use crate::api::Problem;

/// What the API takes beside the file.
const SAID: [&str; 8] = [
    "product",
    "version",
    "component",
    "segment_size",
    "signature",
    "cves_mended",
    "support_ends",
    "tenant",
];

/// The form.
pub(in crate::console) async fn show(viewer: Viewer) -> Paged {
    form(&viewer, &Fields::default(), None).await
}

async fn form(
    at: &Viewer,
    entered: &Fields,
    problem: Option<Problem>,
) -> Result<Response, Failure> {
    let line = |name: &'static str, text| Input::line(name, at.t(text)).value(entered.get(name));
    let mut inputs = Vec::new();
    inputs.extend(tenants::choice(at, entered.get("tenant")).await?);
    inputs.extend([
        line("product", "of-product").hint(at.t("package-product-hint")),
        line("version", "package-version")
            .hint(at.t("package-version-hint"))
            .required(),
        line("component", "package-component").hint(at.t("package-component-hint")),
        Input::typed("segment_size", at.t("package-segment-size"), "number")
            .value(entered.get("segment_size"))
            .hint(at.t("package-segment-size-hint")),
        line("cves_mended", "package-cves").hint(at.t("package-cves-hint")),
        Input::typed("support_ends", at.t("package-support-ends"), "date")
            .value(entered.get("support_ends")),
        line("signature", "package-signature").hint(at.t("package-signature-hint")),
        Input::file("file", at.t("package-file"))
            .hint(at.t("package-file-hint"))
            .required(),
    ]);
    let form = Form {
        action: at.url("/packages/new"),
        groups: vec![Group::of(inputs)],
        button: at.t("package-upload"),
        upload: Some(at.t("upload-failed")),
        ..Form::default()
    };
    Ok(Sheet::new(at, at.t("package-upload"))
        .form(form, problem)
        .page())
}

/// The file goes on to the API.
pub(in crate::console) async fn send(viewer: Viewer, body: Upload) -> Paged {
    let target = |fields: &Fields| Target {
        method: Method::POST,
        path: path(fields),
        kind: "application/octet-stream",
    };
    let (fields, answer) = pass_on(&viewer, body, target).await;
    match answer {
        Ok(answer) => {
            let page = format!("/packages/{}", answer.body["id"]);
            Ok(done(&viewer, &page, "package-uploaded"))
        }
        Err(problem) => form(&viewer, &fields.entered(), Some(problem)).await,
    }
}

fn path(fields: &Fields) -> String {
    let mut query = Fields::default();
    for name in SAID {
        if let Some(value) = fields.some(name) {
            let value = match name {
                "cves_mended" => super::papers::cves(value).join(","),
                _ => value.to_owned(),
            };
            query.0.push((name.to_owned(), value));
        }
    }
    format!("/v1/packages?{}", query.query())
}
