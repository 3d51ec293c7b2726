//! What is done with one upgrade. Each is asked back first.

use axum::{
    body::Bytes,
    extract::{Path, RawQuery},
    http::{Method, StatusCode},
    response::Response,
};
use serde_json::{Map, Value};

use super::{
    super::{
        confirm::{Input, Question},
        fields::Fields,
        page::{Failure, Paged, done},
        viewer::Viewer,
    },
    Upgrade,
};
use crate::api::Problem;

/// An operation on an upgrade.
struct Deed {
    /// As the address has it.
    name: &'static str,
    /// As the API calls it, and the end of its path.
    operation: &'static str,
    path: &'static str,
    danger: bool,
    /// The texts: the question, what it means, the button, and `done-…` afterwards.
    ask: &'static str,
    means: &'static str,
    button: &'static str,
    done: &'static str,
}

const OPERATIONS: [Deed; 6] = [
    Deed {
        name: "cancel",
        operation: "cancel_upgrade",
        path: "cancel",
        danger: true,
        ask: "upgrade-ask-cancel",
        means: "upgrade-means-cancel",
        button: "upgrade-cancel",
        done: "upgrade-cancel",
    },
    Deed {
        name: "retry",
        operation: "retry_upgrade",
        path: "retry",
        danger: false,
        ask: "upgrade-ask-retry",
        means: "upgrade-means-retry",
        button: "upgrade-retry",
        done: "upgrade-retry",
    },
    Deed {
        name: "skip",
        operation: "skip_upgrade",
        path: "skip",
        danger: true,
        ask: "upgrade-ask-skip",
        means: "upgrade-means-skip",
        button: "upgrade-skip",
        done: "upgrade-skip",
    },
    Deed {
        name: "confirm",
        operation: "confirm_upgrade",
        path: "confirm",
        danger: false,
        ask: "upgrade-ask-confirm",
        means: "upgrade-means-confirm",
        button: "upgrade-confirm",
        done: "upgrade-confirm",
    },
    Deed {
        name: "refuse",
        operation: "confirm_upgrade",
        path: "confirm",
        danger: true,
        ask: "upgrade-ask-refuse",
        means: "upgrade-means-refuse",
        button: "upgrade-refuse",
        done: "upgrade-refuse",
    },
    Deed {
        name: "take-back",
        operation: "confirm_upgrade",
        path: "confirm",
        danger: false,
        ask: "upgrade-ask-take-back",
        means: "upgrade-means-take-back",
        button: "upgrade-take-back",
        done: "upgrade-take-back",
    },
];

fn named(viewer: &Viewer, name: &str) -> Result<&'static Deed, Failure> {
    let found = OPERATIONS.iter().find(|operation| operation.name == name);
    let missing = || Problem::not_found(format!("nothing is called {name:?} here"));
    let found = found.ok_or_else(|| Failure(missing()))?;
    if viewer.may(found.operation) {
        return Ok(found);
    }
    let path = format!("/upgrades/…/{name}");
    let status = StatusCode::FORBIDDEN;
    let problem = Problem::of_status(status, &Method::POST, &path, "the menu");
    Err(Failure(problem))
}

/// Asks.
pub(super) async fn ask(
    viewer: Viewer,
    Path((id, name)): Path<(i64, String)>,
    RawQuery(given): RawQuery,
) -> Paged {
    let operation = named(&viewer, &name)?;
    let given = Fields::parse(given.unwrap_or_default().as_bytes());
    question(&viewer, id, operation, &given, None).await
}

async fn question(
    viewer: &Viewer,
    id: i64,
    operation: &Deed,
    given: &Fields,
    problem: Option<Problem>,
) -> Result<Response, Failure> {
    let upgrade: Upgrade = viewer.get(&format!("/v1/upgrades/{id}")).await?;
    let input = |name: &'static str, label: &str, kind: &'static str| Input {
        name,
        label: viewer.t(label),
        value: given.get(name).to_owned(),
        kind,
        required: false,
    };
    let inputs = match operation.name {
        "confirm" => vec![
            input("by", "confirm-by", "text"),
            input("at", "confirm-at", "datetime-local"),
        ],
        "refuse" | "take-back" => vec![input("by", "confirm-by", "text")],
        _ => Vec::new(),
    };
    let question = Question {
        at: viewer,
        title: viewer.t1(operation.ask, "device", &*upgrade.endpoint),
        means: vec![viewer.t(operation.means)],
        inputs,
        hidden: Vec::new(),
        button: viewer.t(operation.button),
        danger: operation.danger,
        action: viewer.url(format_args!("/upgrades/{id}/{}", operation.name)),
        back: viewer.url(format_args!("/upgrades/{id}")),
        problem,
    };
    Ok(question.page())
}

/// Does it.
pub(super) async fn carry_out(
    viewer: Viewer,
    Path((id, name)): Path<(i64, String)>,
    body: Bytes,
) -> Paged {
    let operation = named(&viewer, &name)?;
    let fields = Fields::parse(&body);
    match send(&viewer, id, operation, &fields).await {
        Ok(()) => Ok(done(&viewer, &format!("/upgrades/{id}"), operation.done)),
        Err(problem) => question(&viewer, id, operation, &fields, Some(problem)).await,
    }
}

async fn send(viewer: &Viewer, id: i64, operation: &Deed, fields: &Fields) -> Result<(), Problem> {
    let path = format!("/v1/upgrades/{id}/{}", operation.path);
    let body = match operation.path {
        "confirm" => Some(confirmation(viewer, operation.name, fields)?),
        _ => None,
    };
    let sent = viewer.change(Method::POST, &path, body.as_ref(), fields);
    sent.await.map(drop)
}

fn confirmation(viewer: &Viewer, name: &str, fields: &Fields) -> Result<Value, Problem> {
    let mut body = Map::new();
    if let Some(by) = fields.some("by") {
        body.insert("by".to_owned(), by.into());
    }
    match name {
        "refuse" => {
            body.insert("confirmed".to_owned(), false.into());
        }
        "take-back" => {
            body.insert("take_back".to_owned(), true.into());
        }
        _ => {
            let at = super::super::tasks::time(viewer, fields, "at")?;
            body.extend(at.map(|at| ("at".to_owned(), at.into())));
        }
    }
    Ok(body.into())
}
