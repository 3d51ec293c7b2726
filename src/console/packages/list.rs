//! The list of packages, the newest first.

use axum::extract::RawQuery;
use serde::Deserialize;

use super::super::{
    fields::Fields,
    listed::{Listed, Pager, query},
    page::Paged,
    sheet::{Block, Cell, Link, Sheet, Table, columns},
    viewer::Viewer,
};

/// What the list takes of a package.
#[derive(Debug, Deserialize)]
struct Package {
    id: i64,
    tenant: Option<String>,
    product: String,
    version: String,
    component: Option<String>,
    size_bytes: u64,
    served_by: Vec<String>,
    created_at: String,
    superseded_at: Option<String>,
    cves_mended: Vec<String>,
    signature: Option<serde_json::Value>,
}

/// The page.
pub(in crate::console) async fn show(viewer: Viewer, RawQuery(given): RawQuery) -> Paged {
    let given = Fields::parse(given.unwrap_or_default().as_bytes());
    let path = format!("/v1/packages?{}", query(&given, &[]));
    let packages: Listed<Package> = viewer.get(&path).await?;
    let pager = Pager::of(
        &viewer,
        "/packages",
        &given,
        packages.next_cursor.as_deref(),
    );
    let at = &viewer;
    let tenants = packages.items.iter().any(|it| it.tenant.is_some());
    let mut heads = columns(
        at,
        &[
            "package-version",
            "of-product",
            "package-component",
            "package-size",
            "package-served",
            "package-papers",
            "created",
            "package-standing",
        ],
    );
    heads.extend(tenants.then(|| at.t("of-tenant")));
    let rows = packages.items.into_iter().map(|it| row(at, it, tenants));
    let table = Table {
        id: "packages",
        label: at.t("menu-packages"),
        columns: heads,
        rows: rows.collect(),
        none: at.t("packages-none"),
        renews: true,
    };
    Ok(Sheet::new(at, at.t("menu-packages"))
        .link(
            "upload_package",
            Link::to(at, "/packages/new", "package-upload").first(),
        )
        .link("list_products", Link::to(at, "/products", "products"))
        .link("list_evidence", Link::to(at, "/evidence", "evidence"))
        .block(Block::Table(table))
        .block(Block::Pager(pager))
        .page())
}

fn row(at: &Viewer, it: Package, tenants: bool) -> Vec<Cell> {
    let served = it.served_by.iter().map(|by| at.word("served-by", by));
    let mut papers = Vec::new();
    if it.signature.is_some() {
        papers.push(at.t("package-signed"));
    }
    if !it.cves_mended.is_empty() {
        papers.push(at.t1("package-mends", "count", it.cves_mended.len()));
    }
    let standing = match it.superseded_at {
        Some(_) => Cell::Tag("warn", at.t("package-superseded")),
        None => Cell::Tag("good", at.t("package-usable")),
    };
    let mut row = vec![
        Cell::Link(it.version, at.url(format_args!("/packages/{}", it.id))),
        Cell::Text(it.product),
        Cell::maybe(it.component),
        Cell::Number(at.n(it.size_bytes)),
        Cell::Lines(served.collect()),
        Cell::Lines(papers),
        Cell::Text(at.time(&it.created_at)),
        standing,
    ];
    if tenants {
        row.push(Cell::maybe(it.tenant));
    }
    row
}
