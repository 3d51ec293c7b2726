//! What is said of a package: what it mends, how long it is supported, what is new.

use axum::{body::Bytes, extract::Path, http::Method, response::Response};
use serde_json::{Value, json};

use super::{
    super::{
        calls::part,
        fields::Fields,
        page::{Paged, done},
        sheet::{Form, Group, Input, Sheet},
        viewer::Viewer,
    },
    one::Package,
};
use crate::api::Problem;

/// The form, as it is.
pub(in crate::console) async fn show(viewer: Viewer, Path(id): Path<i64>) -> Paged {
    let read = viewer.read(&format!("/v1/packages/{id}")).await?;
    let etag = read.etag();
    let it: Package = part(read.body)?;
    let entered = Fields(vec![
        ("cves_mended".to_owned(), it.cves_mended.join("\n")),
        (
            "support_ends".to_owned(),
            it.support_ends.unwrap_or_default(),
        ),
        (
            "release_notes".to_owned(),
            it.release_notes.unwrap_or_default(),
        ),
    ]);
    Ok(form(&viewer, id, (&entered, etag), None))
}

fn form(
    at: &Viewer,
    id: i64,
    (entered, etag): (&Fields, String),
    problem: Option<Problem>,
) -> Response {
    let form = Form {
        action: at.url(format_args!("/packages/{id}/papers")),
        groups: vec![Group::of(vec![
            Input::area("cves_mended", at.t("package-cves"))
                .value(entered.get("cves_mended"))
                .hint(at.t("package-cves-hint")),
            Input::area("release_notes", at.t("package-notes"))
                .value(entered.get("release_notes"))
                .hint(at.t("package-notes-hint")),
            Input::typed("support_ends", at.t("package-support-ends"), "date")
                .value(entered.get("support_ends")),
        ])],
        hidden: vec![("etag", etag)],
        button: at.t("save-it"),
        ..Form::default()
    };
    Sheet::new(at, at.t("package-change-papers"))
        .form(form, problem)
        .page()
}

/// What is entered as a list, with commas, blanks or line breaks between.
pub(super) fn cves(text: &str) -> Vec<&str> {
    let parts = text.split(|c: char| c == ',' || c.is_whitespace());
    parts.filter(|part| !part.is_empty()).collect()
}

/// Changes it.
pub(in crate::console) async fn change(viewer: Viewer, Path(id): Path<i64>, body: Bytes) -> Paged {
    let fields = Fields::parse(&body);
    let text = |name| match fields.some(name) {
        Some(text) => Value::from(text.replace("\r\n", "\n")),
        None => Value::Null,
    };
    let change = json!({
        "cves_mended": cves(fields.get("cves_mended")),
        "release_notes": text("release_notes"),
        "support_ends": text("support_ends"),
    });
    let path = format!("/v1/packages/{id}");
    match viewer
        .change(Method::PATCH, &path, Some(&change), &fields)
        .await
    {
        Ok(_) => Ok(done(&viewer, &format!("/packages/{id}"), "package-changed")),
        Err(problem) => {
            let etag = fields.get("etag").to_owned();
            Ok(form(&viewer, id, (&fields.entered(), etag), Some(problem)))
        }
    }
}
