//! The list of offers, the newest first.

use axum::extract::RawQuery;
use serde::Deserialize;

use super::super::{
    fields::Fields,
    listed::{Listed, Pager, query},
    page::Paged,
    sheet::{Block, Cell, Link, Sheet, Table, columns},
    viewer::Viewer,
};

#[derive(Debug, Deserialize)]
struct Offer {
    id: i64,
    tenant: Option<String>,
    product: String,
    version: String,
    task_id: i64,
    published_at: String,
    withdrawn_at: Option<String>,
    terms: Terms,
}

#[derive(Debug, Deserialize)]
struct Terms {
    percent: u32,
    #[serde(default)]
    stages: Vec<serde_json::Value>,
}

/// Whether it stands.
pub(super) fn standing(at: &Viewer, withdrawn: bool) -> Cell {
    if withdrawn {
        Cell::Tag("", at.t("offer-withdrawn"))
    } else {
        Cell::Tag("good", at.t("offer-stands"))
    }
}

/// The page.
pub(in crate::console) async fn show(viewer: Viewer, RawQuery(given): RawQuery) -> Paged {
    let given = Fields::parse(given.unwrap_or_default().as_bytes());
    let path = format!("/v1/offers?{}", query(&given, &[]));
    let offers: Listed<Offer> = viewer.get(&path).await?;
    let pager = Pager::of(&viewer, "/offers", &given, offers.next_cursor.as_deref());
    let at = &viewer;
    let tenants = offers.items.iter().any(|it| it.tenant.is_some());
    let heads = [
        "offer-of",
        "offer-standing",
        "offer-percent",
        "offer-stages",
        "offer-task",
        "offer-published",
    ];
    let mut heads = columns(at, &heads);
    heads.extend(tenants.then(|| at.t("of-tenant")));
    let rows = offers.items.into_iter().map(|it| {
        let name = format!("{} {}", it.product, it.version);
        let task = it.task_id;
        let mut row = vec![
            Cell::Link(name, at.url(format_args!("/offers/{}", it.id))),
            standing(at, it.withdrawn_at.is_some()),
            Cell::Number(format!("{} %", it.terms.percent)),
            Cell::Number(at.n(it.terms.stages.len())),
            Cell::Link(format!("{task}"), at.url(format_args!("/tasks/{task}"))),
            Cell::Text(at.time(&it.published_at)),
        ];
        if tenants {
            row.push(Cell::maybe(it.tenant));
        }
        row
    });
    let table = Table {
        id: "offers",
        label: at.t("offers"),
        columns: heads,
        rows: rows.collect(),
        none: at.t("offers-none"),
        renews: true,
    };
    Ok(Sheet::new(at, at.t("offers"))
        .link(
            "publish_offer",
            Link::to(at, "/offers/new", "offer-new").first(),
        )
        .block(Block::Table(table))
        .block(Block::Pager(pager))
        .page())
}
