//! The description of the face (OpenAPI), for integrators: `/app/v1/openapi.json`. It needs no token.

use serde_json::{Value, json};
use utoipa::OpenApi;

use super::{
    problem::Problem,
    routes::{Needs, Route},
};

/// The parts of the description that belong to no single route.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Cellwise for end users' applications",
        description = "What can be upgraded in a home, starting it, and following it. Times are RFC 3339 in UTC. Errors are problem \
            details (RFC 9457) with a `code` of 5000 to 5018, or 5099.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(Problem)),
    tags(
        (name = "homes", description = "The user's homes"),
        (name = "upgrades", description = "What there is, how it stands, and what became of it"),
        (name = "acts", description = "What owners and administrators do"),
        (name = "events", description = "Changes, as they happen")
    )
)]
pub(super) struct Documentation;

/// The answers that any route may give.
const EVERYWHERE: [(&str, &str); 4] = [
    ("401", "The token is missing or wrong"),
    (
        "429",
        "The user, the home or the address is asked too often; see Retry-After",
    ),
    ("500", "The server failed"),
    (
        "503",
        "The database, or the issuer of tokens, is not available; try again",
    ),
];

/// The answers that a route in a home may give.
const IN_A_HOME: [(&str, &str); 3] = [
    ("400", "The path is not UTF-8"),
    ("403", "The user's role in the home does not permit it"),
    ("404", "There is no such home, or no such device in it"),
];

/// The answers to a JSON body.
const BODY: [(&str, &str); 4] = [
    ("400", "The body is not JSON, or the path is not UTF-8"),
    ("413", "The body is too large"),
    ("415", "The content type is not application/json"),
    ("422", "A field is not valid"),
];

/// The answers to a query.
const QUERY: [(&str, &str); 2] = [
    (
        "400",
        "A parameter is unknown or not a number, or the path is not UTF-8",
    ),
    ("422", "A parameter is out of range"),
];

/// The description as it is served: with what is the same for every route.
pub(super) fn complete(api: utoipa::openapi::OpenApi) -> Value {
    let mut api = serde_json::to_value(api).unwrap_or_default();
    api["components"]["securitySchemes"] = json!({"user": {
        "type": "http", "scheme": "bearer",
        "description": "A token of the integrator's identity provider (JWT), or one that the admin API has issued for the user",
    }});
    let paths = api["paths"].as_object_mut().into_iter().flatten();
    let operations = paths.flat_map(|(_, path)| path.as_object_mut().into_iter().flatten());
    for (_, operation) in operations {
        operation["security"] = json!([{"user": []}]);
        if let Some(body) = operation.get_mut("requestBody") {
            body["required"] = json!(true);
        }
        for (status, description) in answers(operation) {
            let answers = &mut operation["responses"];
            if answers.get(status).is_none() {
                answers[status] = problem(description);
            }
        }
        name_problems(operation);
    }
    api
}

fn answers(operation: &Value) -> Vec<(&'static str, &'static str)> {
    let takes = |place: &str| {
        let parameters = operation["parameters"].as_array();
        parameters.is_some_and(|all| all.iter().any(|it| it["in"] == place))
    };
    let mut answers = Vec::new();
    if operation.get("requestBody").is_some() {
        answers.extend(BODY);
    }
    if takes("query") {
        answers.extend(QUERY);
    }
    let name = operation["operationId"].as_str().unwrap_or_default();
    if Route::named(name).is_some_and(|route| matches!(route.needs, Needs::Home(_))) {
        answers.extend(IN_A_HOME);
    }
    answers.extend(EVERYWHERE);
    answers
}

fn problem(description: &str) -> Value {
    json!({"description": description, "content": {
        "application/json": {"schema": {"$ref": "#/components/schemas/AppProblem"}}
    }})
}

/// Problem details have a media type of their own (RFC 9457 §3).
fn name_problems(operation: &mut Value) {
    let responses = operation["responses"].as_object_mut().into_iter().flatten();
    for (_, response) in responses {
        if let Some(content) = response.get_mut("content").and_then(Value::as_object_mut)
            && content
                .get("application/json")
                .is_some_and(|json| json["schema"]["$ref"] == "#/components/schemas/AppProblem")
            && let Some(json) = content.remove("application/json")
        {
            content.insert("application/problem+json".to_owned(), json);
        }
    }
}
