//! One's own account: what one is granted, the password, the second factor, and how pages are shown.

mod second_factor;
mod shown;

use axum::{
    Router,
    body::Bytes,
    http::Method,
    response::{IntoResponse, Redirect},
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::json;

use super::{
    Console,
    fields::Fields,
    login::raw,
    page::Paged,
    people::grants::{self, Grant},
    sheet::{Block, Cell, Form, Group, Input, Sheet},
    viewer::Viewer,
};
use crate::api::Problem;

/// The pages below `/account`.
pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/account", get(show))
        .route("/account/password", post(change_password))
        .route("/account/shown", post(shown::choose))
        .route("/account/second-factor", post(second_factor::enrol))
        .route(
            "/account/second-factor/confirm",
            post(second_factor::confirm),
        )
        .route("/account/second-factor/remove", post(second_factor::remove))
}

#[derive(Debug, Deserialize)]
struct Me {
    grants: Vec<Grant>,
    second_factor: Option<second_factor::SecondFactor>,
}

/// The page.
async fn show(viewer: Viewer) -> Paged {
    sheet(&viewer, None).await
}

/// The page, with what the API said of one of its forms.
async fn sheet(at: &Viewer, problem: Option<Problem>) -> Paged {
    let me: Me = at.get("/v1/me").await?;
    let mut facts = vec![
        (at.t("user-name"), Cell::Text(at.name().to_owned())),
        (at.t("grants"), Cell::Lines(grants::told(at, &me.grants))),
    ];
    let mut sheet = Sheet::new(at, at.t("account"));
    if at.has_to_enrol {
        sheet = sheet.block(Block::Sentence("warning", at.t("account-has-to-enrol")));
    }
    match &me.second_factor {
        // the identity provider takes care of it
        None => {
            facts.push((at.t("user-logs-in"), Cell::Text(at.t("user-by-provider"))));
            sheet = sheet.block(Block::Facts(facts));
        }
        Some(factor) => {
            sheet = sheet
                .block(Block::Facts(facts))
                .block(Block::Heading(at.t("account-factor")))
                .blocks(factor.blocks(at));
            if !at.has_to_enrol {
                sheet = sheet
                    .block(Block::Heading(at.t("password")))
                    .block(Block::Form(password(at)));
            }
        }
    }
    let sheet = sheet
        .block(Block::Heading(at.t("account-shown")))
        .form(shown::form(at), problem);
    Ok(sheet.page())
}

fn password(at: &Viewer) -> Form {
    Form {
        action: at.url("/account/password"),
        groups: vec![Group::of(vec![
            Input::secret("old_password", at.t("password-old"), "current-password").required(),
            Input::secret("password", at.t("password-new"), "new-password")
                .hint(at.t("password-hint"))
                .required(),
        ])],
        button: at.t("account-change-password"),
        ..Form::default()
    }
}

/// Changes the password. All sessions end with that, this one too.
async fn change_password(viewer: Viewer, body: Bytes) -> Paged {
    let fields = Fields::parse(&body);
    let change = json!({
        "old_password": raw(&fields, "old_password"),
        "password": raw(&fields, "password"),
    });
    match viewer
        .change(Method::PATCH, "/v1/me", Some(&change), &fields)
        .await
    {
        Ok(_) => Ok(Redirect::to(&viewer.url("/login?next=/account")).into_response()),
        Err(problem) => sheet(&viewer, Some(problem)).await,
    }
}
