//! The newest upgrades of all tasks, those of a cell alone where the address names one.

use askama::Template;
use axum::extract::RawQuery;
use serde::Deserialize;

use super::{
    super::{
        fields::Fields,
        listed::{Listed, Pager, query},
        page::{Paged, page},
        viewer::Viewer,
    },
    Upgrade,
};

#[derive(Template)]
#[template(path = "upgrades/list.html")]
struct ListPage<'a> {
    at: &'a Viewer,
    upgrades: Vec<Newest>,
    cell: String,
    pager: Pager,
}

/// An upgrade, and what it is for.
#[derive(Debug, Deserialize)]
struct Newest {
    #[serde(flatten)]
    upgrade: Upgrade,
    task_name: String,
    version: String,
}

/// The page.
pub(super) async fn show(viewer: Viewer, RawQuery(given): RawQuery) -> Paged {
    let given = Fields::parse(given.unwrap_or_default().as_bytes());
    let path = format!("/v1/upgrades?{}", query(&given, &["cell_id"]));
    let upgrades: Listed<Newest> = viewer.get(&path).await?;
    let pager = Pager::of(
        &viewer,
        "/upgrades",
        &given,
        upgrades.next_cursor.as_deref(),
    );
    Ok(page(&ListPage {
        at: &viewer,
        upgrades: upgrades.items,
        cell: given.get("cell_id").to_owned(),
        pager,
    }))
}
