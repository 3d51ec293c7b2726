//! Requests taken apart: bodies, parameters and cursors, with problems for what does not fit.

use axum::{
    body::to_bytes,
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderMap, StatusCode, Uri, header, request::Parts},
};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, Error as _},
};
use utoipa::{IntoParams, ToSchema};

use super::problem::{FieldError, Problem};
use crate::store::Page;

/// Largest JSON body, bytes.
const MAX_JSON_BYTES: usize = 4 * 1024 * 1024;
/// Longest page.
const MAX_LIMIT: u32 = 1_000;
const DEFAULT_LIMIT: u32 = 100;

/// A JSON body. Unknown fields, wrong types and broken JSON are told with their place.
pub(crate) struct Json<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Json<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        expect_media_type(request.headers(), "application/json")?;
        let body = to_bytes(request.into_body(), MAX_JSON_BYTES)
            .await
            .map_err(|error| body_problem(&error, "a JSON body", MAX_JSON_BYTES))?;
        parse(&body).map(Self)
    }
}

/// Why `what`, of at most `max_bytes` bytes, was not read.
pub(super) fn body_problem(error: &axum::Error, what: &str, max_bytes: usize) -> Problem {
    let mut source: Option<&dyn std::error::Error> = Some(error);
    while let Some(inner) = source {
        if inner.is::<http_body_util::LengthLimitError>() {
            return too_large(format!("{what} has at most {max_bytes} bytes"));
        }
        source = inner.source();
    }
    unreadable(error)
}

/// The body ended early, or is no proper HTTP.
pub(super) fn unreadable(error: &axum::Error) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "unreadable-body",
        "The body could not be read",
        format!("the body did not arrive completely: {error}"),
    )
}

/// The body is longer than allowed.
pub(super) fn too_large(detail: impl ToString) -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "too-large",
        "The body is too large",
        detail,
    )
}

/// Refuses a body of another media type.
pub(super) fn expect_media_type(headers: &HeaderMap, expected: &str) -> Result<(), Problem> {
    let given = headers
        .get(header::CONTENT_TYPE)
        .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    let essence = given.as_deref().and_then(|given| given.split(';').next());
    if essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case(expected)) {
        return Ok(());
    }
    let given = given.map_or_else(|| "none".to_owned(), |given| format!("{given:?}"));
    Err(Problem::new(
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "wrong-content-type",
        "Another content type is expected",
        format!("send the body with Content-Type: {expected}; it was {given}"),
    ))
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    // A list would be taken for the fields of an object in their order.
    if body.trim_ascii_start().first() == Some(&b'[') {
        return Err(Problem::field("body", "is a list; an object is expected"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(body);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let path = error.path().to_string();
        let inner = error.into_inner();
        if inner.is_data() {
            Problem::field(if path == "." { "body" } else { &path }, inner)
        } else {
            malformed(&inner)
        }
    })?;
    deserializer.end().map_err(|error| malformed(&error))?;
    Ok(value)
}

/// A whole number, also where it is written as `7.0`: to JSON Schema that is an integer (2020-12 Validation §6.1.1).
pub(crate) fn whole<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<i64>,
{
    let number = serde_json::Number::deserialize(deserializer)?;
    let whole = number.as_i64().or_else(|| {
        let float = number.as_f64()?;
        // beyond this not every whole number has a form of its own
        let exact = float.fract() == 0.0 && float.abs() < 9e15;
        exact.then(|| format!("{float:.0}").parse().ok())?
    });
    let number = whole.and_then(|whole| T::try_from(whole).ok());
    number.ok_or_else(|| D::Error::custom("it is no whole number in the range of this field"))
}

/// As [`whole`], for a field that may be left out or be `null`.
pub(super) fn optional_whole<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<i64>,
{
    struct Whole<T>(T);
    impl<'de, T: TryFrom<i64>> Deserialize<'de> for Whole<T> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            whole(deserializer).map(Self)
        }
    }
    let number = Option::<Whole<T>>::deserialize(deserializer)?;
    Ok(number.map(|Whole(number)| number))
}

/// A field that may be left out (`None`), be `null` (`Some(None)`), or have a value. It needs `default` beside it.
#[expect(clippy::option_option, reason = "these are three cases")]
pub(super) fn nullable<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Some)
}

/// The same of a whole number.
#[expect(clippy::option_option, reason = "these are three cases")]
pub(super) fn nullable_whole<'de, D, T>(deserializer: D) -> Result<Option<Option<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<i64>,
{
    optional_whole(deserializer).map(Some)
}

fn malformed(error: &serde_json::Error) -> Problem {
    Problem::new(
        StatusCode::BAD_REQUEST,
        "malformed-json",
        "The body is not JSON",
        error,
    )
}

/// The parameter of the tenant for which an operation is carried out.
const TENANT: &str = "tenant=";

/// The door has narrowed a request to the tenant that its query names: to its handler it is no parameter.
#[derive(Debug, Clone, Copy)]
pub(super) struct TenantIsNamed;

/// The tenants that a query names.
pub(super) fn tenants_named(uri: &Uri) -> impl Iterator<Item = &str> {
    let pairs = uri.query().unwrap_or_default().split('&');
    pairs.filter_map(|pair| pair.strip_prefix(TENANT))
}

/// The address without the tenant that it names.
fn without_tenant(uri: &Uri) -> Uri {
    let pairs = uri.query().unwrap_or_default().split('&');
    let others: Vec<&str> = pairs.filter(|pair| !pair.starts_with(TENANT)).collect();
    let query = format!("/?{}", others.join("&"));
    query.parse().unwrap_or_default() // it is a part of one
}

