//! One product.

use axum::{
    body::Bytes,
    extract::{Path, RawQuery},
    http::Method,
};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    super::{
        calls::part,
        confirm::Question,
        fields::Fields,
        page::{Paged, done},
        sheet::{Block, Cell, Link, Sheet},
        viewer::Viewer,
    },
    Named, keys, settings,
};
use crate::api::Problem;

/// A product.
#[derive(Debug, Deserialize)]
pub(super) struct ProductBody {
    pub(super) product: String,
    tenant: Option<String>,
    created: bool,
    devices: Option<u64>,
    packages: Option<u64>,
    pub(super) signatures: String,
    pub(super) settings: Map<String, Value>,
}

/// The page.
pub(in crate::console) async fn show(
    viewer: Viewer,
    Path(product): Path<String>,
    RawQuery(query): RawQuery,
) -> Paged {
    sheet(
        &viewer,
        &Named::of(product, query),
        &Fields::default(),
        None,
    )
    .await
}

/// The page, with what was entered into the form for a key.
pub(super) async fn sheet(
    at: &Viewer,
    named: &Named,
    entered: &Fields,
    problem: Option<Problem>,
) -> Paged {
    let it: ProductBody = at.get(&named.api("")).await?;
    let mut facts = vec![(
        at.t("product-signatures"),
        Cell::Text(at.word("signatures", &it.signatures)),
    )];
    for (name, count) in [
        ("product-devices", it.devices),
        ("product-packages", it.packages),
    ] {
        facts.extend(count.map(|count| (at.t(name), Cell::Text(at.n(count)))));
    }
    facts.extend(
        it.tenant
            .map(|tenant| (at.t("of-tenant"), Cell::Text(tenant))),
    );
    let told = settings::facts(at, &it.settings).into_iter();
    let told = told.map(|(name, value)| (name, Cell::Text(value)));
    let mut sheet = Sheet::new(at, it.product).link(
        "update_product",
        Link::to(at, named.page("/change"), "product-change"),
    );
    if it.created {
        let remove = Link::to(at, named.page("/remove"), "product-remove").danger();
        sheet = sheet.link("remove_product", remove);
    }
    sheet = sheet
        .block(Block::Facts(facts))
        .block(Block::Heading(at.t("product-settings")))
        .block(Block::Facts(told.collect()));
    Ok(keys::add_to(sheet, at, named, (entered, problem))
        .await?
        .page())
}

/// Asks.
pub(in crate::console) async fn ask_remove(
    viewer: Viewer,
    Path(product): Path<String>,
    RawQuery(query): RawQuery,
) -> Paged {
    question(&viewer, &Named::of(product, query), None).await
}

async fn question(at: &Viewer, named: &Named, problem: Option<Problem>) -> Paged {
    let read = at.read(&named.api("")).await?;
    let etag = read.etag();
    let it: ProductBody = part(read.body)?;
    let question = Question {
        at,
        title: at.t1("product-ask-remove", "product", &*it.product),
        means: vec![at.t("product-means-remove")],
        inputs: Vec::new(),
        hidden: vec![("etag", etag)],
        button: at.t("product-remove"),
        danger: true,
        action: at.url(named.page("/remove")),
        back: at.url(named.page("")),
        problem,
    };
    Ok(question.page())
}

/// Removes it.
pub(in crate::console) async fn remove(
    viewer: Viewer,
    Path(product): Path<String>,
    RawQuery(query): RawQuery,
    body: Bytes,
) -> Paged {
    let (named, fields) = (Named::of(product, query), Fields::parse(&body));
    let api = named.api("");
    match viewer.change(Method::DELETE, &api, None, &fields).await {
        Ok(_) => Ok(done(&viewer, "/products", "product-removed")),
        Err(problem) => question(&viewer, &named, Some(problem)).await,
    }
}
