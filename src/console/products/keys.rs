//! The keys that vouch for the packages of a product.

use axum::{
    body::Bytes,
    extract::{Path, RawQuery},
    http::Method,
};
use serde::Deserialize;
use serde_json::json;

use super::{
    super::{
        confirm::Question,
        fields::{Fields, encode},
        page::{Failure, Paged, done},
        sheet::{Block, Cell, Form, Group, Input, Sheet, Table, columns},
        viewer::Viewer,
    },
    Named, one,
};
use crate::api::Problem;

#[derive(Debug, Deserialize)]
struct Keys {
    items: Vec<Key>,
}

#[derive(Debug, Deserialize)]
struct Key {
    id: String,
    name: String,
    algorithm: String,
    created_at: String,
}

/// Shows them below a product, and asks for another one.
pub(super) async fn add_to<'a>(
    sheet: Sheet<'a>,
    at: &'a Viewer,
    named: &Named,
    (entered, problem): (&Fields, Option<Problem>),
) -> Result<Sheet<'a>, Failure> {
    let keys: Keys = at.get(&named.api("/keys")).await?;
    let removable = at.may("remove_product_key");
    let row = |key: Key| {
        let mut row = vec![
            Cell::Text(key.name),
            Cell::Text(key.algorithm),
            Cell::Code(key.id.clone()),
            Cell::Text(at.time(&key.created_at)),
        ];
        if removable {
            let to = named.page(&format!("/keys/{}/remove", encode(&key.id)));
            row.push(Cell::Link(at.t("product-key-remove"), at.url(to)));
        }
        row
    };
    let mut heads = columns(
        at,
        &[
            "product-key-name",
            "product-key-algorithm",
            "product-key-id",
            "created",
        ],
    );
    heads.extend(removable.then(|| at.t("product-key-what")));
    let sheet = sheet
        .block(Block::Heading(at.t("product-keys")))
        .block(Block::Table(Table {
            id: "keys",
            label: at.t("product-keys"),
            columns: heads,
            rows: keys.items.into_iter().map(row).collect(),
            none: at.t("product-keys-none"),
            renews: false,
        }));
    if !at.may("add_product_key") {
        return Ok(sheet);
    }
    let form = Form {
        action: at.url(named.page("/keys")),
        groups: vec![Group {
            legend: at.t("product-key-add"),
            inputs: vec![
                Input::line("name", at.t("product-key-name")).value(entered.get("name")),
                Input::area("pem", at.t("product-key-pem"))
                    .value(entered.get("pem"))
                    .hint(at.t("product-key-pem-hint"))
                    .required(),
            ],
        }],
        button: at.t("product-key-add"),
        ..Form::default()
    };
    Ok(sheet.form(form, problem))
}

/// Adds one.
pub(in crate::console) async fn add(
    viewer: Viewer,
    Path(product): Path<String>,
    RawQuery(query): RawQuery,
    body: Bytes,
) -> Paged {
    let (named, fields) = (Named::of(product, query), Fields::parse(&body));
    let key = json!({"name": fields.get("name"), "pem": fields.get("pem").replace("\r\n", "\n")});
    let api = named.api("/keys");
    match viewer.change(Method::POST, &api, Some(&key), &fields).await {
        Ok(_) => Ok(done(&viewer, &named.page(""), "product-key-added")),
        Err(problem) => one::sheet(&viewer, &named, &fields.entered(), Some(problem)).await,
    }
}

/// Asks.
pub(in crate::console) async fn ask_remove(
    viewer: Viewer,
    Path((product, key)): Path<(String, String)>,
    RawQuery(query): RawQuery,
) -> Paged {
    question(&viewer, &Named::of(product, query), &key, None).await
}

async fn question(at: &Viewer, named: &Named, key: &str, problem: Option<Problem>) -> Paged {
    let keys: Keys = at.get(&named.api("/keys")).await?;
    let found = keys.items.into_iter().find(|it| it.id == key);
    let found = found.ok_or_else(|| Problem::not_found(format!("there is no key {key:?}")))?;
    let shown = if found.name.is_empty() {
        found.id
    } else {
        found.name
    };
    let question = Question {
        at,
        title: at.t1("product-ask-key-remove", "key", shown),
        means: vec![at.t("product-means-key-remove")],
        inputs: Vec::new(),
        hidden: Vec::new(),
        button: at.t("product-key-remove"),
        danger: true,
        action: at.url(named.page(&format!("/keys/{}/remove", encode(key)))),
        back: at.url(named.page("")),
        problem,
    };
    Ok(question.page())
}

/// Removes it.
pub(in crate::console) async fn remove(
    viewer: Viewer,
    Path((product, key)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    body: Bytes,
) -> Paged {
    let (named, fields) = (Named::of(product, query), Fields::parse(&body));
    let api = named.api(&format!("/keys/{}", encode(&key)));
    match viewer.change(Method::DELETE, &api, None, &fields).await {
        Ok(_) => Ok(done(&viewer, &named.page(""), "product-key-removed")),
        Err(problem) => question(&viewer, &named, &key, Some(problem)).await,
    }
}
