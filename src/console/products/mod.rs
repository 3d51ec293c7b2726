//! Products: what is set for their devices, and who vouches for their packages.

mod change;
mod keys;
mod list;
mod one;
mod settings;

use axum::{
    Router,
    routing::{get, post},
};

use super::Console;

/// The pages below `/products`. A product of another tenant than `default` is named with `?tenant=`.
pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/products", get(list::show))
        // no product is called so: a name has no plus
        .route("/products/+new", get(change::show_new).post(change::create))
        .route("/products/{product}", get(one::show))
        .route(
            "/products/{product}/change",
            get(change::show).post(change::change),
        )
        .route(
            "/products/{product}/remove",
            get(one::ask_remove).post(one::remove),
        )
        .route("/products/{product}/keys", post(keys::add))
        .route(
            "/products/{product}/keys/{key}/remove",
            get(keys::ask_remove).post(keys::remove),
        )
}

/// A product of a tenant, as an address names it.
struct Named {
    product: String,
    tenant: String,
}

impl Named {
    fn of(product: String, query: Option<String>) -> Self {
        let query = super::fields::Fields::parse(query.unwrap_or_default().as_bytes());
        Self {
            product,
            tenant: query.get("tenant").to_owned(),
        }
    }

    /// A path behind it, of the API or of the console: `/keys`.
    fn path(&self, below: &str, behind: &str) -> String {
        let product = super::fields::encode(&self.product);
        super::sheet::of_tenant(
            &format!("{below}/products/{product}{behind}"),
            Some(&self.tenant),
        )
    }

    /// That of the API.
    fn api(&self, behind: &str) -> String {
        self.path("/v1", behind)
    }

    /// That of its page.
    fn page(&self, behind: &str) -> String {
        self.path("", behind)
    }
}
