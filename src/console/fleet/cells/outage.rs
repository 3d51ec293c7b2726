//! Tells that cells are out of order, or work again.

use std::collections::BTreeSet;

use askama::Template;
use axum::{
    body::Bytes,
    http::{Method, StatusCode},
    response::Response,
};
use serde_json::{Value, json};

use super::{super::several, operations::until};
use crate::{
    api::Problem,
    console::{
        confirm::Question,
        fields::Fields,
        page::{Paged, done, page_with, status},
        viewer::Viewer,
    },
};

#[derive(Template)]
#[template(path = "fleet/outage.html")]
struct OutagePage<'a> {
    at: &'a Viewer,
    fields: &'a Fields,
    problem: Option<&'a Problem>,
}

/// The form.
pub(super) async fn ask(viewer: Viewer) -> Response {
    form(&viewer, &Fields::default(), None)
}

fn form(at: &Viewer, fields: &Fields, problem: Option<&Problem>) -> Response {
    let shown = OutagePage {
        at,
        fields,
        problem,
    };
    page_with(problem.map_or(StatusCode::OK, status), &shown)
}

/// Asks back, and tells it when that was answered.
pub(super) async fn report(viewer: Viewer, body: Bytes) -> Paged {
    let fields = Fields::parse(&body);
    let told = async {
        let (cells, outage) = outage(&viewer, &fields)?;
        if !fields.ticked("sure") {
            return Ok(Some(question(&viewer, &fields, &cells)));
        }
        let told = viewer.change(Method::POST, "/v1/outages", Some(&outage), &fields);
        told.await.map(|_| None)
    };
    match told.await {
        Ok(Some(question)) => Ok(question),
        Ok(None) => Ok(done(&viewer, "/cells", "outage-told")),
        Err(problem) => Ok(form(&viewer, &fields.entered(), Some(&problem))),
    }
}

fn outage(at: &Viewer, fields: &Fields) -> Result<(Vec<u32>, Value), Problem> {
    let cells = several(fields.get("cells"));
    let cells = cells.iter().map(|cell| {
        let number = cell.parse::<u32>();
        number.map_err(|_| Problem::field("cells", format!("{cell:?} is no number of a cell")))
    });
    // one that is named twice is one cell
    let cells = cells.collect::<Result<BTreeSet<u32>, _>>()?;
    let cells: Vec<u32> = cells.into_iter().collect();
    let outage = if fields.ticked("over") {
        json!({"cells": cells, "over": true})
    } else {
        let until = until(at, fields)?;
        json!({"cells": cells, "closed_until": until, "reason": fields.get("reason")})
    };
    Ok((cells, outage))
}

fn question(at: &Viewer, fields: &Fields, cells: &[u32]) -> Response {
    let names = ["cells", "until", "reason", "over"];
    let hidden = names.map(|name| (name, fields.get(name).to_owned()));
    let hidden = hidden.into_iter().chain([("sure", "1".to_owned())]);
    let over = fields.ticked("over");
    let (title, means) = if over {
        ("outage-ask-over", "outage-means-over")
    } else {
        ("outage-ask", "cell-means-close")
    };
    let question = Question {
        at,
        title: at.say(title, &[("count", cells.len().into())]),
        means: vec![at.say(means, &[])],
        inputs: Vec::new(),
        hidden: hidden.filter(|(_, value)| !value.is_empty()).collect(),
        button: at.t("outage-tell"),
        danger: !over,
        action: at.url("/cells/outage"),
        back: at.url("/cells"),
        problem: None,
    };
    question.page()
}
