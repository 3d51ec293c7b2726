//! Problem details (RFC 9457): the form of every error answer.

use axum::{
    Json,
    body::Body,
    extract::Request,
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::{
    ToSchema,
    openapi::{Object, Type},
};

pub(crate) const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

/// Seconds after which what is not available, or is asked for too often, is worth another try, unless the answer says otherwise.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

/// Why a request was not served (RFC 9457).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// A stable word for programs, as a URN.
    #[serde(rename = "type")]
    #[schema(schema_with = kinds)]
    pub kind: Box<str>,
    /// The kind of problem, for people.
    #[schema(value_type = String)]
    pub title: Box<str>,
    /// The HTTP status.
    #[schema(example = 404)]
    pub status: u16,
    /// What happened in this case, and what to do.
    #[schema(value_type = String)]
    pub detail: Box<str>,
    /// The path that was asked for.
    #[serde(default)]
    #[schema(value_type = String)]
    pub instance: Box<str>,
    /// The fields that are wrong, if it is about fields.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
}

/// What is wrong with a field or parameter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// The field's path in the body, or the parameter's name.
    #[schema(example = "retry.attempts")]
    pub field: String,
    /// What is wrong with it.
    pub detail: String,
}

impl FieldError {
    /// `detail` is wrong with `field`.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "most callers have no further use for it"
    )]
    pub(super) fn new(field: impl Into<String>, detail: impl ToString) -> Self {
        Self {
            field: field.into(),
            detail: detail.to_string(),
        }
    }
}

/// The words after `urn:cellwise:problem:` that tell what kind of problem it is.
const KINDS: [&str; 82] = [
    "bad-parameter",
    "bad-path",
    "bad-signature",
    "changed-meanwhile",
    "code-needed",
    "code-wrong",
    "csrf-token-missing",
    "device-elsewhere",
    "device-exists",
    "disk-full",
    "empty-package",
    "forbidden",
    "gateway-in-use",
    "gateway-refused",
    "group-in-use",
    "home-full",
    "identity-provider-unavailable",
    "identity-taken",
    "internal",
    "invalid-field",
    "log-in-refused",
    "malformed-json",
    "method-not-allowed",
    "name-taken",
    "no-credential-key",
    "no-devices",
    "no-grants",
    "no-identity-provider",
    "no-password",
    "no-second-factor",
    "no-session",
    "no-signing-key",
    "no-such-path",
    "not-awaited",
    "not-found",
    "not-ready",
    "offer-withdrawn",
    "other-kind-of-group",
    "other-product",
    "own-task",
    "package-in-use",
    "package-indistinct",
    "package-key-removed",
    "package-superseded",
    "package-unsigned",
    "product-in-use",
    "refused",
    "request-unanswered",
    "second-factor-required",
    "second-factor-there",
    "signature-required",
    "store-unavailable",
    "task-ended",
    "task-finished",
    "task-held",
    "task-running",
    "tenant-in-use",
    "too-large",
    "too-many-exports",
    "too-many-forecasts",
    "too-many-groups",
    "too-many-homes",
    "too-many-keys",
    "too-many-links",
    "too-many-log-ins",
    "too-many-offers",
    "too-many-products",
    "too-many-sites",
    "too-many-requests",
    "too-many-segments",
    "too-many-streams",
    "too-many-tenants",
    "too-many-tokens",
    "too-many-users",
    "too-many-webhooks",
    "unauthorized",
    "unknown-devices",
    "unreadable-body",
    "upgrade-ended",
    "upgrade-running",
    "user-disabled",
    "wrong-content-type",
];

fn kinds() -> Object {
    Object::builder()
        .schema_type(Type::String)
        .enum_values(Some(KINDS.map(|name| format!("{URN}{name}"))))
        .examples([format!("{URN}not-found")])
        .build()
}

/// What stands before the word that tells the kind.
pub(crate) const URN: &str = "urn:cellwise:problem:";

