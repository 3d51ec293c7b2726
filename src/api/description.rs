//! What the API's description says beyond what its library has a form for: the events that webhooks are posted, cursors that
//! the server gives out, and bodies of which exactly one form is possible.

use serde_json::{Map, Value, json};

use super::cursors::SEALED;
use crate::{
    ledger::{Outcome, time_zones},
    notify::{OFFER_KINDS, START_KINDS, TASK_KINDS, UPGRADE_KINDS},
};

/// The description as it is served.
pub(super) fn complete(api: &utoipa::openapi::OpenApi) -> Value {
    let mut api = serde_json::to_value(api).unwrap_or_default();
    api["webhooks"] = webhooks().into();
    describe_cursors(&mut api);
    name_problems(&mut api);
    split_create_task(&mut api);
    // Something is to be changed.
    api["components"]["schemas"]["UpdateDevice"]["anyOf"] = json!([
        {"required": ["product"], "properties": {"product": {"type": "string"}}},
        {"required": ["tenant"], "properties": {"tenant": {"type": "string"}}},
        {"required": ["secure"], "properties": {"secure": {"type": "boolean"}}},
        {"required": ["psk"]},
        {"required": ["model"]},
        {"required": ["hardware"]},
        {"required": ["site"]},
        {"required": ["time_zone"]},
        {"required": ["tags"], "properties": {"tags": {"minProperties": 1}}},
    ]);
    describe_time_zones(&mut api);
    api["components"]["schemas"]["UpdateGroup"]["anyOf"] = json!([
        {"required": ["name"], "properties": {"name": {"type": "string"}}},
        {"required": ["filter"], "properties": {"filter": {"type": "string"}}},
        {"required": ["add"], "properties": {"add": {"type": "array", "items": {"type": "string"}}}},
        {"required": ["remove"], "properties": {"remove": {"type": "array", "items": {"type": "string"}}}},
    ]);
    api["components"]["schemas"]["UpdateUser"]["anyOf"] = json!([
        {"required": ["grants"], "properties": {"grants": {"type": "array", "items": {"$ref": "#/components/schemas/GrantBody"}}}},
        {"required": ["password"], "properties": {"password": {"type": "string"}}},
        {"required": ["second_factor_required"], "properties": {"second_factor_required": {"type": "boolean"}}},
        {"required": ["disabled"], "properties": {"disabled": {"type": "boolean"}}},
    ]);
    // Somebody logs in by the one or by the other.
    api["components"]["schemas"]["LogIn"]["anyOf"] = json!([
        {"required": ["name", "password"], "properties": {"name": {"type": "string"}, "password": {"type": "string"}, "link": {"type": "null"}}},
        {"required": ["link"], "properties": {"link": {"type": "string"}, "name": {"type": "null"}, "password": {"type": "null"}}},
    ]);
    // A group is a list or a filter.
    api["components"]["schemas"]["AddGroup"]["anyOf"] = json!([
        {"properties": {"devices": {"type": "null"}}},
        {"properties": {"filter": {"type": "null"}}},
    ]);
    describe_reasons(&mut api);
    describe_packages(&mut api);
    require_bodies(&mut api);
    // what became of a list in CSV has all that is told of one in JSON
    if let Some(answer) = api["components"]["schemas"]["AddAnswer"].as_object_mut()
        && let Some(forms) = answer.remove("oneOf")
    {
        answer.insert("anyOf".to_owned(), forms);
    }
    api
}

/// A version: printable ASCII without a space at its ends.
const VERSION: &str = r"^[!-~]([ -~]{0,62}[!-~])?$";

/// Whoever takes a body takes no request without one.
fn require_bodies(api: &mut Value) {
    let paths = api["paths"].as_object_mut().into_iter().flatten();
    let operations = paths.flat_map(|(_, path)| path.as_object_mut().into_iter().flatten());
    for (_, operation) in operations {
        if let Some(body) = operation.get_mut("requestBody") {
            body["required"] = json!(true);
        }
    }
}

/// Failures are named by their codes, each once.
fn describe_reasons(api: &mut Value) {
    for schema in ["RetryRequest", "RetryBody", "ThresholdBody"] {
        let reasons = &mut api["components"]["schemas"][schema]["properties"]["reasons"];
        reasons["uniqueItems"] = json!(true);
        reasons["items"] = json!({"type": "string", "enum": Outcome::FAILURES});
    }
}

