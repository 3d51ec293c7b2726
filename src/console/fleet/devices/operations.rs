//! What is done with a device: each is asked back first.

use axum::{body::Bytes, extract::Path, http::Method, response::Response};
use serde_json::json;

use super::one::tagged;
use crate::{
    api::Problem,
    console::{
        confirm::{Input, Question},
        fields::{Fields, encode},
        fleet::names::{call_of, page_of},
        page::{Failure, Paged, done},
        viewer::Viewer,
    },
};

/// An operation on a device.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Remove,
    Exclude,
    EndExclusion,
}

/// The operation of an address.
fn named(name: &str) -> Result<Operation, Failure> {
    match name {
        "remove" => Ok(Operation::Remove),
        "exclude" => Ok(Operation::Exclude),
        "end-exclusion" => Ok(Operation::EndExclusion),
        _ => Err(Failure(Problem::not_found(format!(
            "nothing is called {name:?} here"
        )))),
    }
}

/// Asks.
pub(super) async fn ask(viewer: Viewer, Path((endpoint, name)): Path<(String, String)>) -> Paged {
    let operation = named(&name)?;
    question(&viewer, &endpoint, &name, operation, "", None).await
}

async fn question(
    at: &Viewer,
    endpoint: &str,
    name: &str,
    operation: Operation,
    reason: &str,
    problem: Option<Problem>,
) -> Result<Response, Failure> {
    let (device, etag) = tagged(at, endpoint).await?;
    let [title, means, button] = match operation {
        Operation::Remove => [
            at.t1("device-ask-remove", "name", endpoint),
            at.t("device-means-remove"),
            at.t("device-remove"),
        ],
        Operation::Exclude => [
            at.t1("device-ask-exclude", "name", endpoint),
            at.t("device-means-exclude"),
            at.t("device-exclude"),
        ],
        Operation::EndExclusion => [
            at.t1("device-ask-end-exclusion", "name", endpoint),
            at.t("device-means-end-exclusion"),
            at.t("device-end-exclusion"),
        ],
    };
    let mut means = vec![means];
    if device.upgrade_id.is_some() {
        means.push(at.t(match operation {
            Operation::Remove => "device-runs-remove",
            _ => "device-runs-on",
        }));
    }
    let input = Input {
        name: "reason",
        label: at.t("fleet-reason"),
        value: reason.to_owned(),
        kind: "text",
        required: true,
    };
    let removes = operation == Operation::Remove;
    let question = Question {
        at,
        title,
        means,
        inputs: Vec::from_iter((operation == Operation::Exclude).then_some(input)),
        hidden: Vec::from_iter(removes.then_some(("etag", etag))),
        button,
        danger: removes,
        action: at.url(format_args!("{}/{name}", page_of(endpoint))),
        back: at.url(device.page()),
        problem,
    };
    Ok(question.page())
}

/// Does it.
pub(super) async fn carry_out(
    viewer: Viewer,
    Path((endpoint, name)): Path<(String, String)>,
    body: Bytes,
) -> Paged {
    let operation = named(&name)?;
    let fields = Fields::parse(&body);
    let changed = match operation {
        Operation::Remove => {
            let path = call_of(&endpoint);
            viewer.change(Method::DELETE, &path, None, &fields).await
        }
        Operation::Exclude => {
            let body = json!({"endpoints": [endpoint], "reason": fields.get("reason")});
            let path = "/v1/exclusions";
            viewer
                .change(Method::POST, path, Some(&body), &fields)
                .await
        }
        Operation::EndExclusion => {
            let path = format!("/v1/exclusions/{}", encode(&endpoint));
            viewer.change(Method::DELETE, &path, None, &fields).await
        }
    };
    match (changed, operation) {
        (Ok(_), Operation::Remove) => Ok(done(&viewer, "/devices", "device-removed")),
        (Ok(_), Operation::Exclude) => Ok(done(&viewer, &page_of(&endpoint), "exclusions-added")),
        (Ok(_), Operation::EndExclusion) => {
            Ok(done(&viewer, &page_of(&endpoint), "exclusion-ended"))
        }
        (Err(problem), _) => {
            let reason = fields.get("reason");
            question(&viewer, &endpoint, &name, operation, reason, Some(problem)).await
        }
    }
}
