//! Who is let in: users, tokens of the API, and the tenants that they are granted something on.

pub(super) mod grants;
mod tenants;
mod tokens;
mod user;
mod users;

use axum::{
    Router,
    http::StatusCode,
    response::Response,
    routing::{get, post},
};

use super::{
    Console,
    sheet::{Block, Link, Sheet},
    viewer::Viewer,
};
use crate::api::Problem;

/// The pages below `/people`.
pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/people", get(users::show))
        .route("/people/new", get(users::show_new).post(users::add))
        .route("/people/users/{name}", get(user::show).post(user::change))
        .route("/people/users/{name}/password", post(user::change_password))
        .route(
            "/people/users/{name}/{operation}",
            get(user::ask).post(user::carry_out),
        )
        .route("/people/tokens", get(tokens::show))
        .route(
            "/people/tokens/new",
            get(tokens::show_new).post(tokens::add),
        )
        .route(
            "/people/tokens/{id}/revoke",
            get(tokens::ask).post(tokens::revoke),
        )
        .route("/people/tenants", get(tenants::show))
        .route(
            "/people/tenants/+new",
            get(tenants::show_new).post(tenants::add),
        )
        .route(
            "/people/tenants/{tenant}",
            get(tenants::show_one).post(tenants::change),
        )
        .route(
            "/people/tenants/{tenant}/delete",
            get(tenants::ask).post(tenants::delete),
        )
}

/// The way from one of these lists to the others.
fn lists(at: &Viewer) -> Block {
    let all = [
        ("list_users", "/people", "menu-people"),
        ("list_tokens", "/people/tokens", "tokens"),
        ("list_tenants", "/people/tenants", "tenants"),
    ];
    let open = all.into_iter().filter(|(needs, _, _)| at.may(needs));
    Block::Links(
        open.map(|(_, path, text)| Link::to(at, path, text))
            .collect(),
    )
}

/// Whether a form was sent before, whose answer is not kept: it has a secret in it.
pub(super) fn is_sent_again(problem: &Problem) -> bool {
    problem.kind.ends_with(":request-unanswered")
}

/// What is shown instead of a secret when its form is sent again: a text, and where to look for what was added.
pub(super) fn not_shown(at: &Viewer, title: String, text: &str, link: Link) -> Response {
    let mut page = Sheet::new(at, title)
        .block(Block::Sentence("warning", at.t(text)))
        .block(Block::Links(vec![link]))
        .page();
    *page.status_mut() = StatusCode::CONFLICT;
    page
}
