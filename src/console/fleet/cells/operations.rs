//! Closes a cell, or opens it.

use axum::{body::Bytes, extract::Path, http::Method, response::Response};
use serde_json::{Value, json};

use super::{edit::concerned, tagged};
use crate::{
    api::Problem,
    console::{
        confirm::{Input, Question},
        fields::Fields,
        page::{Failure, Paged, done},
        viewer::Viewer,
    },
};

/// What stands for a closing without end.
pub(super) const FURTHER_NOTICE: &str = "further_notice";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Close,
    Open,
}

fn named(name: &str) -> Result<Operation, Failure> {
    match name {
        "close" => Ok(Operation::Close),
        "open" => Ok(Operation::Open),
        _ => Err(Failure(Problem::not_found(format!(
            "nothing is called {name:?} here"
        )))),
    }
}

/// Asks.
pub(super) async fn ask(viewer: Viewer, Path((id, name)): Path<(u32, String)>) -> Paged {
    let operation = named(&name)?;
    question(&viewer, id, operation, &Fields::default(), None).await
}

async fn question(
    at: &Viewer,
    id: u32,
    operation: Operation,
    fields: &Fields,
    problem: Option<Problem>,
) -> Result<Response, Failure> {
    let found = tagged(at, id).await?;
    let etag = found.map_or_else(|| "\"0\"".to_owned(), |(_, etag)| etag);
    let cell = id.to_string();
    let closes = operation == Operation::Close;
    let [title, means, button, name] = if closes {
        [
            at.t1("cell-ask-close", "cell", cell),
            at.t("cell-means-close"),
            at.t("cell-close"),
            "close".to_owned(),
        ]
    } else {
        [
            at.t1("cell-ask-open", "cell", cell),
            at.t("cell-means-open"),
            at.t("cell-open"),
            "open".to_owned(),
        ]
    };
    let question = Question {
        at,
        title,
        means: vec![means, concerned(at, id).await?],
        inputs: if closes {
            inputs(at, fields)
        } else {
            Vec::new()
        },
        hidden: vec![("etag", etag)],
        button,
        danger: closes,
        action: at.url(format_args!("/cells/{id}/{name}")),
        back: at.url(format_args!("/cells/{id}")),
        problem,
    };
    Ok(question.page())
}

fn inputs(at: &Viewer, fields: &Fields) -> Vec<Input> {
    let input = |name, label: &str, kind, required| Input {
        name,
        label: at.t(label),
        value: fields.get(name).to_owned(),
        kind,
        required,
    };
    vec![
        input("until", "fleet-closed-until", "datetime-local", false),
        input("reason", "fleet-reason", "text", true),
    ]
}

/// Until when it is closed: without a time until further notice.
pub(super) fn until(at: &Viewer, fields: &Fields) -> Result<String, Problem> {
    match fields.some("until") {
        None => Ok(FURTHER_NOTICE.to_owned()),
        Some(text) => {
            let until = at.zone.of_input(text);
            until.ok_or_else(|| Problem::field("until", format!("{text:?} is no time")))
        }
    }
}

/// Does it.
pub(super) async fn carry_out(
    viewer: Viewer,
    Path((id, name)): Path<(u32, String)>,
    body: Bytes,
) -> Paged {
    let operation = named(&name)?;
    let fields = Fields::parse(&body);
    let changed = async {
        let update = match operation {
            Operation::Close => {
                let until = until(&viewer, &fields)?;
                json!({"closed_until": until, "reason": fields.get("reason")})
            }
            Operation::Open => json!({"closed_until": Value::Null}),
        };
        let path = format!("/v1/cells/{id}");
        viewer
            .change(Method::PATCH, &path, Some(&update), &fields)
            .await
    };
    let what = match operation {
        Operation::Close => "cell-closed",
        Operation::Open => "cell-opened",
    };
    match changed.await {
        Ok(_) => Ok(done(&viewer, &format!("/cells/{id}"), what)),
        Err(problem) => question(&viewer, id, operation, &fields, Some(problem)).await,
    }
}
