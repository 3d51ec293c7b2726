//! One home: its members and its devices.

use axum::{
    body::Bytes,
    extract::{Path, RawQuery},
    http::Method,
};
use serde::Deserialize;
use serde_json::{Map, json};

use super::{
    super::{
        calls::part,
        confirm::Question,
        fields::{Fields, encode},
        fleet::page_of,
        page::{Failure, Paged, done},
        sheet::{Block, Cell, Form, Group, Input, Link, Sheet, Table, columns, of_tenant},
        viewer::Viewer,
    },
    Named,
};
use crate::api::Problem;

const ROLES: [&str; 3] = ["member", "administrator", "owner"];

/// A home.
#[derive(Debug, Deserialize)]
pub(super) struct HomeBody {
    pub(super) home: String,
    pub(super) name: String,
    tenant: Option<String>,
    pub(super) zone: String,
    pub(super) quiet: Option<Quiet>,
    created_at: String,
    people: Vec<Member>,
    things: Vec<Device>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Quiet {
    pub(super) from: String,
    pub(super) to: String,
}

#[derive(Debug, Deserialize)]
struct Member {
    user: String,
    role: String,
    added_at: String,
}

#[derive(Debug, Deserialize)]
struct Device {
    endpoint: String,
    name: Option<String>,
    automatic: bool,
    added_at: String,
}

/// The page.
pub(in crate::console) async fn show(
    viewer: Viewer,
    Path(home): Path<String>,
    RawQuery(query): RawQuery,
) -> Paged {
    sheet(&viewer, &Named::of(home, query), &Fields::default(), None).await
}

async fn sheet(at: &Viewer, named: &Named, entered: &Fields, problem: Option<Problem>) -> Paged {
    let it: HomeBody = at.get(&named.api("")).await?;
    let quiet = it.quiet.as_ref();
    let quiet = quiet.map(|it| at.t2("home-quiet-from-to", "from", &*it.from, "to", &*it.to));
    let mut facts = vec![
        (at.t("home-id"), Cell::Code(it.home.clone())),
        (at.t("zone"), Cell::Text(it.zone.clone())),
        (
            at.t("home-quiet"),
            Cell::Text(quiet.unwrap_or_else(|| at.t("home-quiet-none"))),
        ),
        (at.t("created"), Cell::Text(at.time(&it.created_at))),
    ];
    facts.extend(
        it.tenant
            .clone()
            .map(|tenant| (at.t("of-tenant"), Cell::Text(tenant))),
    );
    let sheet = Sheet::new(at, it.name.clone())
        .link(
            "set_home",
            Link::to(at, named.page("/change"), "home-change"),
        )
        .link(
            "delete_home",
            Link::to(at, named.page("/delete"), "home-delete").danger(),
        )
        .block(Block::Facts(facts))
        .block(Block::Heading(at.t("home-members")))
        .block(members(at, named, &it));
    let sheet = if at.may("set_home_member") {
        sheet.form(member_form(at, named, entered), problem)
    } else {
        sheet
    };
    let sheet = sheet
        .block(Block::Heading(at.t("the-devices")))
        .block(devices(at, named, &it));
    Ok(if at.may("set_home_device") {
        sheet.form(device_form(at, named, entered), None).page()
    } else {
        sheet.page()
    })
}

fn members(at: &Viewer, named: &Named, it: &HomeBody) -> Block {
    let removable = at.may("remove_home_member");
    let rows = it.people.iter().map(|it| {
        let mut row = vec![
            Cell::Text(it.user.clone()),
            Cell::Text(at.word("home-role", &it.role)),
            Cell::Text(at.time(&it.added_at)),
        ];
        if removable {
            let to = named.page(&format!("/members/{}/remove", encode(&it.user)));
            row.push(Cell::Link(at.t("home-take-out"), at.url(to)));
        }
        row
    });
    let mut heads = columns(at, &["home-user", "home-role", "home-since"]);
    heads.extend(removable.then(|| at.t("home-what")));
    Block::Table(Table {
        id: "members",
        label: at.t("home-members"),
        columns: heads,
        rows: rows.collect(),
        none: at.t("home-members-none"),
        renews: false,
    })
}

fn devices(at: &Viewer, named: &Named, it: &HomeBody) -> Block {
    let removable = at.may("remove_home_device");
    let rows = it.things.iter().map(|it| {
        let device = of_tenant(&page_of(&it.endpoint), Some(&named.tenant));
        let automatic = if it.automatic { "set-yes" } else { "set-no" };
        let mut row = vec![
            Cell::Link(it.endpoint.clone(), at.url(device)),
            Cell::maybe(it.name.clone()),
            Cell::Text(at.t(automatic)),
            Cell::Text(at.time(&it.added_at)),
        ];
        if removable {
            let to = named.page(&format!("/devices/{}/remove", encode(&it.endpoint)));
            row.push(Cell::Link(at.t("home-take-out"), at.url(to)));
        }
        row
    });
    let mut heads = columns(
        at,
        &[
            "the-device",
            "home-device-name",
            "home-automatic",
            "home-since",
        ],
    );
    heads.extend(removable.then(|| at.t("home-what")));
    Block::Table(Table {
        id: "devices",
        label: at.t("the-devices"),
        columns: heads,
        rows: rows.collect(),
        none: at.t("home-devices-none"),
        renews: false,
    })
}

fn member_form(at: &Viewer, named: &Named, entered: &Fields) -> Form {
    let roles = ROLES.map(|role| (role.to_owned(), at.word("home-role", role)));
    Form {
        action: at.url(named.page("/members")),
        groups: vec![Group::of(vec![
            Input::line("user", at.t("home-user"))
                .value(entered.get("user"))
                .required(),
            Input::choice("role", at.t("home-role"), roles.to_vec()).value(entered.get("role")),
        ])],
        button: at.t("home-set-member"),
        ..Form::default()
    }
}

fn device_form(at: &Viewer, named: &Named, entered: &Fields) -> Form {
    Form {
        action: at.url(named.page("/devices")),
        groups: vec![Group::of(vec![
            Input::line("endpoint", at.t("the-device"))
                .value(entered.get("endpoint"))
                .hint(at.t("home-device-hint"))
                .required(),
            Input::line("name", at.t("home-device-name")).value(entered.get("name")),
        ])],
        button: at.t("home-set-device"),
        ..Form::default()
    }
}

/// Adds a member, or gives one another role.
pub(in crate::console) async fn set_member(
    viewer: Viewer,
    Path(home): Path<String>,
    RawQuery(query): RawQuery,
    body: Bytes,
) -> Paged {
    let (named, fields) = (Named::of(home, query), Fields::parse(&body));
    let api = named.api(&format!("/members/{}", encode(fields.get("user"))));
    let member = json!({"role": fields.get("role")});
    match viewer
        .change(Method::PUT, &api, Some(&member), &fields)
        .await
    {
        Ok(_) => Ok(done(&viewer, &named.page(""), "home-member-set")),
        Err(problem) => sheet(&viewer, &named, &fields.entered(), Some(problem)).await,
    }
}

/// Adds a device, or calls one otherwise.
pub(in crate::console) async fn set_device(
    viewer: Viewer,
    Path(home): Path<String>,
    RawQuery(query): RawQuery,
    body: Bytes,
) -> Paged {
    let (named, fields) = (Named::of(home, query), Fields::parse(&body));
    let api = named.api(&format!("/devices/{}", encode(fields.get("endpoint"))));
    let mut device = Map::new();
    if let Some(name) = fields.some("name") {
        device.insert("name".to_owned(), name.into());
    }
    let device = device.into();
    match viewer
        .change(Method::PUT, &api, Some(&device), &fields)
        .await
    {
        Ok(_) => Ok(done(&viewer, &named.page(""), "home-device-set")),
        Err(problem) => sheet(&viewer, &named, &fields.entered(), Some(problem)).await,
    }
}

/// Asks.
pub(in crate::console) async fn ask_delete(
    viewer: Viewer,
    Path(home): Path<String>,
    RawQuery(query): RawQuery,
) -> Paged {
    delete_question(&viewer, &Named::of(home, query), None).await
}

async fn delete_question(at: &Viewer, named: &Named, problem: Option<Problem>) -> Paged {
    let read = at.read(&named.api("")).await?;
    let etag = read.etag();
    let it: HomeBody = part(read.body)?;
    let question = Question {
        at,
        title: at.t1("home-ask-delete", "name", it.name),
        means: vec![at.t2(
            "home-means-delete",
            "members",
            it.people.len(),
            "devices",
            it.things.len(),
        )],
        inputs: Vec::new(),
        hidden: vec![("etag", etag)],
        button: at.t("home-delete"),
        danger: true,
        action: at.url(named.page("/delete")),
        back: at.url(named.page("")),
        problem,
    };
    Ok(question.page())
}

/// Deletes it.
pub(in crate::console) async fn delete(
    viewer: Viewer,
    Path(home): Path<String>,
    RawQuery(query): RawQuery,
    body: Bytes,
) -> Paged {
    let (named, fields) = (Named::of(home, query), Fields::parse(&body));
    let api = named.api("");
    match viewer.change(Method::DELETE, &api, None, &fields).await {
        Ok(_) => Ok(done(&viewer, "/homes", "home-deleted")),
        Err(problem) => delete_question(&viewer, &named, Some(problem)).await,
    }
}

/// What is taken out of a home: `members` or `devices`.
fn below(kind: &str, name: &str) -> Result<(String, &'static str), Failure> {
    match kind {
        "members" => Ok((format!("/members/{}", encode(name)), "home-means-member")),
        "devices" => Ok((format!("/devices/{}", encode(name)), "home-means-device")),
        _ => Err(Problem::not_found(format!("a home has no {kind:?}")).into()),
    }
}

/// Asks.
pub(in crate::console) async fn ask_remove(
    viewer: Viewer,
    Path((home, kind, name)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
) -> Paged {
    remove_question(&viewer, &Named::of(home, query), (&kind, &name), None)
}

fn remove_question(
    at: &Viewer,
    named: &Named,
    (kind, name): (&str, &str),
    problem: Option<Problem>,
) -> Paged {
    let (behind, means) = below(kind, name)?;
    let question = Question {
        at,
        title: at.t2("home-ask-take-out", "name", name, "home", &*named.home),
        means: vec![at.t(means)],
        inputs: Vec::new(),
        hidden: Vec::new(),
        button: at.t("home-take-out"),
        danger: true,
        action: at.url(named.page(&format!("{behind}/remove"))),
        back: at.url(named.page("")),
        problem,
    };
    Ok(question.page())
}

/// Takes it out.
pub(in crate::console) async fn remove(
    viewer: Viewer,
    Path((home, kind, name)): Path<(String, String, String)>,
    RawQuery(query): RawQuery,
    body: Bytes,
) -> Paged {
    let (named, fields) = (Named::of(home, query), Fields::parse(&body));
    let api = named.api(&below(&kind, &name)?.0);
    match viewer.change(Method::DELETE, &api, None, &fields).await {
        Ok(_) => Ok(done(&viewer, &named.page(""), "home-taken-out")),
        Err(problem) => remove_question(&viewer, &named, (&kind, &name), Some(problem)),
    }
}
