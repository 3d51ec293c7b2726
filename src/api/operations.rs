//! What operators' tools ask: is it alive, is it ready, its metrics, and the API's description.

use axum::{
    extract::State,
    http::{HeaderName, StatusCode, header},
    response::IntoResponse,
};
use utoipa::{
    OpenApi,
    openapi::{
        Header, Object, Ref, RefOr, Required, Response, Type,
        path::{Operation, ParameterBuilder, ParameterIn},
        security::{
            ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
        },
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{ApiState, cookie, door::takes_a_tenant, once, problem::Problem};
use crate::{
    access::{self, Permission, Secrecy},
    audit::MAX_REASON,
    notify::{OfferEvent, StartEvent, TaskEvent, UpgradeEvent},
    tenant,
};

/// The parts of the API's description that belong to no single route.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Cellwise admin API",
        description = "Packages, devices, upgrade tasks and what became of them. Times are RFC 3339 in UTC. \
            Lists come in pages: give `next_cursor` as `cursor` to get the next one. Errors are problem \
            details (RFC 9457).",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(Problem, UpgradeEvent, StartEvent, OfferEvent, TaskEvent)),
    tags(
        (name = "packages", description = "Software packages"),
        (name = "products", description = "What is peculiar to the devices of a product, and who vouches for its packages"),
        (name = "evidence", description = "Whom a vulnerability concerns, who was reached, and who was not"),
        (name = "devices", description = "The inventory, and what devices reported"),
        (name = "groups", description = "Lists of devices, and filters, under a name"),
        (name = "tasks", description = "Batch upgrades"),
        (name = "forecasts", description = "When tasks will be through"),
        (name = "upgrades", description = "One device's upgrade within a task"),
        (name = "cells", description = "Who upgrades and who waits in a cell"),
        (name = "homes", description = "End users' homes, who and what is in them, and what is offered to them"),
        (name = "tenants", description = "To whom things belong"),
        (name = "access", description = "Who is let in, and what for"),
        (name = "audit", description = "Who has changed what"),
        (name = "events", description = "Outcomes, told to applications: a stream, and webhooks"),
        (name = "operations", description = "Health and metrics; no token needed")
    )
)]
pub(super) struct Documentation;

/// The routes that need no token. They are served whatever the load.
pub(super) fn router() -> OpenApiRouter<ApiState> {
    OpenApiRouter::new()
        .routes(routes!(livez))
        .routes(routes!(readyz))
        .routes(routes!(metrics))
}

/// The answers that any route with a token may give.
const EVERYWHERE: [(&str, &str); 5] = [
    ("401", "The token is missing or wrong"),
    (
        "403",
        "The caller has no role that permits this, or not for all devices or tenants, or its session's request has no X-CSRF-Token",
    ),
    (
        "429",
        "Too many requests, or wrong tokens, from this address; see Retry-After",
    ),
    ("500", "The server failed"),
    ("503", "The database is not available; try again"),
];

/// The answers that a list may give.
const LIST: [(&str, &str); 2] = [
    ("400", "A parameter is unknown or not a number"),
    ("422", "A parameter is out of range"),
];

/// The answers to a JSON body.
const BODY: [(&str, &str); 4] = [
    ("400", "The body is not JSON"),
    ("413", "The body is too large"),
    ("415", "The content type is not application/json"),
    ("422", "A field is not valid"),
];

/// What may be wrong with the path, by its parameter.
const PATH: [(&str, &str); 4] = [
    ("tenant", "The path is not UTF-8"),
    ("name", "The path is not UTF-8"),
    ("id", "The number is not a number"),
    ("endpoint", "The path is not UTF-8"),
];

/// The answers that an operation may give for what it takes. What it says of a status itself goes before.
fn answers(operation: &Operation) -> Vec<(&'static str, &'static str)> {
    let takes = |name: &str| {
        let mut parameters = operation.parameters.iter().flatten();
        parameters.any(|it| matches!(it, RefOr::T(parameter) if parameter.name == name))
    };
    let body = match &operation.request_body {
        Some(RefOr::T(body)) => body.content.contains_key("application/json"),
        _ => false,
    };
    let mut answers = Vec::new();
    if takes("cursor") {
        answers.extend(LIST);
    }
    if body {
        answers.extend(BODY);
    }
    let path = PATH.into_iter().filter(|(name, _)| takes(name));
    answers.extend(path.map(|(_, description)| ("400", description)));
    answers.extend(EVERYWHERE);
    answers
}

