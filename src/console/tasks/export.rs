//! The upgrades of a task as CSV (RFC 4180): read and sent a page of the API at a time.

use axum::{
    body::{Body, Bytes},
    extract::{Path, RawQuery},
    http::header,
    response::{IntoResponse, Response},
};
use futures_util::stream;

use super::super::{
    csv::line,
    fields::{Fields, encode},
    listed::Listed,
    page::{Failure, Paged},
    upgrades::Upgrade,
    viewer::Viewer,
};

/// Upgrades that are read at once.
const ROWS: u32 = 500;
const HEAD: &str = "id,device,state,reason,detail,attempts,cell,created_at,started_at,ended_at\r\n";

/// The file.
pub(super) async fn send(viewer: Viewer, Path(id): Path<i64>, RawQuery(given): RawQuery) -> Paged {
    let given = Fields::parse(given.unwrap_or_default().as_bytes());
    let state = given.some("state").map(encode);
    let state = state.map_or_else(String::new, |state| format!("&state={state}"));
    let path = format!("/v1/tasks/{id}/upgrades?limit={ROWS}{state}");
    // what is refused is refused before anything is sent
    let first: Listed<Upgrade> = viewer.get(&path).await?;
    let reason = given.some("reason").map(str::to_owned);
    Ok(file(viewer, id, (path, reason), first))
}

/// What is left to be sent.
enum Next {
    /// The first page was read before the answer began.
    First(Listed<Upgrade>),
    After(String),
    End,
}

/// The API does not tell those with a reason apart: they are picked out.
fn file(
    viewer: Viewer,
    id: i64,
    (path, reason): (String, Option<String>),
    first: Listed<Upgrade>,
) -> Response {
    let pages = stream::try_unfold(Next::First(first), move |next| {
        let (viewer, path, reason) = (viewer.clone(), path.clone(), reason.clone());
        async move {
            let mut text = String::new();
            let page = match next {
                Next::First(page) => {
                    text.push_str(HEAD);
                    page
                }
                Next::After(_) if *viewer.console.parts.stop.borrow() => {
                    return Err(std::io::Error::other("the server stops"));
                }
                Next::After(cursor) => {
                    let path = format!("{path}&cursor={}", encode(&cursor));
                    viewer.get(&path).await.map_err(broken)?
                }
                Next::End => return Ok(None),
            };
            let fits = |upgrade: &&Upgrade| {
                let reason = reason.as_deref();
                reason.is_none_or(|reason| upgrade.ended_for(reason))
            };
            for upgrade in page.items.iter().filter(fits) {
                write_row(&mut text, upgrade);
            }
            let next = page.next_cursor.map_or(Next::End, Next::After);
            Ok::<_, std::io::Error>(Some((Bytes::from(text), next)))
        }
    });
    let name = format!("attachment; filename=\"task-{id}-upgrades.csv\"");
    let headers = [
        (
            header::CONTENT_TYPE,
            "text/csv; charset=utf-8; header=present".to_owned(),
        ),
        (header::CONTENT_DISPOSITION, name),
    ];
    (headers, Body::from_stream(pages)).into_response()
}

/// The file breaks off: a browser tells that it is not whole.
fn broken(failure: Failure) -> std::io::Error {
    std::io::Error::other(failure.0.detail.into_string())
}

fn write_row(text: &mut String, upgrade: &Upgrade) {
    let outcome = upgrade.outcome.as_ref();
    let cell = upgrade.cell_id.map(|cell| cell.to_string());
    let (id, attempts) = (upgrade.id.to_string(), upgrade.attempts.to_string());
    let fields: [&str; 10] = [
        &id,
        &upgrade.endpoint,
        &upgrade.state,
        outcome.map_or("", |it| &it.reason),
        outcome.map_or("", |it| &it.detail),
        &attempts,
        cell.as_deref().unwrap_or_default(),
        &upgrade.created_at,
        upgrade.started_at.as_deref().unwrap_or_default(),
        upgrade.ended_at.as_deref().unwrap_or_default(),
    ];
    text.push_str(&line(fields.into_iter()));
}
