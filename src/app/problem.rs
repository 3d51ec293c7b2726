//! Problem details (RFC 9457) as applications get them: with a code, of which an application has texts in its users' languages.

use axum::{
    Json,
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use serde_json::Value;
use utoipa::{
    ToSchema,
    openapi::{Object, Type},
};

use crate::{
    api::{self, MEDIA_TYPE, URN, in_form},
    store::StoreError,
};

/// Anything that has no code of its own.
pub(super) const OTHER: u16 = 5099;

/// The words after `urn:cellwise:problem:` that tell what kind of problem it is.
const KINDS: [&str; 23] = [
    "bad-parameter",
    "bad-path",
    "disk-full",
    "forbidden",
    "internal",
    "invalid-field",
    "issuer-unavailable",
    "malformed-json",
    "method-not-allowed",
    "no-such-path",
    "not-found",
    "not-waiting",
    "offer-changed",
    "origin-refused",
    "refused",
    "store-unavailable",
    "too-large",
    "too-many-requests",
    "too-many-streams",
    "unauthorized",
    "unreadable-body",
    "upgrade-refused",
    "wrong-content-type",
];

fn kinds() -> Object {
    Object::builder()
        .schema_type(Type::String)
        .enum_values(Some(KINDS.map(|name| format!("{URN}{name}"))))
        .examples([format!("{URN}not-found")])
        .build()
}

/// Why a request was not served (RFC 9457).
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = AppProblem)]
pub(super) struct Problem {
    /// A stable word for programs, as a URN.
    #[serde(rename = "type")]
    #[schema(schema_with = kinds)]
    kind: Box<str>,
    /// The kind of problem, for people.
    #[schema(value_type = String)]
    title: Box<str>,
    /// The HTTP status.
    #[schema(example = 404)]
    status: u16,
    /// What happened in this case, and what to do.
    #[schema(value_type = String)]
    detail: Box<str>,
    /// The path that was asked for.
    #[schema(value_type = String)]
    instance: Box<str>,
    /// 5000 to 5018, or 5099 for anything that has no code of its own.
    #[schema(minimum = 5000, maximum = 5099, example = 5099)]
    code: u16,
    /// The fields that are wrong, if it is about fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<api::FieldError>,
    /// What there is now, where somebody has seen something else: as `GET …/devices/{device}/upgrades` answers it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    now: Option<Box<Value>>,
    /// Seconds after which it is worth another try.
    #[serde(skip)]
    retry_after_s: Option<u32>,
}

impl Problem {
    /// A problem of the kind `name` (words joined by hyphens), with [`OTHER`] for its code.
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
            code: OTHER,
            errors: Vec::new(),
            now: None,
            retry_after_s: None,
        }
    }

    /// It is asked for too often.
    pub(super) fn too_many(why: &str, wait_s: u64) -> Self {
        let detail = format!("{why}; wait {wait_s} s");
        Self {
            retry_after_s: Some(u32::try_from(wait_s).unwrap_or(u32::MAX)),
            ..Self::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too-many-requests",
                "Too many requests",
                detail,
            )
        }
    }

    /// What was asked for is not there.
    pub(super) fn not_found(detail: impl ToString) -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "Not found", detail)
    }

    /// Whoever asks may not do it.
    pub(super) fn forbidden(detail: impl ToString) -> Self {
        let title = "You may not do this";
        Self::new(StatusCode::FORBIDDEN, "forbidden", title, detail)
    }

    /// Nobody has said who may do it.
    pub(super) fn closed() -> Self {
        Self::forbidden("this is permitted to nobody")
    }

    /// The state of things does not allow it.
    pub(super) fn conflict(name: &str, title: &str, detail: impl ToString) -> Self {
        Self::new(StatusCode::CONFLICT, name, title, detail)
    }

    /// A field is wrong.
    pub(super) fn field(field: &str, detail: impl ToString) -> Self {
        api::Problem::field(field, detail).into()
    }

    /// The same with a code.
    pub(super) fn with_code(mut self, code: u16) -> Self {
        self.code = code;
        self
    }

    /// The same with what there is now.
    pub(super) fn with_now(mut self, now: Value) -> Self {
        self.now = Some(Box::new(now));
        self
    }

    /// The HTTP status.
    pub(super) const fn status(&self) -> u16 {
        self.status
    }

    /// Whether somebody has seen something else than there is.
    pub(super) fn is_about_change(&self) -> bool {
        self.kind.strip_prefix(URN) == Some("offer-changed")
    }
}

impl From<api::Problem> for Problem {
    fn from(problem: api::Problem) -> Self {
        Self {
            kind: problem.kind,
            title: problem.title,
            status: problem.status,
            detail: problem.detail,
            instance: problem.instance,
            code: OTHER,
            errors: problem.errors,
            now: None,
            retry_after_s: None,
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        api::Problem::from(error).into()
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(&self)).into_response();
        response
            .headers_mut()
            .insert(header::CONTENT_TYPE, MEDIA_TYPE);
        if let Some(wait_s) = self.retry_after_s {
            let wait = HeaderValue::from(wait_s);
            response.headers_mut().insert(header::RETRY_AFTER, wait);
        }
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
    let own = response.extensions_mut().remove::<Problem>();
    let of_extractors = response.extensions_mut().remove::<api::Problem>();
    let mut problem = match (own, of_extractors) {
        (Some(problem), _) => problem,
        (None, Some(problem)) => problem.into(),
        (None, None) if status.is_client_error() || status.is_server_error() => {
            api::Problem::of_status(status, &method, &path, "/app/v1/openapi.json").into()
        }
        (None, None) => return response,
    };
    problem.instance = path.into();
    in_form(response, &problem)
}
