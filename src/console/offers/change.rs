//! An offer is published, or its terms are changed.

use axum::{body::Bytes, extract::Path, http::Method, response::Response};
use serde::Deserialize;
use serde_json::json;

use super::{
    super::{
        calls::part,
        fields::Fields,
        listed::Listed,
        page::{Paged, done},
        sheet::{Form, Group, Input, Sheet},
        viewer::Viewer,
    },
    one::Offer,
    terms,
};
use crate::api::Problem;

#[derive(Debug, Deserialize)]
struct Package {
    id: i64,
    tenant: Option<String>,
    product: String,
    version: String,
    superseded_at: Option<String>,
}

/// The form for a new one.
pub(in crate::console) async fn show_new(viewer: Viewer) -> Paged {
    new(&viewer, &Fields::default(), None).await
}

async fn new(at: &Viewer, entered: &Fields, problem: Option<Problem>) -> Paged {
    let packages: Listed<Package> = at.get("/v1/packages?limit=1000").await?;
    let usable = packages.items.into_iter();
    let usable = usable.filter(|it| it.superseded_at.is_none()).map(|it| {
        let name = match it.tenant {
            Some(tenant) => format!("{tenant}: {} {}", it.product, it.version),
            None => format!("{} {}", it.product, it.version),
        };
        (it.id.to_string(), name)
    });
    let mut usable: Vec<_> = usable.collect();
    let entered_id = entered.get("package_id");
    if !entered_id.is_empty() && !usable.iter().any(|(id, _)| id == entered_id) {
        let name = at.t1("package-number", "id", entered_id);
        usable.push((entered_id.to_owned(), name));
    }
    let mut groups = vec![Group::of(vec![
        Input::choice("package_id", at.t("package"), usable).value(entered.get("package_id")),
        Input::line("name", at.t("offer-task-name"))
            .value(entered.get("name"))
            .required(),
    ])];
    groups.extend(terms::groups(at, entered));
    let form = Form {
        action: at.url("/offers/new"),
        groups,
        button: at.t("offer-new"),
        ..Form::default()
    };
    Ok(Sheet::new(at, at.t("offer-new")).form(form, problem).page())
}

/// Publishes it.
pub(in crate::console) async fn publish(viewer: Viewer, body: Bytes) -> Paged {
    let fields = Fields::parse(&body);
    let Ok(package) = fields.get("package_id").parse::<i64>() else {
        let problem = Problem::field("package_id", "choose a package");
        return new(&viewer, &fields.entered(), Some(problem)).await;
    };
    let offer = json!({
        "task": {"name": fields.get("name"), "package_id": package},
        "terms": terms::read(&viewer, &fields),
    });
    match viewer
        .change(Method::POST, "/v1/offers", Some(&offer), &fields)
        .await
    {
        Ok(answer) => {
            let page = format!("/offers/{}", answer.body["id"]);
            Ok(done(&viewer, &page, "offer-published"))
        }
        Err(problem) => new(&viewer, &fields.entered(), Some(problem)).await,
    }
}

/// The form for one that stands.
pub(in crate::console) async fn show(viewer: Viewer, Path(id): Path<i64>) -> Paged {
    let read = viewer.read(&format!("/v1/offers/{id}")).await?;
    let etag = read.etag();
    let it: Offer = part(read.body)?;
    let entered = terms::entered(&viewer, &it.terms);
    Ok(form(&viewer, id, (&entered, etag), None))
}

fn form(
    at: &Viewer,
    id: i64,
    (entered, etag): (&Fields, String),
    problem: Option<Problem>,
) -> Response {
    let further = entered.get("further").to_owned();
    let form = Form {
        action: at.url(format_args!("/offers/{id}/change")),
        groups: terms::groups(at, entered),
        hidden: vec![("etag", etag), ("further", further)],
        button: at.t("save-it"),
        ..Form::default()
    };
    Sheet::new(at, at.t("offer-change"))
        .form(form, problem)
        .page()
}

/// Changes the terms.
pub(in crate::console) async fn change(viewer: Viewer, Path(id): Path<i64>, body: Bytes) -> Paged {
    let fields = Fields::parse(&body);
    let change = terms::read(&viewer, &fields);
    let path = format!("/v1/offers/{id}");
    match viewer
        .change(Method::PUT, &path, Some(&change), &fields)
        .await
    {
        Ok(_) => Ok(done(&viewer, &format!("/offers/{id}"), "offer-changed")),
        Err(problem) => {
            let etag = fields.get("etag").to_owned();
            Ok(form(&viewer, id, (&fields.entered(), etag), Some(problem)))
        }
    }
}
