//! Adds a device.

use askama::Template;
use axum::{
    body::Bytes,
    extract::RawQuery,
    http::{Method, StatusCode},
};
use serde_json::{Map, Value, json};

use super::edit::tags;
use crate::{
    api::Problem,
    console::{
        fields::Fields,
        fleet::{Tenant, for_tenant, names::page_of, tenants},
        page::{Paged, done, page_with, status},
        viewer::Viewer,
    },
};

#[derive(Template)]
#[template(path = "fleet/device_new.html")]
struct NewPage<'a> {
    at: &'a Viewer,
    fields: &'a Fields,
    tenants: Vec<Tenant>,
    problem: Option<Problem>,
}

impl NewPage<'_> {
    const PROTOCOLS: [&'static str; 4] = ["lwm2m", "iotda", "thingspanel", "quecthing"];
    const CREDENTIALS: [&'static str; 4] = ["secret", "token", "certificate", "gateway"];

    fn has(&self, field: &str, value: &str) -> bool {
        self.fields.get(field) == value
    }
}

/// The form. The address may name the device.
pub(super) async fn ask(viewer: Viewer, RawQuery(query): RawQuery) -> Paged {
    let given = super::super::given(query);
    form(&viewer, &given, None).await
}

async fn form(at: &Viewer, fields: &Fields, problem: Option<Problem>) -> Paged {
    let code = problem.as_ref().map_or(StatusCode::OK, status);
    let shown = NewPage {
        at,
        fields,
        tenants: tenants(at, fields).await?,
        problem,
    };
    Ok(page_with(code, &shown))
}

/// Adds it.
pub(super) async fn add(viewer: Viewer, body: Bytes) -> Paged {
    let fields = Fields::parse(&body);
    let added = async {
        let device = device(&fields)?;
        let path = for_tenant("/v1/devices", &fields);
        viewer
            .change(Method::POST, &path, Some(&device), &fields)
            .await
    };
    match added.await {
        Ok(_) => {
            let page = page_of(fields.get("endpoint"));
            Ok(done(&viewer, &page, "device-added"))
        }
        Err(problem) => form(&viewer, &fields.entered(), Some(problem)).await,
    }
}

fn device(fields: &Fields) -> Result<Value, Problem> {
    let mut device = Map::new();
    device.insert("endpoint".to_owned(), fields.get("endpoint").into());
    for name in ["product", "model", "hardware", "site", "time_zone", "via"] {
        if let Some(value) = fields.some(name) {
            device.insert(name.to_owned(), value.into());
        }
    }
    device.insert("tags".to_owned(), json!(tags(fields.get("tags"))?));
    let key = fields.some("key");
    let protocol = fields.some("protocol").unwrap_or("lwm2m");
    if protocol != "lwm2m" {
        let mut mqtt = json!({"style": protocol});
        match fields.get("credential") {
            name @ ("certificate" | "gateway") => mqtt[name] = true.into(),
            name @ ("secret" | "token") => mqtt[name] = key.unwrap_or_default().into(),
            _ => return Err(Problem::field("credential", "choose one")),
        }
        device.insert("mqtt".to_owned(), mqtt);
    } else if let Some(key) = key {
        let mut psk = json!({"key": key});
        if let Some(identity) = fields.some("identity") {
            psk["identity"] = identity.into();
        }
        device.insert("psk".to_owned(), psk);
    }
    Ok(Value::Object(device))
}
