//! The list of devices: those that a filter lets through, or that are in a group.

use std::time::Duration;

use askama::Template;
use axum::{extract::RawQuery, http::StatusCode};
use serde::Deserialize;
use tokio::time::timeout;

use super::{
    Device,
    columns::{self, Column, Shown},
};
use crate::{
    api::Problem,
    console::{
        fields::Fields,
        listed::{Listed, Pager, query},
        page::{Failure, Paged, page_with, status},
        viewer::Viewer,
    },
};

/// A page does not wait longer for a number. Of a million devices it takes some seconds.
const COUNTED_WITHIN: Duration = Duration::from_millis(25);

#[derive(Template)]
#[template(path = "fleet/devices.html")]
struct ListPage<'a> {
    at: &'a Viewer,
    filter: &'a str,
    /// The group in which they are, if the address names one.
    group: Option<Group>,
    saved: Vec<Group>,
    choice: Vec<Choice>,
    columns: Vec<Column>,
    rows: Vec<Row>,
    /// How many there are; `None` where that takes longer.
    count: Option<u64>,
    /// What the address asks for, for further addresses.
    query: String,
    problem: Option<Problem>,
    pager: Pager,
}

struct Choice {
    name: &'static str,
    chosen: bool,
}

struct Row {
    device: Device,
    shown: Vec<Shown>,
}

/// A group, or a filter that is kept under a name.
#[derive(Debug, Deserialize)]
pub(super) struct Group {
    id: i64,
    name: String,
    filter: Option<String>,
    #[serde(default)]
    tenant: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Count {
    count: u64,
}

/// The page.
pub(super) async fn show(viewer: Viewer, RawQuery(query): RawQuery) -> Paged {
    let mut given = super::super::given(query);
    for (name, value) in &mut given.0 {
        if name == "filter" && is_name(value.trim()) {
            *value = format!("endpoint=={}*", value.trim());
        }
    }
    list(&viewer, &given).await
}

/// Whether somebody has entered a name, or how it begins: no filter is that plain.
fn is_name(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b":._-".contains(&byte);
    !text.is_empty() && text.bytes().all(plain)
}

/// What the API is asked for.
pub(super) fn asked(given: &Fields) -> String {
    let asked = ["filter", "group"].into_iter().filter_map(|name| {
        let value = given.some(name)?;
        Some((name.to_owned(), value.to_owned()))
    });
    Fields(asked.collect()).query()
}

async fn list(viewer: &Viewer, given: &Fields) -> Paged {
    let path = format!("/v1/devices?{}", query(given, &["filter", "group"]));
    let (found, problem) = match viewer.get::<Listed<Device>>(&path).await {
        Ok(found) => (found, None),
        Err(Failure(problem)) if matches!(problem.status, 404 | 422) => {
            let none = Listed {
                items: Vec::new(),
                next_cursor: None,
            };
            (none, Some(problem))
        }
        Err(failure) => return Err(failure),
    };
    let count = match &problem {
        None => count(viewer, given, &found).await?,
        Some(_) => None,
    };
    let groups = groups(viewer).await?;
    let group = given.some("group").and_then(|id| id.parse::<i64>().ok());
    let (saved, lists): (Vec<Group>, Vec<Group>) =
        (groups.into_iter()).partition(|group| group.filter.is_some());
    let known = lists.into_iter().find(|it| Some(it.id) == group);
    let columns = columns::chosen(given);
    let shown = |device: &Device| columns.iter().map(|it| it.shown(viewer, device)).collect();
    let rows = found.items.into_iter().map(|device| Row {
        shown: shown(&device),
        device,
    });
    let rows = rows.collect();
    let choice = columns::all().map(|column| Choice {
        name: column.name,
        chosen: columns.iter().any(|it| it.name == column.name),
    });
    let code = problem.as_ref().map_or(StatusCode::OK, status);
    let pager = Pager::of(viewer, "/devices", given, found.next_cursor.as_deref());
    let shown = ListPage {
        at: viewer,
        filter: given.get("filter"),
        group: known.or_else(|| {
            group.map(|id| Group {
                id,
                name: id.to_string(),
                filter: None,
                tenant: None,
            })
        }),
        saved,
        choice: choice.collect(),
        rows,
        count,
        query: again(given),
        problem,
        pager,
        columns,
    };
    Ok(page_with(code, &shown))
}

/// What the address asks for, without the place in the list.
fn again(given: &Fields) -> String {
    let mut kept = given.clone();
    let names = ["filter", "group", "columns"];
    kept.0
        .retain(|(name, value)| names.contains(&&**name) && !value.is_empty());
    kept.query()
}

/// How many there are, where that is known within moments.
async fn count(
    viewer: &Viewer,
    given: &Fields,
    found: &Listed<Device>,
) -> Result<Option<u64>, Failure> {
    if found.next_cursor.is_none() && given.some("cursor").is_none() {
        return Ok(Some(found.items.len() as u64));
    }
    let path = format!("/v1/devices/count?{}", asked(given));
    let counted = viewer.get::<Count>(&path);
    if given.ticked("count") {
        return Ok(Some(counted.await?.count));
    }
    match timeout(COUNTED_WITHIN, counted).await {
        Ok(counted) => Ok(Some(counted?.count)),
        Err(_) => Ok(None),
    }
}

/// The groups, as far as a list to choose from goes.
async fn groups(viewer: &Viewer) -> Result<Vec<Group>, Failure> {
    if !viewer.may("list_groups") {
        return Ok(Vec::new());
    }
    let found: Option<Listed<Group>> = viewer.look("/v1/groups?limit=200").await?;
    Ok(found.map_or_else(Vec::new, |found| found.items))
}