/// What a package is for is named once each.
fn describe_packages(api: &mut Value) {
    let from = &mut api["components"]["schemas"]["PackageFrom"]["properties"];
    from["versions"]["uniqueItems"] = json!(true);
    from["versions"]["items"] =
        json!({"type": "string", "minLength": 1, "maxLength": 64, "pattern": VERSION});
    from["hardware"]["uniqueItems"] = json!(true);
    from["hardware"]["items"] = json!({
        "type": "string", "minLength": 1, "maxLength": 64, "pattern": r"^[^\u0000-\u001f\u007f-\u009f]{1,64}$",
    });
    for end in ["version_from", "version_below"] {
        from[end]["pattern"] = json!(VERSION);
    }
}

/// `webhooks` of OpenAPI 3.1 (§4.8.1).
fn webhooks() -> Map<String, Value> {
    let webhook = |kind: &str, schema: &str| {
        let answers = json!({
            "2XX": {"description": "The receiver has it"},
            "410": {"description": "The receiver wants no more events"},
            "default": {"description": "It is posted again"},
        });
        let header = |name: &str, description: &str| json!({"name": name, "in": "header", "required": true, "schema": {"type": "string"}, "description": description});
        json!({"post": {
            "operationId": kind.replace('.', "_"),
            "tags": ["events"],
            "summary": format!("`{kind}`, as Standard Webhooks says"),
            "parameters": [
                header("webhook-id", "The event's ID, the same on every attempt"),
                header("webhook-timestamp", "Seconds since 1970 at which this attempt began"),
                header("webhook-signature", "`v1,` and the signature in base64"),
            ],
            "requestBody": {"required": true, "content": {
                "application/json": {"schema": {"$ref": format!("#/components/schemas/{schema}")}}
            }},
            "responses": answers,
        }})
    };
    let upgrades = UPGRADE_KINDS.map(|kind| (kind.to_owned(), webhook(kind, "UpgradeEvent")));
    let tasks = TASK_KINDS.map(|kind| (kind.to_owned(), webhook(kind, "TaskEvent")));
    let starts = START_KINDS.map(|kind| (kind.to_owned(), webhook(kind, "StartEvent")));
    let offers = OFFER_KINDS.map(|kind| (kind.to_owned(), webhook(kind, "OfferEvent")));
    let at_home = starts.into_iter().chain(offers);
    upgrades.into_iter().chain(at_home).chain(tasks).collect()
}

/// Each list, as its cursors begin, and what ends them.
const CURSORS: [(&str, &str, &str); 20] = [
    ("/v1/audit", "audit", NUMBER),
    ("/v1/packages", "packages", NUMBER),
    ("/v1/evidence", "evidence", PRODUCT_AND_TEXT),
    ("/v1/products", "products", PRODUCT),
    ("/v1/devices", "devices", SEALED),
    ("/v1/devices/{endpoint}/upgrades", "device-upgrades", SEALED),
    ("/v1/exclusions", "exclusions", SEALED),
    ("/v1/groups", "groups", NUMBER),
    ("/v1/homes", "homes", NUMBER),
    ("/v1/offers", "offers", NUMBER),
    ("/v1/tasks", "tasks", NUMBER),
    ("/v1/tasks/{id}/upgrades", "upgrades", NUMBER),
    ("/v1/upgrades", "newest-upgrades", SEALED),
    ("/v1/cells", "cells", CELL),
    ("/v1/sites", "sites", NUMBER),
    ("/v1/tenants", "tenants", TENANT),
    ("/v1/tokens", "tokens", NUMBER),
    ("/v1/users", "users", NUMBER),
    ("/v1/webhooks", "webhooks", NUMBER),
    ("/v1/webhooks/{id}/deliveries", "deliveries", NUMBER),
];

/// Digits in hexadecimal.
const NUMBER: &str = "3[1-9](3[0-9]){0,17}";
const CELL: &str = "3[1-9](3[0-9]){0,8}";

/// The id of a tenant.
const TENANT: &str =
    "(3[0-9]|6[1-9a-f]|7[0-9a])((2d|3[0-9]|6[1-9a-f]|7[0-9a]){0,30}(3[0-9]|6[1-9a-f]|7[0-9a]))?";