/// Adds what is the same for every route: the token, and the answers that any of them may give.
pub(super) fn completed(mut api: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    for path in api.paths.paths.values_mut() {
        let operations = [
            &mut path.get,
            &mut path.post,
            &mut path.put,
            &mut path.patch,
            &mut path.delete,
        ];
        for operation in operations.into_iter().flatten() {
            operation.security = secured(operation);
            for (status, description) in answers(operation) {
                add_response(operation, status, description);
            }
        }
        if let Some(operation) = &mut path.post
            && named(operation).is_none_or(|it| it.secrecy != Secrecy::TakesPassword)
        {
            take_key(operation);
        }
        let changing = [
            &mut path.put,
            &mut path.post,
            &mut path.patch,
            &mut path.delete,
        ];
        changing.into_iter().flatten().for_each(take_reason);
        let operations = [
            &mut path.get,
            &mut path.post,
            &mut path.put,
            &mut path.patch,
            &mut path.delete,
        ];
        for operation in operations.into_iter().flatten() {
            take_tenant(operation);
            tell_limits(operation);
        }
    }
    api.components.get_or_insert_default().add_security_scheme(
        "token",
        SecurityScheme::Http(
            HttpBuilder::new()
                .scheme(HttpAuthScheme::Bearer)
                .description(Some(
                    "A token that was added (`POST /v1/tokens`), or the content of `admin.token` in the server's data directory",
                ))
                .build(),
        ),
    );
    api.components.get_or_insert_default().add_security_scheme(
        "session",
        SecurityScheme::ApiKey(ApiKey::Cookie(ApiKeyValue::with_description(
            cookie::COOKIE,
            "Set by `POST /v1/session`. What changes something also carries the header `X-CSRF-Token`, as that answer and `GET /v1/me` tell it",
        ))),
    );
    api.merge(router().into_openapi());
    api
}

/// What the table of operations says of it.
fn named(operation: &Operation) -> Option<&'static access::Operation> {
    let name = operation.operation_id.as_deref().unwrap_or_default();
    access::Operation::named(name)
}

/// With what a caller is let in: a token, or a session; nothing for whoever asks for one.
fn secured(operation: &Operation) -> Option<Vec<SecurityRequirement>> {
    let open = named(operation).is_some_and(|it| it.needs == Permission::Open);
    let with = |scheme: &str| SecurityRequirement::new::<_, _, &str>(scheme, []);
    (!open).then(|| vec![with("token"), with("session")])
}

/// What is posted may be named, so that it is done once.
fn take_key(operation: &mut Operation) {
    let key = Object::builder()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(once::MAX_KEY))
        .pattern(Some(format!("^[!-~]{{1,{}}}$", once::MAX_KEY)))
        .examples(["5f0c7b0e-8f0a-4c3f-9d0b-5d0c1f6f2a11"]);
    let key = ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "Names the request: one that is sent again with its key within 24 h is not carried out again, and has the same answer \
             (with the header `Idempotency-Replayed`)",
        ))
        .schema(Some(key));
    let parameters = operation.parameters.get_or_insert_default();
    parameters.push(key.build().into());
    add_response(
        operation,
        "409",
        "A request with this Idempotency-Key is being carried out",
    );
    add_response(
        operation,
        "422",
        "Another request was sent with this Idempotency-Key",
    );
}

/// What is not a matter of everybody may be asked for one tenant.
fn take_tenant(operation: &mut Operation) {
    let name = operation.operation_id.as_deref().unwrap_or_default();
    let mut parameters = operation.parameters.iter().flatten();
    let in_path = parameters.any(|it| matches!(it, RefOr::T(it) if it.name == "tenant"));
    if in_path || !access::Operation::named(name).is_some_and(takes_a_tenant) {
        return;
    }
    let tenant = Object::builder()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(tenant::MAX_CHARACTERS))
        .pattern(Some("^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$"))
        .examples(["acme"]);
    let tenant = ParameterBuilder::new()
        .name("tenant")
        .parameter_in(ParameterIn::Query)
        .required(Required::False)
        .description(Some(
            "For this tenant alone, as for somebody who is granted nothing of others; where it is made for nobody else, what is \
             made belongs to `default` (docs/tenants.md)",
        ))
        .schema(Some(tenant));
    let parameters = operation.parameters.get_or_insert_default();
    parameters.push(tenant.build().into());
    add_response(operation, "404", "There is no such tenant");
    add_response(
        operation,
        "422",
        "The tenant is not valid, or has to be named",
    );
}

