//! Tokens of the API. A token is shown once.

use axum::{
    body::Bytes,
    extract::{Path, RawQuery},
    http::Method,
};
use serde::Deserialize;
use serde_json::json;

use super::{
    super::{
        calls::part,
        confirm::Question,
        fields::Fields,
        listed::{Listed, Pager, query},
        page::{Paged, done},
        sheet::{Block, Cell, Form, Group, Input, Link, Sheet, Table, columns},
        viewer::Viewer,
    },
    grants::{self, Grant},
    is_sent_again, lists, not_shown,
};
use crate::api::Problem;

#[derive(Debug, Deserialize)]
struct Token {
    id: i64,
    name: String,
    grants: Vec<Grant>,
    created_by: String,
    created_at: String,
    expires_at: Option<String>,
    expired: bool,
    last_used_at: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Added {
    name: String,
    token: String,
}

/// The page.
pub(in crate::console) async fn show(viewer: Viewer, RawQuery(given): RawQuery) -> Paged {
    let given = Fields::parse(given.unwrap_or_default().as_bytes());
    let path = format!("/v1/tokens?{}", query(&given, &[]));
    let tokens: Listed<Token> = viewer.get(&path).await?;
    let next = tokens.next_cursor.as_deref();
    let pager = Pager::of(&viewer, "/people/tokens", &given, next);
    let at = &viewer;
    let revocable = at.may("revoke_token");
    let row = |it: Token| {
        let ends = match (&it.expires_at, it.expired) {
            (Some(_), true) => Cell::Tag("bad", at.t("token-expired")),
            (Some(ends), false) => Cell::Text(at.time(ends)),
            (None, _) => Cell::Text(at.t("token-no-end")),
        };
        let used = it
            .last_used_at
            .map_or_else(|| at.t("not-yet"), |it| at.ago(&it));
        let mut row = vec![
            Cell::Text(it.name),
            Cell::Lines(grants::told(at, &it.grants)),
            ends,
            Cell::Text(used),
            Cell::Lines(vec![at.time(&it.created_at), it.created_by]),
        ];
        if revocable {
            let to = at.url(format_args!("/people/tokens/{}/revoke", it.id));
            row.push(Cell::Link(at.t("token-revoke"), to));
        }
        row
    };
    let heads = [
        "token-name",
        "grants",
        "token-ends",
        "token-used",
        "created",
    ];
    let mut heads = columns(at, &heads);
    heads.extend(revocable.then(|| at.t("token-what")));
    let table = Table {
        id: "tokens",
        label: at.t("tokens"),
        columns: heads,
        rows: tokens.items.into_iter().map(row).collect(),
        none: at.t("tokens-none"),
        renews: true,
    };
    Ok(Sheet::new(at, at.t("tokens"))
        .link(
            "add_token",
            Link::to(at, "/people/tokens/new", "token-new").first(),
        )
        .block(lists(at))
        .block(Block::Table(table))
        .block(Block::Pager(pager))
        .page())
}

/// The form.
pub(in crate::console) async fn show_new(viewer: Viewer) -> Paged {
    form(&viewer, &Fields::default(), None).await
}

async fn form(at: &Viewer, entered: &Fields, problem: Option<Problem>) -> Paged {
    let mut groups = vec![Group::of(vec![
        Input::line("name", at.t("token-name"))
            .value(entered.get("name"))
            .hint(at.t("plain-name-hint"))
            .required(),
        Input::typed("expires_at", at.t("token-ends"), "datetime-local")
            .value(entered.get("expires_at"))
            .hint(at.t("token-ends-hint")),
    ])];
    groups.extend(grants::groups(at, entered).await?);
    let form = Form {
        action: at.url("/people/tokens/new"),
        groups,
        button: at.t("token-new"),
        ..Form::default()
    };
    Ok(Sheet::new(at, at.t("token-new")).form(form, problem).page())
}

/// Adds one, and shows it.
pub(in crate::console) async fn add(viewer: Viewer, body: Bytes) -> Paged {
    let at = &viewer;
    let fields = Fields::parse(&body);
    let mut token = json!({"name": fields.get("name"), "grants": grants::read(&fields)});
    if let Some(ends) = fields.some("expires_at") {
        // what is no time goes on as it is: the API says so
        let ends = at.zone.of_input(ends).unwrap_or_else(|| ends.to_owned());
        token["expires_at"] = ends.into();
    }
    match at
        .change(Method::POST, "/v1/tokens", Some(&token), &fields)
        .await
    {
        Ok(answer) => {
            let added: Added = part(answer.body)?;
            Ok(Sheet::new(at, at.t1("token-added", "name", added.name))
                .block(Block::Sentence("warning", at.t("shown-once")))
                .block(Block::Plain("token", at.t("token"), added.token))
                .block(Block::Links(vec![Link::to(at, "/people/tokens", "tokens")]))
                .page())
        }
        Err(problem) if is_sent_again(&problem) => {
            let link = Link::to(at, "/people/tokens", "tokens");
            Ok(not_shown(at, at.t("token-new"), "secret-not-shown", link))
        }
        Err(problem) => form(at, &fields.entered(), Some(problem)).await,
    }
}

/// Asks.
pub(in crate::console) async fn ask(viewer: Viewer, Path(id): Path<i64>) -> Paged {
    question(&viewer, id, None).await
}

async fn question(at: &Viewer, id: i64, problem: Option<Problem>) -> Paged {
    let it: Token = at.get(&format!("/v1/tokens/{id}")).await?;
    let question = Question {
        at,
        title: at.t1("token-ask-revoke", "name", it.name),
        means: vec![at.t("token-means-revoke")],
        inputs: Vec::new(),
        hidden: Vec::new(),
        button: at.t("token-revoke"),
        danger: true,
        action: at.url(format_args!("/people/tokens/{id}/revoke")),
        back: at.url("/people/tokens"),
        problem,
    };
    Ok(question.page())
}

/// Revokes it.
pub(in crate::console) async fn revoke(viewer: Viewer, Path(id): Path<i64>, body: Bytes) -> Paged {
    let fields = Fields::parse(&body);
    let path = format!("/v1/tokens/{id}");
    match viewer.change(Method::DELETE, &path, None, &fields).await {
        Ok(_) => Ok(done(&viewer, "/people/tokens", "token-revoked")),
        Err(problem) => question(&viewer, id, Some(problem)).await,
    }
}