/// The key of a product.
const PRODUCT: &str = "(2[def]|3[0-9]|4[1-9a-f]|5[0-9af]|6[1-9a-f]|7[0-9a]){1,97}";
/// The key of a product, a space, and an endpoint name.
const PRODUCT_AND_TEXT: &str = "(2[def]|3[0-9]|4[1-9a-f]|5[0-9af]|6[1-9a-f]|7[0-9a]){1,97}20(2[14-9a-e]|3[0-9abd]|4[0-9a-f]|5[0-9a]|5f|6[1-9a-f]|7[0-9a]|7e)+";

/// A cursor is of one list, and no other text is one.
fn describe_cursors(api: &mut Value) {
    for (path, list, key) in CURSORS {
        let parameters = api["paths"][path]["get"]["parameters"].as_array_mut();
        let cursor =
            (parameters.into_iter().flatten()).find(|parameter| parameter["name"] == "cursor");
        if let Some(cursor) = cursor {
            let begin = hex::encode(format!("{list} "));
            cursor["schema"] = json!({"type": "string", "pattern": format!("^{begin}{key}$")});
        }
    }
}

/// The time zones that are known, as a type of its own. As an `enum` it would have clients make names of them, of which
/// some are the same: `Etc/GMT+1` and `Etc/GMT-1`.
fn describe_time_zones(api: &mut Value) {
    let schemas = &mut api["components"]["schemas"];
    let names: Vec<String> = time_zones().map(|name| name.replace('+', r"\+")).collect();
    schemas["TimeZone"] = json!({
        "type": "string",
        "description": "A time zone by its IANA name; the case of letters does not matter. The server has the zones in \
            itself, and does not read those of its machine.",
        "pattern": format!("^({})$", names.join("|")),
        "examples": ["Europe/Berlin"],
    });
    let zone = json!({"$ref": "#/components/schemas/TimeZone"});
    for list in ["Window", "Windows"] {
        let optional = schemas[list]["properties"].as_object_mut();
        for (_, field) in optional.into_iter().flatten() {
            // left out, but not null
            if let Some(kinds) = field.get_mut("type").and_then(Value::as_array_mut) {
                kinds.retain(|kind| kind != "null");
            }
        }
    }
    for may_be_null in ["AddDevice", "AddOneDevice", "UpdateDevice", "DeviceBody"] {
        schemas[may_be_null]["properties"]["time_zone"] =
            json!({"anyOf": [zone, {"type": "null"}]});
    }
}

/// Problem details have a media type of their own (RFC 9457 §3).
fn name_problems(api: &mut Value) {
    let paths = api["paths"].as_object_mut().into_iter().flatten();
    let operations = paths.flat_map(|(_, path)| path.as_object_mut().into_iter().flatten());
    let responses = operations
        .flat_map(|(_, operation)| operation["responses"].as_object_mut().into_iter().flatten());
    for (_, response) in responses {
        if let Some(content) = response.get_mut("content").and_then(Value::as_object_mut)
            && let Some(json) = content.remove("application/json")
        {
            let problem = json["schema"]["$ref"] == "#/components/schemas/Problem";
            let media_type = if problem {
                "application/problem+json"
            } else {
                "application/json"
            };
            content.insert(media_type.to_owned(), json);
        }
    }
}

/// The devices of a task are named in one of five ways.
fn split_create_task(api: &mut Value) {
    let schemas = &mut api["components"]["schemas"];
    let base = schemas["CreateTask"].clone();
    let ways = [
        ("CreateTaskForDevices", "devices", json!({"minItems": 1})),
        ("CreateTaskForProduct", "product", json!({})),
        ("CreateTaskForAll", "all", json!({"enum": [true]})),
        ("CreateTaskForFilter", "filter", json!({})),
        ("CreateTaskForGroup", "group", json!({})),
    ];
    let kinds = [
        ("devices", "array"),
        ("product", "string"),
        ("all", "boolean"),
        ("filter", "string"),
        ("group", "integer"),
    ];
    let mut forms = Vec::new();
    for (name, way, rule) in ways {
        let mut form = base.clone();
        for (field, kind) in kinds {
            let property = &mut form["properties"][field];
            if field == way {
                property["type"] = json!(kind);
                if let (Some(property), Some(rule)) = (property.as_object_mut(), rule.as_object()) {
                    property.extend(rule.clone());
                }
            } else {
                *property = json!({"type": "null"});
            }
        }
        if let Some(required) = form["required"].as_array_mut() {
            required.push(json!(way));
        }
        schemas[name] = form;
        forms.push(json!({"$ref": format!("#/components/schemas/{name}")}));
    }
    schemas["CreateTask"] = json!({"oneOf": forms, "description": base["description"]});
}
