//! The second factor: it is set up, confirmed, and taken away.

use axum::{body::Bytes, http::Method, response::Response};
use serde::Deserialize;
use serde_json::json;

use super::{
    super::{
        calls::part,
        fields::Fields,
        login::raw,
        page::{Paged, done},
        sheet::{Block, Cell, Form, Group, Input, Link, Sheet},
        viewer::Viewer,
    },
    sheet,
};
use crate::api::Problem;

/// How somebody stands with it.
#[derive(Debug, Deserialize)]
pub(super) struct SecondFactor {
    enrolled: bool,
    recovery_codes: u32,
}

#[derive(Debug, Deserialize)]
struct Enrolled {
    secret: String,
    uri: String,
}

#[derive(Debug, Deserialize)]
struct Recovery {
    recovery_codes: Vec<String>,
}

impl SecondFactor {
    /// What stands of it on the page.
    pub(super) fn blocks(&self, at: &Viewer) -> Vec<Block> {
        let asked = Input::secret("password", at.t("password"), "current-password").required();
        if self.enrolled {
            let left = Cell::Text(at.n(self.recovery_codes));
            let form = Form {
                action: at.url("/account/second-factor/remove"),
                groups: vec![Group::of(vec![asked, code(at)])],
                button: at.t("account-factor-remove"),
                danger: true,
                ..Form::default()
            };
            return vec![
                Block::Sentence("", at.t("user-has-factor")),
                Block::Facts(vec![(at.t("account-recovery-left"), left)]),
                Block::Form(form),
            ];
        }
        let form = Form {
            action: at.url("/account/second-factor"),
            groups: vec![Group::of(vec![asked])],
            button: at.t("account-factor-enrol"),
            ..Form::default()
        };
        vec![
            Block::Sentence("", at.t("account-factor-means")),
            Block::Form(form),
        ]
    }
}

fn code(at: &Viewer) -> Input {
    Input::secret("code", at.t("second-factor"), "one-time-code")
        .hint(at.t("account-code-hint"))
        .required()
}

/// Begins, and shows the secret once.
pub(super) async fn enrol(viewer: Viewer, body: Bytes) -> Paged {
    let fields = Fields::parse(&body);
    let asked = json!({"password": raw(&fields, "password")});
    let begun = viewer.change(Method::POST, "/v1/me/totp", Some(&asked), &fields);
    match begun.await {
        Ok(answer) => {
            let enrolled: Enrolled = part(answer.body)?;
            Ok(to_confirm(&viewer, enrolled, None))
        }
        Err(problem) => sheet(&viewer, Some(problem)).await,
    }
}

/// The secret, and a form for a code of it. The secret is in the form too, so that it is seen again after a wrong code.
fn to_confirm(at: &Viewer, it: Enrolled, problem: Option<Problem>) -> Response {
    let form = Form {
        action: at.url("/account/second-factor/confirm"),
        groups: vec![Group::of(vec![
            Input::line("code", at.t("second-factor"))
                .hint(at.t("account-code-first-hint"))
                .required(),
        ])],
        hidden: vec![("secret", it.secret.clone()), ("key", it.uri.clone())],
        button: at.t("account-factor-confirm"),
        ..Form::default()
    };
    Sheet::new(at, at.t("account-factor-enrol"))
        .block(Block::Sentence("warning", at.t("shown-once")))
        .block(Block::Plain(
            "factor-secret",
            at.t("account-secret"),
            it.secret,
        ))
        .block(Block::Plain("factor-uri", at.t("account-uri"), it.uri))
        .form(form, problem)
        .page()
}

/// Confirms it, and shows the recovery codes once.
pub(super) async fn confirm(viewer: Viewer, body: Bytes) -> Paged {
    let at = &viewer;
    let fields = Fields::parse(&body);
    let code: String = fields.get("code").split_whitespace().collect();
    let code = json!({ "code": code });
    match at
        .change(Method::POST, "/v1/me/totp/confirm", Some(&code), &fields)
        .await
    {
        Ok(answer) => {
            let codes: Recovery = part(answer.body)?;
            let codes = codes.recovery_codes.join("\n");
            Ok(Sheet::new(at, at.t("account-factor-there"))
                .block(Block::Sentence("warning", at.t("account-recovery-means")))
                .block(Block::Plain(
                    "recovery-codes",
                    at.t("account-recovery"),
                    codes,
                ))
                .block(Block::Links(vec![Link::to(at, "/account", "account")]))
                .page())
        }
        Err(problem) => {
            let again = Enrolled {
                secret: fields.get("secret").to_owned(),
                uri: fields.get("key").to_owned(),
            };
            Ok(to_confirm(at, again, Some(problem)))
        }
    }
}

/// Takes it away.
pub(super) async fn remove(viewer: Viewer, body: Bytes) -> Paged {
    let fields = Fields::parse(&body);
    let shown = json!({"password": raw(&fields, "password"), "code": fields.get("code")});
    let removed = viewer.change(Method::POST, "/v1/me/totp/remove", Some(&shown), &fields);
    match removed.await {
        Ok(_) => Ok(done(&viewer, "/account", "factor-removed")),
        Err(problem) => sheet(&viewer, Some(problem)).await,
    }
}
