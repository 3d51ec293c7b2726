//! The list of homes.

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
struct Home {
    home: String,
    name: String,
    tenant: Option<String>,
    members: u64,
    devices: u64,
    zone: String,
    created_at: String,
}

/// The page.
pub(in crate::console) async fn show(viewer: Viewer, RawQuery(given): RawQuery) -> Paged {
    let given = Fields::parse(given.unwrap_or_default().as_bytes());
    let path = format!("/v1/homes?{}", query(&given, &[]));
    let homes: Listed<Home> = viewer.get(&path).await?;
    let pager = Pager::of(&viewer, "/homes", &given, homes.next_cursor.as_deref());
    let at = &viewer;
    let tenants = homes.items.iter().any(|it| it.tenant.is_some());
    let heads = [
        "home-name",
        "home-id",
        "home-members",
        "the-devices",
        "zone",
        "created",
    ];
    let mut heads = columns(at, &heads);
    heads.extend(tenants.then(|| at.t("of-tenant")));
    let may_see = at.may("get_home");
    let rows = homes.items.into_iter().map(|it| {
        let path = of_tenant(
            &format!("/homes/{}", encode(&it.home)),
            it.tenant.as_deref(),
        );
        let mut row = vec![
            if may_see {
                Cell::Link(it.name, at.url(path))
            } else {
                Cell::Text(it.name)
            },
            Cell::Code(it.home),
            Cell::Number(at.n(it.members)),
            Cell::Number(at.n(it.devices)),
            Cell::Text(it.zone),
            Cell::Text(at.time(&it.created_at)),
        ];
        if tenants {
            row.push(Cell::maybe(it.tenant));
        }
        row
    });
    let table = Table {
        id: "homes",
        label: at.t("menu-homes"),
        columns: heads,
        rows: rows.collect(),
        none: at.t("homes-none"),
        renews: false,
    };
    Ok(Sheet::new(at, at.t("menu-homes"))
        .link("set_home", Link::to(at, "/homes/+new", "home-new").first())
        .link("list_offers", Link::to(at, "/offers", "offers"))
        .block(Block::Table(table))
        .block(Block::Pager(pager))
        .page())
}