/// Every answer tells how often its source may ask.
fn tell_limits(operation: &mut Operation) {
    let fields = [
        (
            "RateLimit-Policy",
            "The allowance of an address: `q` requests in `w` seconds (draft-ietf-httpapi-ratelimit-headers-10)",
            "\"address\";q=400;w=2",
        ),
        (
            "RateLimit",
            "What is left of it: `r` requests at once, and the whole after `t` seconds; where `r` is 0, one after `t` seconds at the latest",
            "\"address\";r=399;t=1",
        ),
    ];
    for response in operation.responses.responses.values_mut() {
        let RefOr::T(response) = response else {
            continue;
        };
        for (name, description, example) in fields {
            let text = Object::builder()
                .schema_type(Type::String)
                .examples([example]);
            let header = Header::builder()
                .schema(Some(text))
                .description(Some(description));
            let header = RefOr::T(header.build());
            response.headers.insert(name.to_owned(), header);
        }
    }
}

/// Whoever changes something may say why.
fn take_reason(operation: &mut Operation) {
    let reason = Object::builder()
        .schema_type(Type::String)
        .min_length(Some(1))
        .max_length(Some(MAX_REASON))
        .pattern(Some(format!(
            "^[!-~]([ -~]{{0,{}}}[!-~])?$",
            MAX_REASON - 2
        )))
        .examples(["ticket 4711"]);
    let reason = ParameterBuilder::new()
        .name("Audit-Reason")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some("Why, for the audit log; it may be in UTF-8"))
        .schema(Some(reason));
    let parameters = operation.parameters.get_or_insert_default();
    parameters.push(reason.build().into());
    add_response(operation, "422", "The reason is too long, or empty");
}

fn add_response(operation: &mut Operation, status: &str, description: &str) {
    let mut response = Response::builder()
        .description(description)
        .content(
            "application/problem+json",
            utoipa::openapi::Content::new(Some(RefOr::Ref(Ref::from_schema_name("Problem")))),
        )
        .build();
    if matches!(status, "429" | "503") {
        let seconds = Header::builder()
            .schema(Some(
                Object::builder()
                    .schema_type(Type::Integer)
                    .minimum(Some(0)),
            ))
            .description(Some("Seconds after which another try is worth it"))
            .build();
        response
            .headers
            .insert("Retry-After".to_owned(), RefOr::T(seconds));
    }
    operation
        .responses
        .responses
        .entry(status.to_owned())
        .or_insert(RefOr::T(response));
}

/// Is the process alive?
#[utoipa::path(get, path = "/livez", tag = "operations", responses(
    (status = 200, description = "It is", body = String, content_type = "text/plain")
))]
async fn livez() -> &'static str {
    "alive\n"
}

/// Does everything work?
#[utoipa::path(get, path = "/readyz", tag = "operations", responses(
    (status = 200, description = "It does", body = String, content_type = "text/plain"),
    (status = 503, description = "It does not; `detail` says why", body = Problem)
))]
async fn readyz(State(state): State<ApiState>) -> Result<&'static str, Problem> {
    let problems = state.health.problems();
    if problems.is_empty() {
        return Ok("ready\n");
    }
    let detail = problems
        .iter()
        .map(|(part, reason)| format!("{part}: {reason}"))
        .collect::<Vec<_>>()
        .join("; ");
    Err(Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "not-ready",
        "The server is not ready",
        detail,
    ))
}

/// Metrics for Prometheus.
#[utoipa::path(get, path = "/metrics", tag = "operations", responses(
    (status = 200, description = "All metrics in Prometheus' text format", body = String,
        content_type = "text/plain")
))]
async fn metrics(State(state): State<ApiState>) -> impl IntoResponse {
    const TEXT: (HeaderName, &str) = (header::CONTENT_TYPE, "text/plain; version=0.0.4");
    ([TEXT], state.metrics.render())
}
