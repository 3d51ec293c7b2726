//! One user: what it is granted, its password, its second factor.

use axum::{body::Bytes, extract::Path, http::Method};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    super::{
        calls::part,
        confirm::Question,
        fields::{Fields, encode},
        login::raw,
        page::{Failure, Paged, done},
        sheet::{Block, Cell, Form, Group, Input, Link, Sheet},
        viewer::Viewer,
    },
    grants, is_sent_again, not_shown,
    users::User,
};
use crate::api::Problem;

/// A link that lets a user in once.
#[derive(Debug, Deserialize)]
struct LoginLink {
    path: String,
}

fn api(name: &str) -> String {
    format!("/v1/users/{}", encode(name))
}

fn place(name: &str) -> String {
    format!("/people/users/{}", encode(name))
}

/// The page.
pub(in crate::console) async fn show(viewer: Viewer, Path(name): Path<String>) -> Paged {
    sheet(&viewer, &name, None, None).await
}

async fn sheet(
    at: &Viewer,
    name: &str,
    entered: Option<&Fields>,
    problem: Option<Problem>,
) -> Paged {
    let it: User = at.get(&api(name)).await?;
    let mut facts = vec![
        (at.t("user-standing"), it.standing(at)),
        (at.t("grants"), Cell::Lines(grants::told(at, &it.grants))),
        (at.t("user-logs-in"), Cell::Text(it.factor(at))),
        (at.t("created"), Cell::Text(at.time(&it.created_at))),
        (at.t("created-by"), Cell::Text(it.created_by.clone())),
    ];
    if let Some(identity) = &it.identity {
        let lines = vec![identity.issuer.clone(), identity.subject.clone()];
        facts.push((at.t("user-identity"), Cell::Lines(lines)));
    }
    let last = it.last_login_at.as_deref();
    let last = last.map_or_else(|| at.t("not-yet"), |last| at.time(last));
    facts.push((at.t("user-last-login"), Cell::Text(last)));
    let page = place(name);
    let mut sheet = Sheet::new(at, it.name.clone()).block(Block::Facts(facts));
    if at.may("update_user") {
        let (operation, text) = if it.disabled {
            ("enable", "user-enable")
        } else {
            ("disable", "user-disable")
        };
        sheet = sheet.link(
            "update_user",
            Link::to(at, format!("{page}/{operation}"), text),
        );
    }
    if it.second_factor {
        let to = format!("{page}/remove-factor");
        let link = Link::to(at, to, "user-remove-factor").danger();
        sheet = sheet.link("remove_user_totp", link);
    }
    if it.identity.is_none() && !it.disabled {
        let link = Link::to(at, format!("{page}/login-link"), "user-login-link");
        sheet = sheet.link("add_login_link", link);
    }
    let remove = Link::to(at, format!("{page}/remove"), "user-remove").danger();
    sheet = sheet.link("remove_user", remove);
    if it.identity.is_none() && at.may("update_user") {
        let own = Fields(own_fields(&it));
        sheet = forms(sheet, at, name, entered.unwrap_or(&own), problem).await?;
    }
    Ok(sheet.page())
}

/// What the form for grants has as long as nobody has entered anything.
fn own_fields(it: &User) -> Vec<(String, String)> {
    let mut fields = grants::entered(&it.grants);
    if it.second_factor_required {
        fields.push(("required".to_owned(), "1".to_owned()));
    }
    fields
}

async fn forms<'a>(
    sheet: Sheet<'a>,
    at: &'a Viewer,
    name: &str,
    entered: &Fields,
    problem: Option<Problem>,
) -> Result<Sheet<'a>, Failure> {
    let page = place(name);
    let mut groups = grants::groups(at, entered).await?;
    groups.push(Group::of(vec![
        Input::tick("required", at.t("user-factor-required")).ticked(entered.ticked("required")),
    ]));
    let granted = Form {
        action: at.url(&page),
        groups,
        button: at.t("user-change-grants"),
        ..Form::default()
    };
    let password = Form {
        action: at.url(format_args!("{page}/password")),
        groups: vec![Group::of(vec![
            Input::secret("password", at.t("password-new"), "new-password")
                .hint(at.t("password-hint"))
                .required(),
        ])],
        button: at.t("user-set-password"),
        ..Form::default()
    };
    Ok(sheet
        .block(Block::Heading(at.t("grants")))
        .form(granted, problem)
        .block(Block::Heading(at.t("password")))
        .block(Block::Sentence("hint", at.t("user-password-means")))
        .form(password, None))
}

/// Changes what the user is granted.
pub(in crate::console) async fn change(
    viewer: Viewer,
    Path(name): Path<String>,
    body: Bytes,
) -> Paged {
    let fields = Fields::parse(&body);
    let change = json!({
        "grants": grants::read(&fields),
        "second_factor_required": fields.ticked("required"),
    });
    match viewer
        .change(Method::PATCH, &api(&name), Some(&change), &fields)
        .await
    {
        Ok(_) => Ok(done(&viewer, &place(&name), "user-changed")),
        Err(problem) => sheet(&viewer, &name, Some(&fields.entered()), Some(problem)).await,
    }
}

