//! A product is created, or its settings are changed.

use axum::{
    body::Bytes,
    extract::{Path, RawQuery},
    http::Method,
    response::Response,
};
use serde_json::json;

use super::{
    super::{
        calls::part,
        fields::Fields,
        page::{Paged, done},
        sheet::{Form, Group, Input, Sheet, of_tenant},
        tenants,
        viewer::Viewer,
    },
    Named,
    one::ProductBody,
    settings,
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
        Input::line("product", at.t("of-product"))
            .value(entered.get("product"))
            .required(),
    );
    inputs.push(signatures(at, entered));
    let form = Form {
        action: at.url("/products/+new"),
        groups: vec![Group::of(inputs)],
        button: at.t("product-new"),
        ..Form::default()
    };
    Ok(Sheet::new(at, at.t("product-new"))
        .form(form, problem)
        .page())
}

fn signatures(at: &Viewer, entered: &Fields) -> Input {
    let known = ["optional", "required"];
    let choices = known.map(|word| (word.to_owned(), at.word("signatures", word)));
    Input::choice("signatures", at.t("product-signatures"), choices.to_vec())
        .value(entered.get("signatures"))
}

/// Creates it, with the usual settings.
pub(in crate::console) async fn create(viewer: Viewer, body: Bytes) -> Paged {
    let fields = Fields::parse(&body);
    let product = json!({"product": fields.get("product"), "signatures": fields.get("signatures")});
    let path = of_tenant("/v1/products", fields.some("tenant"));
    match viewer
        .change(Method::POST, &path, Some(&product), &fields)
        .await
    {
        Ok(_) => {
            let tenant = fields.some("tenant").filter(|it| *it != "default");
            let named = Named {
                product: fields.get("product").to_owned(),
                tenant: tenant.unwrap_or_default().to_owned(),
            };
            Ok(done(&viewer, &named.page("/change"), "product-created"))
        }
        Err(problem) => new(&viewer, &fields.entered(), Some(problem)).await,
    }
}

/// The form for one that is there.
pub(in crate::console) async fn show(
    viewer: Viewer,
    Path(product): Path<String>,
    RawQuery(query): RawQuery,
) -> Paged {
    let named = Named::of(product, query);
    let read = viewer.read(&named.api("")).await?;
    let etag = read.etag();
    let it: ProductBody = part(read.body)?;
    let mut entered = settings::entered(&it.settings);
    entered.0.push(("signatures".to_owned(), it.signatures));
    Ok(form(&viewer, &named, (&entered, etag), None))
}

fn form(
    at: &Viewer,
    named: &Named,
    (entered, etag): (&Fields, String),
    problem: Option<Problem>,
) -> Response {
    let form = Form {
        action: at.url(named.page("/change")),
        groups: vec![
            Group::of(vec![signatures(at, entered)]),
            Group {
                legend: at.t("product-settings"),
                inputs: settings::inputs(at, entered),
            },
        ],
        hidden: vec![("etag", etag)],
        button: at.t("save-it"),
        ..Form::default()
    };
    let title = at.t1("product-change-one", "product", &*named.product);
    Sheet::new(at, title).form(form, problem).page()
}

/// Changes it.
pub(in crate::console) async fn change(
    viewer: Viewer,
    Path(product): Path<String>,
    RawQuery(query): RawQuery,
    body: Bytes,
) -> Paged {
    let (named, fields) = (Named::of(product, query), Fields::parse(&body));
    let mut change = json!({"settings": settings::read(&fields)});
    if let Some(signatures) = fields.some("signatures") {
        change["signatures"] = signatures.into();
    }
    let api = named.api("");
    match viewer
        .change(Method::PATCH, &api, Some(&change), &fields)
        .await
    {
        Ok(_) => Ok(done(&viewer, &named.page(""), "product-changed")),
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
