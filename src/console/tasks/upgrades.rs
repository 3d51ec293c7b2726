//! The upgrades of a task.

use askama::Template;
use axum::extract::{Path, RawQuery};
use serde::Deserialize;

use super::super::{
    fields::Fields,
    listed::{Listed, Pager, ROWS, query},
    page::{Failure, Paged, page},
    upgrades::Upgrade,
    viewer::Viewer,
};

/// Pages of the API that are looked through for the upgrades that have ended for one reason. Further ones are on the next page.
const LOOKED_THROUGH: u32 = 6;

#[derive(Template)]
#[template(path = "tasks/upgrades.html")]
struct UpgradesPage<'a> {
    at: &'a Viewer,
    task: Named,
    upgrades: Vec<Upgrade>,
    state: String,
    reason: String,
    pager: Pager,
}

#[derive(Debug, Deserialize)]
struct Named {
    id: i64,
    name: String,
}

/// The page.
pub(super) async fn show(viewer: Viewer, Path(id): Path<i64>, RawQuery(given): RawQuery) -> Paged {
    let given = Fields::parse(given.unwrap_or_default().as_bytes());
    let task: Named = viewer.get(&format!("/v1/tasks/{id}")).await?;
    let found = find(&viewer, id, &given).await?;
    let path = format!("/tasks/{id}/upgrades");
    let pager = Pager::of(&viewer, &path, &given, found.next_cursor.as_deref());
    Ok(page(&UpgradesPage {
        at: &viewer,
        task,
        upgrades: found.items,
        state: given.get("state").to_owned(),
        reason: given.get("reason").to_owned(),
        pager,
    }))
}

/// A page of them. The API does not tell those with a reason apart: they are picked out.
async fn find(viewer: &Viewer, id: i64, given: &Fields) -> Result<Listed<Upgrade>, Failure> {
    let path = |given: &Fields| {
        let query = query(given, &["state"]);
        format!("/v1/tasks/{id}/upgrades?{query}")
    };
    let mut given = given.clone();
    let mut found: Listed<Upgrade> = viewer.get(&path(&given)).await?;
    let Some(reason) = given.some("reason").map(str::to_owned) else {
        return Ok(found);
    };
    found.items.retain(|upgrade| upgrade.ended_for(&reason));
    for _ in 1..LOOKED_THROUGH {
        let Some(cursor) = found.next_cursor.take() else {
            break;
        };
        if found.items.len() >= ROWS as usize / 2 {
            found.next_cursor = Some(cursor);
            break;
        }
        given.0.retain(|(name, _)| name != "cursor");
        given.0.push(("cursor".to_owned(), cursor));
        let next: Listed<Upgrade> = viewer.get(&path(&given)).await?;
        let fitting = next.items.into_iter().filter(|it| it.ended_for(&reason));
        found.items.extend(fitting);
        found.next_cursor = next.next_cursor;
    }
    Ok(found)
}