/// Gives the user another password.
pub(in crate::console) async fn change_password(
    viewer: Viewer,
    Path(name): Path<String>,
    body: Bytes,
) -> Paged {
    let fields = Fields::parse(&body);
    let change = json!({"password": raw(&fields, "password")});
    match viewer
        .change(Method::PATCH, &api(&name), Some(&change), &fields)
        .await
    {
        Ok(_) => Ok(done(&viewer, &place(&name), "user-password")),
        Err(problem) => sheet(&viewer, &name, None, Some(problem)).await,
    }
}

/// What is asked back. The texts: `user-ask-…`, `user-means-…`, `user-…`, `done-user-…`.
struct Operation {
    name: &'static str,
    method: Method,
    behind: &'static str,
    change: Option<Value>,
    danger: bool,
    ask: &'static str,
    means: &'static str,
    button: &'static str,
}

fn named(name: &str) -> Result<Operation, Failure> {
    let change = |disabled: bool| Operation {
        name: if disabled { "disable" } else { "enable" },
        method: Method::PATCH,
        behind: "",
        change: Some(json!({"disabled": disabled})),
        danger: disabled,
        ask: if disabled {
            "user-ask-disable"
        } else {
            "user-ask-enable"
        },
        means: if disabled {
            "user-means-disable"
        } else {
            "user-means-enable"
        },
        button: if disabled {
            "user-disable"
        } else {
            "user-enable"
        },
    };
    match name {
        "disable" => Ok(change(true)),
        "enable" => Ok(change(false)),
        "remove" => Ok(Operation {
            name: "remove",
            method: Method::DELETE,
            behind: "",
            change: None,
            danger: true,
            ask: "user-ask-remove",
            means: "user-means-remove",
            button: "user-remove",
        }),
        "remove-factor" => Ok(Operation {
            name: "remove-factor",
            method: Method::DELETE,
            behind: "/totp",
            change: None,
            danger: true,
            ask: "user-ask-remove-factor",
            means: "user-means-remove-factor",
            button: "user-remove-factor",
        }),
        "login-link" => Ok(Operation {
            name: "login-link",
            method: Method::POST,
            behind: "/login-link",
            change: None,
            danger: false,
            ask: "user-ask-login-link",
            means: "user-means-login-link",
            button: "user-login-link",
        }),
        other => Err(Problem::not_found(format!("nothing is called {other:?} here")).into()),
    }
}

/// Asks.
pub(in crate::console) async fn ask(
    viewer: Viewer,
    Path((name, operation)): Path<(String, String)>,
) -> Paged {
    question(&viewer, &name, &named(&operation)?, None).await
}

async fn question(
    at: &Viewer,
    name: &str,
    operation: &Operation,
    problem: Option<Problem>,
) -> Paged {
    let user: User = at.get(&api(name)).await?;
    let question = Question {
        at,
        title: at.t1(operation.ask, "name", &*user.name),
        means: vec![at.t(operation.means)],
        inputs: Vec::new(),
        hidden: Vec::new(),
        button: at.t(operation.button),
        danger: operation.danger,
        action: at.url(format_args!("{}/{}", place(name), operation.name)),
        back: at.url(place(name)),
        problem,
    };
    Ok(question.page())
}

/// Does it.
pub(in crate::console) async fn carry_out(
    viewer: Viewer,
    Path((name, operation)): Path<(String, String)>,
    body: Bytes,
) -> Paged {
    let operation = named(&operation)?;
    let fields = Fields::parse(&body);
    let path = format!("{}{}", api(&name), operation.behind);
    let change = operation.change.as_ref();
    let changed = viewer.change(operation.method.clone(), &path, change, &fields);
    match changed.await {
        Ok(answer) if operation.name == "login-link" => {
            let link: LoginLink = part(answer.body)?;
            Ok(Sheet::new(&viewer, viewer.t("user-login-link"))
                .block(Block::Sentence("warning", viewer.t("shown-once")))
                .block(Block::Plain("link", viewer.t("user-link-path"), link.path))
                .block(Block::Links(vec![Link::to(
                    &viewer,
                    place(&name),
                    "user-show",
                )]))
                .page())
        }
        Ok(_) => {
            let page = match operation.name {
                "remove" => "/people".to_owned(),
                _ => place(&name),
            };
            Ok(done(&viewer, &page, &format!("user-{}", operation.name)))
        }
        Err(problem) if operation.name == "login-link" && is_sent_again(&problem) => {
            let link = Link::to(&viewer, place(&name), "user-show");
            let title = viewer.t("user-login-link");
            Ok(not_shown(&viewer, title, "link-not-shown", link))
        }
        Err(problem) => question(&viewer, &name, &operation, Some(problem)).await,
    }
}
