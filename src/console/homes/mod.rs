//! End users' homes: who is in them, and which devices.

mod change;
mod list;
mod one;

use axum::{
    Router,
    routing::{get, post},
};

use super::{
    Console,
    fields::{Fields, encode},
    sheet::of_tenant,
};

/// The pages below `/homes`. A home of another tenant than `default` is named with `?tenant=`.
pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/homes", get(list::show))
        // no home is called so: a name has no plus
        .route("/homes/+new", get(change::show_new).post(change::create))
        .route("/homes/{home}", get(one::show))
        .route(
            "/homes/{home}/change",
            get(change::show).post(change::change),
        )
        .route(
            "/homes/{home}/delete",
            get(one::ask_delete).post(one::delete),
        )
        .route("/homes/{home}/members", post(one::set_member))
        .route("/homes/{home}/devices", post(one::set_device))
        .route(
            "/homes/{home}/{kind}/{name}/remove",
            get(one::ask_remove).post(one::remove),
        )
}

/// A home of a tenant, as an address names it.
struct Named {
    home: String,
    tenant: String,
}

impl Named {
    fn of(home: String, query: Option<String>) -> Self {
        let query = Fields::parse(query.unwrap_or_default().as_bytes());
        Self {
            home,
            tenant: query.get("tenant").to_owned(),
        }
    }

    fn path(&self, below: &str, behind: &str) -> String {
        let path = format!("{below}/homes/{}{behind}", encode(&self.home));
        of_tenant(&path, Some(&self.tenant))
    }

    /// A path behind it, of the API.
    fn api(&self, behind: &str) -> String {
        self.path("/v1", behind)
    }

    /// The same of the console.
    fn page(&self, behind: &str) -> String {
        self.path("", behind)
    }
}