/// Query parameters. Unknown and repeated ones are refused.
pub(crate) struct Query<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let stripped =
            (parts.extensions.get::<TenantIsNamed>()).map(|_| without_tenant(&parts.uri));
        axum::extract::Query::try_from_uri(stripped.as_ref().unwrap_or(&parts.uri))
            .map(|axum::extract::Query(query)| Self(query))
            .map_err(|rejection| {
                // axum's own beginning says no more than our title
                let text = rejection.body_text();
                let detail = text.split_once(": ").map_or(&*text, |(_, cause)| cause);
                Problem::new(
                    StatusCode::BAD_REQUEST,
                    "bad-parameter",
                    "A query parameter is not valid",
                    detail,
                )
            })
    }
}

/// A path parameter.
pub(crate) struct Path<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        axum::extract::Path::from_request_parts(parts, state)
            .await
            .map(|axum::extract::Path(path)| Self(path))
            .map_err(|rejection| {
                Problem::new(
                    StatusCode::BAD_REQUEST,
                    "bad-path",
                    "The path is not valid",
                    rejection.body_text(),
                )
            })
    }
}

/// Which page of a list.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub(super) struct Paging {
    /// Items in the answer, 1 to 1000; 100 when not given.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next_cursor` of the page before; the first page when not given.
    cursor: Option<String>,
}

impl Paging {
    pub(super) fn new(limit: Option<u32>, cursor: Option<String>) -> Self {
        Self { limit, cursor }
    }

    pub(super) fn limit(&self) -> Result<u32, Problem> {
        match self.limit {
            None => Ok(DEFAULT_LIMIT),
            Some(limit @ 1..=MAX_LIMIT) => Ok(limit),
            Some(limit) => Err(Problem::field(
                "limit",
                format!("{limit} is out of range: 1 to {MAX_LIMIT} are possible"),
            )),
        }
    }

    /// The key after which the page begins. A cursor of another list is refused.
    pub(super) fn after<K: CursorKey>(&self, list: &str) -> Result<Option<K>, Problem> {
        let Some(cursor) = &self.cursor else {
            return Ok(None);
        };
        hex::decode(cursor)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .and_then(|text| {
                let key = text.strip_prefix(list)?.strip_prefix(' ')?;
                K::from_text(key)
            })
            .map(Some)
            .ok_or_else(Self::no_cursor)
    }

    pub(super) fn cursor(&self) -> Option<&str> {
        self.cursor.as_deref()
    }

    pub(super) fn no_cursor() -> Problem {
        Problem::field(
            "cursor",
            "this is no cursor of this list; take next_cursor of the page before as it is",
        )
    }
}

/// A key that a list is ordered by.
pub(super) trait CursorKey: Sized + ToString {
    fn from_text(text: &str) -> Option<Self>;
}

impl CursorKey for i64 {
    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl CursorKey for u32 {
    fn from_text(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl CursorKey for String {
    fn from_text(text: &str) -> Option<Self> {
        Some(text.to_owned())
    }
}

/// Part of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ListBody<T> {
    /// The items of this page.
    items: Vec<T>,
    /// Give it as `cursor` to get the next page; `null` on the last page.
    #[schema(required)]
    next_cursor: Option<String>,
}

impl<T> ListBody<T> {
    /// The answer for `page` of the list named `list`, whose rows have the key `key`.
    pub(super) fn new<R, K: CursorKey>(
        page: Page<R>,
        list: &str,
        key: impl Fn(&R) -> K,
        item: impl Fn(R) -> T,
    ) -> Self {
        let next_cursor = page
            .items
            .last()
            .filter(|_| page.more)
            .map(|last| hex::encode(format!("{list} {}", key(last).to_string())));
        Self {
            items: page.items.into_iter().map(item).collect(),
            next_cursor,
        }
    }

    /// The same without the rows that `keep` leaves out: a page may have fewer items than `limit` although others follow.
    pub(super) fn of_seen<R, K: CursorKey>(
        page: Page<R>,
        list: &str,
        key: impl Fn(&R) -> K,
        keep: impl Fn(&R) -> bool,
        item: impl Fn(R) -> T,
    ) -> Self {
        let next = page.items.last().filter(|_| page.more).map(key);
        let kept = page.items.into_iter().filter(keep).map(item);
        Self::after(kept, list, next)
    }

    /// The answer with these items of the list named `list`, whose next page starts after `next`.
    pub(super) fn after<K: CursorKey>(
        items: impl IntoIterator<Item = T>,
        list: &str,
        next: Option<K>,
    ) -> Self {
        let next = next.map(|next| hex::encode(format!("{list} {}", next.to_string())));
        Self::with_cursor(items, next)
    }

    /// The answer with these items, and the cursor of the next page.
    pub(super) fn with_cursor(
        items: impl IntoIterator<Item = T>,
        next_cursor: Option<String>,
    ) -> Self {
        Self {
            items: items.into_iter().collect(),
            next_cursor,
        }
    }
}

/// Collects what is wrong with several fields, so that all of it is told at once.
#[derive(Debug, Default)]
pub(super) struct Fields(Vec<FieldError>);

impl Fields {
    /// `field` is wrong unless `ok`.
    pub(super) fn check(&mut self, field: &str, ok: bool, detail: impl ToString) {
        if !ok {
            self.0.push(FieldError::new(field, detail));
        }
    }

    /// The value, or the note that `field` is wrong.
    pub(super) fn take<T, E: ToString>(&mut self, field: &str, value: Result<T, E>) -> Option<T> {
        value
            .map_err(|error| self.0.push(FieldError::new(field, error)))
            .ok()
    }

    /// Fails if a field is wrong.
    pub(super) fn finish(self) -> Result<(), Problem> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(Problem::fields(self.0))
        }
    }
}
