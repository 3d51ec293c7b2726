//! Changes what an operator says of a device.

use std::collections::{BTreeMap, BTreeSet};

use askama::Template;
use axum::{
    body::Bytes,
    extract::Path,
    http::{Method, StatusCode},
    response::Response,
};
use serde_json::{Map, Value, json};

use super::{
    Device,
    one::{filled, tagged},
};
use crate::{
    api::Problem,
    console::{
        fields::Fields,
        fleet::names::{call_of, page_of},
        page::{Paged, done, page_with, status},
        viewer::Viewer,
    },
};

#[derive(Template)]
#[template(path = "fleet/device_edit.html")]
struct EditPage<'a> {
    at: &'a Viewer,
    endpoint: &'a str,
    page: String,
    etag: &'a str,
    /// What the form holds.
    fields: &'a Fields,
    has_key: bool,
    problem: Option<&'a Problem>,
}

/// The form.
pub(super) async fn ask(viewer: Viewer, Path(endpoint): Path<String>) -> Paged {
    let (device, etag) = tagged(&viewer, &endpoint).await?;
    Ok(form(&viewer, &device, &etag, &filled(&device), None))
}

fn form(
    at: &Viewer,
    device: &Device,
    etag: &str,
    fields: &Fields,
    problem: Option<&Problem>,
) -> Response {
    let shown = EditPage {
        at,
        endpoint: &device.endpoint,
        page: device.page(),
        etag,
        fields,
        has_key: device.psk_identity.is_some(),
        problem,
    };
    page_with(problem.map_or(StatusCode::OK, status), &shown)
}

/// Changes it.
pub(super) async fn change(viewer: Viewer, Path(endpoint): Path<String>, body: Bytes) -> Paged {
    let fields = Fields::parse(&body);
    let (device, _) = tagged(&viewer, &endpoint).await?;
    let changed = async {
        let update = update(&device, &fields)?;
        let path = call_of(&endpoint);
        viewer
            .change(Method::PATCH, &path, Some(&update), &fields)
            .await
    };
    match changed.await {
        Ok(_) => Ok(done(&viewer, &page_of(&endpoint), "device-changed")),
        Err(problem) => {
            // what was entered is for the device as it was seen
            let etag = fields.get("etag");
            Ok(form(
                &viewer,
                &device,
                etag,
                &fields.entered(),
                Some(&problem),
            ))
        }
    }
}

/// What is sent: what can have consequences only where it is another than before.
fn update(device: &Device, fields: &Fields) -> Result<Value, Problem> {
    let text = |name: &str| fields.some(name).map_or(Value::Null, Value::from);
    let mut update = Map::new();
    for name in ["model", "hardware", "site", "time_zone"] {
        update.insert(name.to_owned(), text(name));
    }
    if fields
        .some("product")
        .is_some_and(|it| it != device.product)
    {
        update.insert("product".to_owned(), text("product"));
    }
    if fields.some("via") != device.via.as_deref() {
        update.insert("via".to_owned(), text("via"));
    }
    let limit = number(fields, "gateway_limit")?;
    if limit != device.gateway_limit {
        update.insert("gateway_limit".to_owned(), json!(limit));
    }
    if fields.ticked("secure") != device.secure {
        update.insert("secure".to_owned(), json!(fields.ticked("secure")));
    }
    let entered = tags(fields.get("tags"))?;
    let names: BTreeSet<&String> = device.tags.keys().chain(entered.keys()).collect();
    let changed = names.into_iter().filter_map(|key| {
        let (before, after) = (device.tags.get(key), entered.get(key));
        (before != after).then(|| (key.clone(), after.map_or(Value::Null, |it| json!(it))))
    });
    update.insert("tags".to_owned(), Value::Object(changed.collect()));
    let identity = fields.some("identity");
    if fields.some("key").is_none()
        && identity.is_some_and(|it| device.psk_identity.as_deref() != Some(it))
    {
        let detail = "another identity needs a key: enter the key that goes with it";
        return Err(Problem::field("key", detail));
    }
    if fields.some("key").is_some() && fields.ticked("no_key") {
        let detail = "a key is set or taken away, not both";
        return Err(Problem::field("key", detail));
    }
    if let Some(key) = fields.some("key") {
        let mut psk = json!({"key": key});
        if let Some(identity) = identity {
            psk["identity"] = identity.into();
        }
        update.insert("psk".to_owned(), psk);
    } else if fields.ticked("no_key") {
        update.insert("psk".to_owned(), Value::Null);
    }
    Ok(Value::Object(update))
}

/// A number that need not be there.
pub(in crate::console::fleet) fn number(
    fields: &Fields,
    name: &str,
) -> Result<Option<u32>, Problem> {
    let number = fields.some(name).map(str::parse).transpose();
    number.map_err(|_| Problem::field(name, "it is no whole number in the range of this field"))
}

/// Tags, one a line: `key=value`.
pub(super) fn tags(text: &str) -> Result<BTreeMap<String, String>, Problem> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let tags = lines.map(|line| match line.split_once('=') {
        Some((key, value)) => Ok((key.trim().to_owned(), value.trim().to_owned())),
        None => Err(Problem::field(
            "tags",
            format!("{line:?} has no = between its key and its value"),
        )),
    });
    tags.collect()
}
