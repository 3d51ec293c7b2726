//! The list of products.

use axum::extract::RawQuery;
use serde::Deserialize;

use super::super::{
    fields::{Fields, encode},
    listed::{Listed, Pager, query},
    page::Paged,
    sheet::{Block, Cell, Link, Sheet, Table, columns, of_tenant},
    viewer::Viewer,
};

#[derive(Debug, Deserialize)]
struct ProductBody {
    product: String,
    tenant: Option<String>,
    created: bool,
    keys: u64,
    signatures: String,
}

/// The page.
pub(in crate::console) async fn show(viewer: Viewer, RawQuery(given): RawQuery) -> Paged {
    let given = Fields::parse(given.unwrap_or_default().as_bytes());
    let path = format!("/v1/products?{}", query(&given, &[]));
    let products: Listed<ProductBody> = viewer.get(&path).await?;
    let pager = Pager::of(
        &viewer,
        "/products",
        &given,
        products.next_cursor.as_deref(),
    );
    let at = &viewer;
    let tenants = products.items.iter().any(|it| it.tenant.is_some());
    let mut heads = columns(
        at,
        &[
            "of-product",
            "product-settings",
            "product-signatures",
            "product-keys",
        ],
    );
    heads.extend(tenants.then(|| at.t("of-tenant")));
    let rows = products.items.into_iter().map(|it| {
        let path = format!("/products/{}", encode(&it.product));
        let settings = if it.created {
            "product-own"
        } else {
            "product-usual"
        };
        let mut row = vec![
            Cell::Link(it.product, at.url(of_tenant(&path, it.tenant.as_deref()))),
            Cell::Text(at.t(settings)),
            Cell::Text(at.word("signatures", &it.signatures)),
            Cell::Number(at.n(it.keys)),
        ];
        if tenants {
            row.push(Cell::maybe(it.tenant));
        }
        row
    });
    let table = Table {
        id: "products",
        label: at.t("products"),
        columns: heads,
        rows: rows.collect(),
        none: at.t("products-none"),
        renews: false,
    };
    Ok(Sheet::new(at, at.t("products"))
        .link(
            "create_product",
            Link::to(at, "/products/+new", "product-new").first(),
        )
        .block(Block::Sentence("hint", at.t("products-hint")))
        .block(Block::Table(table))
        .block(Block::Pager(pager))
        .page())
}