impl Problem {
    /// A problem of the kind `name` (words joined by hyphens).
    #[expect(
        clippy::needless_pass_by_value,
        reason = "most callers have no further use for it"
    )]
    pub(super) fn new(status: StatusCode, name: &str, title: &str, detail: impl ToString) -> Self {
        debug_assert!(KINDS.contains(&name), "{name} is described nowhere");
        Self {
            kind: format!("{URN}{name}").into(),
            title: title.into(),
            status: status.as_u16(),
            detail: detail.to_string().into(),
            instance: Box::default(),
            errors: Vec::new(),
        }
    }

    /// The request was understood, but fields are wrong.
    pub(super) fn fields(errors: Vec<FieldError>) -> Self {
        let detail = errors
            .iter()
            .map(|error| format!("{}: {}", error.field, error.detail))
            .collect::<Vec<_>>()
            .join("; ");
        Self {
            errors,
            ..Self::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                "invalid-field",
                "A field is not valid",
                detail,
            )
        }
    }

    /// A single field is wrong.
    pub(crate) fn field(field: &str, detail: impl ToString) -> Self {
        Self::fields(vec![FieldError::new(field, detail)])
    }

    /// The same, where the fields are those of an object in the field `place`.
    pub(super) fn below(mut self, place: &str) -> Self {
        for error in &mut self.errors {
            error.field = format!("{place}.{}", error.field);
        }
        match self.name() {
            "invalid-field" => Self::fields(self.errors),
            _ => self,
        }
    }

    /// What was asked for is not there.
    pub(crate) fn not_found(detail: impl ToString) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail)
    }

    /// The state of things does not allow it.
    pub(super) fn conflict(name: &str, title: &str, detail: impl ToString) -> Self {
        Self::new(StatusCode::CONFLICT, name, title, detail)
    }

    /// The same, about what stands in a field.
    pub(super) fn about(mut self, field: &str) -> Self {
        self.errors = vec![FieldError::new(field, &self.detail)];
        self
    }

    /// A fault of the server's own. Logged here, because nobody above knows more.
    pub(super) fn internal(error: &dyn std::error::Error) -> Self {
        tracing::error!(%error, "a request to the admin API failed");
        Self::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "The server failed",
            error,
        )
    }

    /// As [`internal`](Self::internal), of something that no error tells.
    pub(crate) fn broken(what: String) -> Self {
        Self::internal(&std::io::Error::other(what))
    }

    /// What axum answers by itself, without a body of ours. `described`: where it is told what there is.
    pub(crate) fn of_status(
        status: StatusCode,
        method: &Method,
        path: &str,
        described: &str,
    ) -> Self {
        let (name, detail) = match status {
            StatusCode::NOT_FOUND => (
                "no-such-path",
                format!("there is no {path}; {described} lists what there is"),
            ),
            StatusCode::METHOD_NOT_ALLOWED => (
                "method-not-allowed",
                format!("{method} is not possible on {path}; the Allow header lists what is"),
            ),
            _ => ("refused", "the request was refused".to_owned()),
        };
        let title = status.canonical_reason().unwrap_or("Refused");
        Self::new(status, name, title, detail)
    }

    /// The word that tells its kind.
    pub(super) fn name(&self) -> &str {
        self.kind.strip_prefix(URN).unwrap_or(&self.kind)
    }

    /// The answer, with one more header.
    pub(super) fn with_header(self, name: HeaderName, value: HeaderValue) -> Response {
        let mut response = self.into_response();
        response.headers_mut().insert(name, value);
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(&self)).into_response();
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, MEDIA_TYPE);
        response.extensions_mut().insert(self);
        response
    }
}

/// Gives every error answer the form of a problem, and every problem the path that it is about.
pub(super) async fn complete(request: Request, next: Next) -> Response {
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let mut response = next.run(request).await;
    let status = response.status();
    let mut problem = match response.extensions_mut().remove::<Problem>() {
        Some(problem) => problem,
        // a page of the console tells it to people
        None if is_page(&response) => return response,
        None if status.is_client_error() || status.is_server_error() => {
            Problem::of_status(status, &method, &path, "/openapi.json")
        }
        None => return response,
    };
    problem.instance = path.into();
    in_form(response, &problem)
}

fn is_page(response: &Response) -> bool {
    let kind = response.headers().get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"text/html"))
}

/// An error answer with this problem for its body.
pub(crate) fn in_form(response: Response, problem: &impl Serialize) -> Response {
    let (mut parts, _) = response.into_parts();
    parts.headers.insert(header::CONTENT_TYPE, MEDIA_TYPE);
    parts.headers.remove(header::CONTENT_LENGTH);
    if matches!(
        parts.status,
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
    ) {
        let usual = parts.headers.entry(header::RETRY_AFTER);
        usual.or_insert(RETRY_AFTER);
    }
    let body = serde_json::to_vec(problem).unwrap_or_default();
    Response::from_parts(parts, Body::from(body))
}
