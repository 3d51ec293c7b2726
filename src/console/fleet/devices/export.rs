//! The list as a file (RFC 4180), made while it is sent: a page of the API at a time.

use axum::{
    body::{Body, Bytes},
    extract::RawQuery,
    http::header,
    response::{IntoResponse, Response},
};
use futures_util::stream;

use super::{
    Device,
    columns::{Column, chosen},
    list::asked,
};
use crate::console::{csv::line, fields::encode, listed::Listed, page::Paged, viewer::Viewer};

/// Devices that are read at once.
const AT_ONCE: u32 = 500;

/// What is left to be sent.
struct Rest {
    viewer: Viewer,
    columns: Vec<Column>,
    /// What the API is asked for, without the place.
    path: String,
    next: Next,
}

enum Next {
    /// The first page was read before the answer began.
    First(Listed<Device>),
    After(String),
    End,
}

/// The file.
pub(super) async fn stream(viewer: Viewer, RawQuery(query): RawQuery) -> Paged {
    let given = super::super::given(query);
    let path = format!("/v1/devices?limit={AT_ONCE}&{}", asked(&given));
    // what is refused is told on a page
    let first = viewer.get(path.trim_end_matches('&')).await?;
    let rest = Rest {
        viewer,
        columns: chosen(&given),
        path,
        next: Next::First(first),
    };
    Ok(attached(
        "devices.csv",
        Body::from_stream(stream::try_unfold(rest, part)),
    ))
}

fn attached(name: &str, body: Body) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()),
        (
            header::CONTENT_DISPOSITION,
            format!("attachment; filename=\"{name}\""),
        ),
    ];
    (headers, body).into_response()
}

/// The next page. An error breaks the answer off: whoever reads it sees that it is not whole.
async fn part(mut rest: Rest) -> Result<Option<(Bytes, Rest)>, std::io::Error> {
    let mut text = String::new();
    let page = match std::mem::replace(&mut rest.next, Next::End) {
        Next::First(page) => {
            text.push_str(&head(&rest.columns));
            page
        }
        Next::After(cursor) => {
            if *rest.viewer.console.parts.stop.borrow() {
                return Err(std::io::Error::other("the server stops"));
            }
            let path = format!("{}&cursor={}", rest.path, encode(&cursor));
            let page = rest.viewer.get::<Listed<Device>>(&path).await;
            page.map_err(|failure| {
                let error = failure.0.detail;
                tracing::warn!(%error, "an export of devices was broken off");
                std::io::Error::other(error.to_string())
            })?
        }
        Next::End => return Ok(None),
    };
    for device in &page.items {
        text.push_str(&row(&rest.columns, device));
    }
    rest.next = page.next_cursor.map_or(Next::End, Next::After);
    Ok(Some((Bytes::from(text), rest)))
}

fn head(columns: &[Column]) -> String {
    line(std::iter::once("endpoint").chain(columns.iter().map(|column| column.name)))
}

fn row(columns: &[Column], device: &Device) -> String {
    let cells = columns.iter().map(|column| (column.plain)(device));
    let cells: Vec<String> = cells.collect();
    line(std::iter::once(&*device.endpoint).chain(cells.iter().map(String::as_str)))
}
