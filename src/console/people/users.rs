//! The list of users, and a new one.

use axum::{body::Bytes, extract::RawQuery, http::Method};
use serde::Deserialize;
use serde_json::json;

use super::{
    super::{
        fields::{Fields, encode},
        listed::{Listed, Pager, query},
        login::raw,
        page::{Paged, done},
        sheet::{Block, Cell, Form, Group, Input, Link, Sheet, Table, columns},
        viewer::Viewer,
    },
    grants::{self, Grant},
    lists,
};
use crate::api::Problem;

/// What the pages take of a user.
#[derive(Debug, Deserialize)]
pub(super) struct User {
    pub(super) name: String,
    pub(super) grants: Vec<Grant>,
    pub(super) created_at: String,
    pub(super) created_by: String,
    pub(super) last_login_at: Option<String>,
    pub(super) second_factor: bool,
    pub(super) second_factor_required: bool,
    pub(super) disabled: bool,
    pub(super) identity: Option<Identity>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Identity {
    pub(super) issuer: String,
    pub(super) subject: String,
}

impl User {
    /// Whether the user is let in.
    pub(super) fn standing(&self, at: &Viewer) -> Cell {
        if self.disabled {
            Cell::Tag("bad", at.t("user-disabled"))
        } else {
            Cell::Tag("good", at.t("user-let-in"))
        }
    }

    /// How the user logs in.
    pub(super) fn factor(&self, at: &Viewer) -> String {
        at.t(
            match (
                &self.identity,
                self.second_factor,
                self.second_factor_required,
            ) {
                (Some(_), _, _) => "user-by-provider",
                (None, true, _) => "user-has-factor",
                (None, false, true) => "user-has-to-enrol",
                (None, false, false) => "user-password-alone",
            },
        )
    }
}

/// The page.
pub(in crate::console) async fn show(viewer: Viewer, RawQuery(given): RawQuery) -> Paged {
    let given = Fields::parse(given.unwrap_or_default().as_bytes());
    let path = format!("/v1/users?{}", query(&given, &[]));
    let users: Listed<User> = viewer.get(&path).await?;
    let pager = Pager::of(&viewer, "/people", &given, users.next_cursor.as_deref());
    let at = &viewer;
    let rows = users.items.into_iter().map(|it| {
        let path = format!("/people/users/{}", encode(&it.name));
        vec![
            Cell::Link(it.name.clone(), at.url(path)),
            it.standing(at),
            Cell::Lines(grants::told(at, &it.grants)),
            Cell::Text(it.factor(at)),
            Cell::Text(
                it.last_login_at
                    .map_or_else(|| at.t("not-yet"), |it| at.ago(&it)),
            ),
        ]
    });
    let heads = [
        "user-name",
        "user-standing",
        "grants",
        "user-logs-in",
        "user-last-login",
    ];
    let table = Table {
        id: "users",
        label: at.t("users"),
        columns: columns(at, &heads),
        rows: rows.collect(),
        none: at.t("users-none"),
        renews: true,
    };
    Ok(Sheet::new(at, at.t("menu-people"))
        .link("add_user", Link::to(at, "/people/new", "user-new").first())
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
        Input::line("name", at.t("user-name"))
            .value(entered.get("name"))
            .hint(at.t("plain-name-hint"))
            .required(),
        Input::secret("password", at.t("password"), "new-password")
            .hint(at.t("password-hint"))
            .required(),
    ])];
    groups.extend(grants::groups(at, entered).await?);
    let form = Form {
        action: at.url("/people/new"),
        groups,
        button: at.t("user-new"),
        ..Form::default()
    };
    Ok(Sheet::new(at, at.t("user-new")).form(form, problem).page())
}

/// Adds one.
pub(in crate::console) async fn add(viewer: Viewer, body: Bytes) -> Paged {
    let fields = Fields::parse(&body);
    let user = json!({
        "name": fields.get("name"),
        "password": raw(&fields, "password"),
        "grants": grants::read(&fields),
    });
    match viewer
        .change(Method::POST, "/v1/users", Some(&user), &fields)
        .await
    {
        Ok(_) => {
            let page = format!("/people/users/{}", encode(fields.get("name")));
            Ok(done(&viewer, &page, "user-added"))
        }
        Err(problem) => form(&viewer, &fields.entered(), Some(problem)).await,
    }
}
