//! Packages: all of them, one, and its papers.

mod list;
mod one;
mod papers;
mod sbom;
mod send;

use axum::{Router, extract::DefaultBodyLimit, routing::get};

use super::Console;

/// The pages below `/packages`.
pub(super) fn routes() -> Router<Console> {
    // files are as long as the API permits
    let files = Router::new()
        .route("/packages/new", get(send::show).post(send::send))
        .route("/packages/{id}/sbom", get(sbom::show).post(sbom::send))
        .layer(DefaultBodyLimit::disable());
    Router::new()
        .route("/packages", get(list::show))
        .route("/packages/{id}", get(one::show))
        .route(
            "/packages/{id}/delete",
            get(one::ask_delete).post(one::delete),
        )
        .route(
            "/packages/{id}/papers",
            get(papers::show).post(papers::change),
        )
        .route("/packages/{id}/sbom/file", get(sbom::file))
        .route(
            "/packages/{id}/sbom/remove",
            get(sbom::ask_remove).post(sbom::remove),
        )
        .merge(files)
}
