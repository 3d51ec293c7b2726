//! One offer.

use axum::{body::Bytes, extract::Path, http::Method};
use serde::Deserialize;
use serde_json::Value;

use super::{
    super::{
        confirm::Question,
        fields::Fields,
        page::{Paged, done},
        sheet::{Block, Cell, Link, Sheet, Table, columns},
        viewer::Viewer,
    },
    list::standing,
    terms::{called, number_told},
};
use crate::api::Problem;

/// An offer.
#[derive(Debug, Deserialize)]
pub(super) struct Offer {
    tenant: Option<String>,
    package_id: i64,
    product: String,
    version: String,
    task_id: i64,
    published_at: String,
    withdrawn_at: Option<String>,
    pub(super) terms: Value,
}

#[derive(Debug, Deserialize)]
struct Task {
    name: String,
    total: u64,
    counts: std::collections::BTreeMap<String, u64>,
}

/// The page.
pub(in crate::console) async fn show(viewer: Viewer, Path(id): Path<i64>) -> Paged {
    let at = &viewer;
    let it: Offer = at.get(&format!("/v1/offers/{id}")).await?;
    let (package, task) = (it.package_id, it.task_id);
    let withdrawn = it.withdrawn_at.is_some();
    let name = format!("{} {}", it.product, it.version);
    let mut facts = vec![
        (at.t("offer-standing"), standing(at, withdrawn)),
        (
            at.t("package"),
            Cell::Link(name.clone(), at.url(format_args!("/packages/{package}"))),
        ),
        (
            at.t("offer-published"),
            Cell::Text(at.time(&it.published_at)),
        ),
    ];
    if let Some(time) = &it.withdrawn_at {
        facts.push((at.t("offer-withdrawn"), Cell::Text(at.time(time))));
    }
    facts.extend(
        it.tenant
            .clone()
            .map(|tenant| (at.t("of-tenant"), Cell::Text(tenant))),
    );
    if let Some(of) = at.look::<Task>(&format!("/v1/tasks/{task}")).await? {
        facts.push((
            at.t("offer-task"),
            Cell::Link(of.name, at.url(format_args!("/tasks/{task}"))),
        ));
        let succeeded = of.counts.get("succeeded").copied().unwrap_or_default();
        let (succeeded, total) = (at.n(succeeded), at.n(of.total));
        let of = at.t2("offer-started-of", "done", succeeded, "total", total);
        facts.push((at.t("offer-started"), Cell::Text(of)));
    }
    let mut sheet = Sheet::new(at, name);
    if !withdrawn {
        let change = Link::to(at, format_args!("/offers/{id}/change"), "offer-change");
        let withdraw = Link::to(at, format_args!("/offers/{id}/withdraw"), "offer-withdraw");
        sheet = sheet
            .link("update_offer", change)
            .link("withdraw_offer", withdraw.danger());
    }
    Ok(sheet
        .block(Block::Facts(facts))
        .block(Block::Heading(at.t("offer-terms")))
        .block(Block::Facts(terms(at, &it.terms)))
        .block(Block::Heading(at.t("offer-stages")))
        .block(stages(at, &it.terms))
        .page())
}

fn terms(at: &Viewer, terms: &Value) -> Vec<(String, Cell)> {
    let mut facts = Vec::new();
    for name in ["channel", "kind", "mode"] {
        let word = number_told(at, name, &terms[name].to_string());
        facts.push((called(at, name), Cell::Text(word)));
    }
    let conditions = &terms["conditions"];
    for (name, text) in [
        ("from", "offer-from"),
        ("battery_percent", "offer-battery"),
        ("rsrp_dbm", "offer-rsrp"),
    ] {
        match &conditions[name] {
            Value::Null => {}
            Value::Array(of) => {
                let of = of.iter().filter_map(Value::as_str).map(str::to_owned);
                facts.push((at.t(text), Cell::Lines(of.collect())));
            }
            other => facts.push((at.t(text), Cell::Text(other.to_string()))),
        }
    }
    for (text, said) in terms["texts"].as_object().into_iter().flatten() {
        let said = said.as_object().into_iter().flatten();
        let lines = said
            .map(|(language, said)| format!("{language}: {}", said.as_str().unwrap_or_default()));
        facts.push((at.word("offer-text", text), Cell::Lines(lines.collect())));
    }
    facts
}

/// To how many it is visible, and from when on.
fn stages(at: &Viewer, terms: &Value) -> Block {
    let row = |from: String, percent: &Value| {
        vec![Cell::Text(from), Cell::Number(format!("{percent} %"))]
    };
    let mut rows = vec![row(at.t("offer-at-first"), &terms["percent"])];
    for stage in terms["stages"].as_array().into_iter().flatten() {
        let from = at.time(stage["from"].as_str().unwrap_or_default());
        rows.push(row(from, &stage["percent"]));
    }
    Block::Table(Table {
        id: "stages",
        label: at.t("offer-stages"),
        columns: columns(at, &["offer-stage", "offer-percent"]),
        rows,
        none: String::new(),
        renews: false,
    })
}

/// Asks.
pub(in crate::console) async fn ask(viewer: Viewer, Path(id): Path<i64>) -> Paged {
    question(&viewer, id, None).await
}

async fn question(at: &Viewer, id: i64, problem: Option<Problem>) -> Paged {
    let it: Offer = at.get(&format!("/v1/offers/{id}")).await?;
    let question = Question {
        at,
        title: at.t2(
            "offer-ask-withdraw",
            "product",
            it.product,
            "version",
            it.version,
        ),
        means: vec![at.t("offer-means-withdraw")],
        inputs: Vec::new(),
        hidden: Vec::new(),
        button: at.t("offer-withdraw"),
        danger: true,
        action: at.url(format_args!("/offers/{id}/withdraw")),
        back: at.url(format_args!("/offers/{id}")),
        problem,
    };
    Ok(question.page())
}

/// Withdraws it.
pub(in crate::console) async fn withdraw(
    viewer: Viewer,
    Path(id): Path<i64>,
    body: Bytes,
) -> Paged {
    let fields = Fields::parse(&body);
    let path = format!("/v1/offers/{id}");
    match viewer.change(Method::DELETE, &path, None, &fields).await {
        Ok(_) => Ok(done(&viewer, &path["/v1".len()..], "offer-withdrawn")),
        Err(problem) => question(&viewer, id, Some(problem)).await,
    }
}
