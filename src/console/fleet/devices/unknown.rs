//! Who was refused lately.

use askama::Template;
use serde::Deserialize;

use crate::console::{
    page::{Paged, page},
    viewer::Viewer,
};

#[derive(Template)]
#[template(path = "fleet/unknown.html")]
struct UnknownPage<'a> {
    at: &'a Viewer,
    strangers: Vec<Stranger>,
}

#[derive(Debug, Deserialize)]
struct Stranger {
    name: String,
    reason: String,
    address: String,
    count: u64,
    last_at: String,
}

impl Stranger {
    /// Whether to add it would help: the others are there, with another key or another gateway.
    fn is_unknown(&self) -> bool {
        self.reason.starts_with("unknown_")
    }
}

#[derive(Debug, Deserialize)]
struct Listed {
    items: Vec<Stranger>,
}

/// The page.
pub(super) async fn show(viewer: Viewer) -> Paged {
    let found: Listed = viewer.get("/v1/devices/unknown").await?;
    Ok(page(&UnknownPage {
        at: &viewer,
        strangers: found.items,
    }))
}
