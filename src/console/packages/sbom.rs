//! The bill of materials of a package.

use axum::{
    body::Bytes,
    extract::Path,
    http::{HeaderValue, Method, header},
};

use super::{
    super::{
        calls::Calls,
        confirm::Question,
        fields::Fields,
        page::{Paged, done},
        sheet::{Form, Group, Input, Sheet},
        upload::{Target, Upload, pass_on},
        viewer::Viewer,
    },
    one::Package,
};
use crate::api::Problem;

/// The form.
pub(in crate::console) async fn show(viewer: Viewer, Path(id): Path<i64>) -> Paged {
    form(&viewer, id, None).await
}

async fn form(at: &Viewer, id: i64, problem: Option<Problem>) -> Paged {
    let read = at.read(&format!("/v1/packages/{id}")).await?;
    let form = Form {
        action: at.url(format_args!("/packages/{id}/sbom")),
        groups: vec![Group::of(vec![
            Input::file("file", at.t("package-sbom-document"))
                .hint(at.t("package-sbom-hint"))
                .required(),
        ])],
        hidden: vec![("etag", read.etag())],
        button: at.t("package-set-sbom"),
        upload: Some(at.t("upload-failed")),
        ..Form::default()
    };
    Ok(Sheet::new(at, at.t("package-set-sbom"))
        .form(form, problem)
        .page())
}

/// The document goes on to the API.
pub(in crate::console) async fn send(viewer: Viewer, Path(id): Path<i64>, body: Upload) -> Paged {
    let target = |_: &Fields| Target {
        method: Method::PUT,
        path: format!("/v1/packages/{id}/sbom"),
        kind: "application/json",
    };
    match pass_on(&viewer, body, target).await.1 {
        Ok(_) => Ok(done(&viewer, &format!("/packages/{id}"), "sbom-set")),
        Err(problem) => form(&viewer, id, Some(problem)).await,
    }
}

/// The document as it is.
pub(in crate::console) async fn file(viewer: Viewer, Path(id): Path<i64>) -> Paged {
    let request = Calls::request(Method::GET, &format!("/v1/packages/{id}/sbom"), None)?;
    let sent = viewer.console.calls.send(&viewer.behalf, request).await;
    let mut response = sent?;
    let name = format!("attachment; filename=\"package-{id}-sbom.json\"");
    if let Ok(name) = HeaderValue::from_str(&name) {
        response
            .headers_mut()
            .insert(header::CONTENT_DISPOSITION, name);
    }
    Ok(response)
}

/// Asks.
pub(in crate::console) async fn ask_remove(viewer: Viewer, Path(id): Path<i64>) -> Paged {
    question(&viewer, id, None).await
}

async fn question(at: &Viewer, id: i64, problem: Option<Problem>) -> Paged {
    let it: Package = at.get(&format!("/v1/packages/{id}")).await?;
    let question = Question {
        at,
        title: at.t1("package-ask-sbom-remove", "version", &*it.version),
        means: vec![at.t("package-means-sbom-remove")],
        inputs: Vec::new(),
        hidden: Vec::new(),
        button: at.t("package-sbom-remove"),
        danger: true,
        action: at.url(format_args!("/packages/{id}/sbom/remove")),
        back: at.url(format_args!("/packages/{id}")),
        problem,
    };
    Ok(question.page())
}

/// Removes it.
pub(in crate::console) async fn remove(viewer: Viewer, Path(id): Path<i64>, body: Bytes) -> Paged {
    let fields = Fields::parse(&body);
    let path = format!("/v1/packages/{id}/sbom");
    match viewer.change(Method::DELETE, &path, None, &fields).await {
        Ok(_) => Ok(done(&viewer, &format!("/packages/{id}"), "sbom-removed")),
        Err(problem) => question(&viewer, id, Some(problem)).await,
    }
}
