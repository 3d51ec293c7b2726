//! Whom a vulnerability concerns, and who was reached.

use std::collections::BTreeMap;

use axum::{Router, extract::RawQuery, http::Method, routing::get};
use serde::Deserialize;

use super::{
    Console,
    calls::Calls,
    chart,
    fields::{Fields, encode},
    listed::{Listed, Pager, query},
    page::{Failure, Paged},
    sheet::{Block, Cell, Form, Group, Input, Link, Sheet, Table, columns},
    viewer::Viewer,
};

const STANDINGS: [&str; 3] = ["affected", "unknown", "mended"];

/// The pages below `/evidence`.
pub(super) fn routes() -> Router<Console> {
    Router::new()
        .route("/evidence", get(show))
        .route("/evidence/export", get(export))
}

#[derive(Debug, Deserialize)]
struct Counted {
    counts: Counts,
    products: Vec<Product>,
}

#[derive(Debug, Deserialize)]
struct Counts {
    devices: u64,
    mended: u64,
    affected: u64,
    unknown: u64,
    why: BTreeMap<String, u64>,
}

#[derive(Debug, Deserialize)]
struct Product {
    product: String,
    mended_by: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Device {
    endpoint: String,
    product: String,
    tenant: Option<String>,
    version: Option<String>,
    standing: String,
    why: String,
    reached: Option<Reached>,
}

#[derive(Debug, Deserialize)]
struct Reached {
    at: String,
    task_name: String,
}

/// The page: a form, and what is known of the vulnerability that was entered.
async fn show(viewer: Viewer, RawQuery(given): RawQuery) -> Paged {
    let given = Fields::parse(given.unwrap_or_default().as_bytes());
    let at = &viewer;
    let mut sheet = Sheet::new(at, at.t("evidence"));
    let Some(cve) = given.some("cve") else {
        return Ok(sheet.form(choice(at, &given), None).page());
    };
    let path = format!("/v1/evidence/count?cve={}", encode(cve));
    let counted = match at.get::<Counted>(&path).await {
        Ok(counted) => counted,
        Err(Failure(problem)) if matches!(problem.status, 400 | 404 | 422) => {
            return Ok(sheet.form(choice(at, &given), Some(problem)).page());
        }
        Err(failure) => return Err(failure),
    };
    let path = format!("/v1/evidence?{}", query(&given, &["cve", "standing"]));
    let devices: Listed<Device> = at.get(&path).await?;
    let pager = Pager::of(at, "/evidence", &given, devices.next_cursor.as_deref());
    for (format, text) in [("csv", "evidence-csv"), ("json", "evidence-json")] {
        let to = format!("/evidence/export?cve={}&format={format}", encode(cve));
        sheet = sheet.link("export_evidence", Link::to(at, to, text));
    }
    let heads = [
        "the-device",
        "of-product",
        "package-version",
        "evidence-standing",
        "evidence-why",
        "evidence-reached",
    ];
    let table = Table {
        id: "evidence",
        label: at.t("evidence"),
        columns: columns(at, &heads),
        rows: devices.items.into_iter().map(|it| row(at, it)).collect(),
        none: at.t("evidence-none"),
        renews: false,
    };
    Ok(sheet
        .form(choice(at, &given), None)
        .blocks(summary(at, &counted))
        .block(Block::Table(table))
        .block(Block::Pager(pager))
        .page())
}

fn choice(at: &Viewer, given: &Fields) -> Form {
    let mut standings = vec![(String::new(), at.t("any-of-them"))];
    standings.extend(STANDINGS.map(|it| (it.to_owned(), at.word("evidence-standing", it))));
    Form {
        action: at.url("/evidence"),
        groups: vec![Group::of(vec![
            Input::line("cve", at.t("evidence-cve"))
                .value(given.get("cve"))
                .hint(at.t("evidence-cve-hint"))
                .required(),
            Input::choice("standing", at.t("evidence-standing"), standings)
                .value(given.get("standing")),
        ])],
        button: at.t("show-these"),
        looks: true,
        ..Form::default()
    }
}

/// The numbers, and which versions mend it.
fn summary(at: &Viewer, it: &Counted) -> Vec<Block> {
    let counts = &it.counts;
    let bar = chart::bar(&[
        ("good", counts.mended),
        ("bad", counts.affected),
        ("rest", counts.unknown),
    ]);
    let mut facts = vec![(at.t("the-devices"), Cell::Text(at.n(counts.devices)))];
    for (standing, count) in [
        ("mended", counts.mended),
        ("affected", counts.affected),
        ("unknown", counts.unknown),
    ] {
        let name = at.word("evidence-standing", standing);
        facts.push((name, Cell::Text(at.n(count))));
    }
    let why = counts.why.iter().map(|(why, count)| {
        let name = at.word("evidence-why", why);
        (name, Cell::Text(at.n(count)))
    });
    let mended = it.products.iter().map(|it| {
        let versions = it.mended_by.join(", ");
        (it.product.clone(), Cell::Text(versions))
    });
    vec![
        Block::Picture(bar),
        Block::Facts(facts),
        Block::Heading(at.t("evidence-reasons")),
        Block::Facts(why.collect()),
        Block::Heading(at.t("evidence-mended-by")),
        Block::Facts(mended.collect()),
        Block::Heading(at.t("the-devices")),
    ]
}

fn row(at: &Viewer, it: Device) -> Vec<Cell> {
    let class = match &*it.standing {
        "mended" => "good",
        "affected" => "bad",
        _ => "",
    };
    let device =
        super::sheet::of_tenant(&super::fleet::page_of(&it.endpoint), it.tenant.as_deref());
    let reached = it.reached.map(|it| vec![at.time(&it.at), it.task_name]);
    vec![
        Cell::Link(it.endpoint, at.url(device)),
        Cell::Text(it.product),
        Cell::maybe(it.version),
        Cell::Tag(class, at.word("evidence-standing", &it.standing)),
        Cell::Text(at.word("evidence-why", &it.why)),
        reached.map_or(Cell::None, Cell::Lines),
    ]
}

/// All of it, signed.
async fn export(viewer: Viewer, RawQuery(given): RawQuery) -> Paged {
    let given = Fields::parse(given.unwrap_or_default().as_bytes());
    let (cve, format) = (encode(given.get("cve")), encode(given.get("format")));
    let path = format!("/v1/evidence/export?cve={cve}&format={format}");
    let request = Calls::request(Method::GET, &path, None)?;
    Ok(viewer.console.calls.send(&viewer.behalf, request).await?)
}
