//! `/v1/exclusions`.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    ApiState, etag,
    extract::{self, Fields, ListBody, Paging, Path, Query},
    problem::Problem,
    scoped::{self, Seen},
    sifted::Sifted,
};
use crate::{access::Scope, lwm2m::check_endpoint, store::Exclusion};

/// Devices of one request.
const MAX_DEVICES: usize = 10_000;
/// Characters of a reason.
const MAX_REASON: usize = 200;
/// Wrong endpoint names that are told at once.
const TOLD: usize = 100;

/// A device that is not to be upgraded.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ExclusionBody {
    /// The endpoint name. There need not be such a device.
    endpoint: String,
    /// Why.
    reason: String,
    /// Since when.
    #[schema(format = DateTime)]
    excluded_at: String,
    /// Another number after each change: the `ETag` of `GET /v1/exclusions/{endpoint}`.
    revision: i64,
}

impl From<Exclusion> for ExclusionBody {
    fn from(exclusion: Exclusion) -> Self {
        Self {
            endpoint: exclusion.endpoint,
            reason: exclusion.reason,
            excluded_at: exclusion.since.to_string(),
            revision: exclusion.revision,
        }
    }
}

/// Devices that are not to be upgraded.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Exclude {
    /// Their endpoint names, 1 to 10,000. There need not be such devices yet.
    #[schema(min_items = 1, max_items = 10_000, schema_with = endpoints)]
    endpoints: Vec<String>,
    /// Why, 1 to 200 characters.
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]{1,200}$",
        example = "on loan to the laboratory"
    )]
    reason: String,
}

fn endpoints() -> utoipa::openapi::Array {
    let name = utoipa::openapi::ObjectBuilder::new()
        .schema_type(utoipa::openapi::Type::String)
        .min_length(Some(1))
        .max_length(Some(128))
        .pattern(Some(r"^(?!\.{1,2}$)[A-Za-z0-9._~:@!$'()*+,;=-]{1,128}$"))
        .examples(["urn:imei:867723032612345"]);
    utoipa::openapi::ArrayBuilder::new()
        .items(name)
        .min_items(Some(1))
        .max_items(Some(MAX_DEVICES))
        .description(Some(
            "Their endpoint names, 1 to 10,000. There need not be such devices yet.",
        ))
        .build()
}

/// What became of devices that were excluded.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct ExcludedBody {
    /// Devices that are excluded now and were not before.
    added: u64,
    /// Devices that were excluded already, and have the given reason now.
    unchanged: u64,
}

/// Exclude devices from upgrades.
///
/// An upgrade that waits, or fails and is to be tried again, does not begin while its device is excluded. One that runs
/// goes on. A new task leaves excluded devices out. An exclusion outlives the device.
#[utoipa::path(post, path = "/v1/exclusions", operation_id = "add_exclusions", tag = "devices", request_body = Exclude,
    responses(
        (status = 200, description = "They are excluded", body = ExcludedBody),
        (status = 409, description = "A caller that sees some devices only names others", body = Problem),
    ))]
pub(super) async fn add(
    State(state): State<ApiState>,
    scope: Scope,
    extract::Json(body): extract::Json<Exclude>,
) -> Result<Json<ExcludedBody>, Problem> {
    let mut fields = Fields::default();
    let count = body.endpoints.len();
    fields.check(
        "endpoints",
        (1..=MAX_DEVICES).contains(&count),
        format!("{count} devices; 1 to {MAX_DEVICES} are possible"),
    );
    let wrong = (body.endpoints.iter().take(MAX_DEVICES).enumerate())
        .filter_map(|(i, name)| Some((i, check_endpoint(name.as_bytes()).err()?)));
    for (i, error) in wrong.take(TOLD) {
        fields.check(&format!("endpoints[{i}]"), false, error);
    }
    let length = body.reason.chars().count();
    fields.check(
        "reason",
        (1..=MAX_REASON).contains(&length) && !body.reason.chars().any(char::is_control),
        format!("a reason has 1 to {MAX_REASON} characters and no control characters"),
    );
    fields.finish()?;
    let within = scoped::within(&state, &scope);
    let excluded = (state.store)
        .exclude(&body.endpoints, &body.reason, within.as_ref(), state.now())
        .await?;
    state.signals.written();
    Ok(Json(ExcludedBody {
        added: excluded.added,
        unchanged: excluded.unchanged,
    }))
}

/// List excluded devices, ordered by endpoint name.
#[utoipa::path(get, path = "/v1/exclusions", operation_id = "list_exclusions", tag = "devices", params(Paging),
    responses(
        (status = 200, description = "A page", body = ListBody<ExclusionBody>),
    ))]
pub(super) async fn list(
    State(state): State<ApiState>,
    scope: Scope,
    Query(paging): Query<Paging>,
) -> Result<Json<ListBody<ExclusionBody>>, Problem> {
    let mut after: Option<String> = state.cursors.after(&paging, "exclusions")?;
    let mut sifted = Sifted::new(paging.limit()?);
    let key = |exclusion: &Exclusion| exclusion.endpoint.clone();
    loop {
        let page = (state.store)
            .exclusions(after.as_deref(), sifted.at_once(&scope))
            .await?;
        after = page.items.last().map(key);
        let endpoints = page.items.iter().map(|exclusion| &*exclusion.endpoint);
        let seen = Seen::of(&state, &scope, endpoints).await?;
        if !sifted.take(page, key, |it| seen.has(&it.endpoint)) {
            break;
        }
    }
    let (found, next) = sifted.page(key);
    let next = next.map(|next| state.cursors.seal("exclusions", &next));
    let items = found.into_iter().map(ExclusionBody::from);
    Ok(Json(ListBody::with_cursor(items, next.transpose()?)))
}

/// The exclusion of a device.
#[utoipa::path(get, path = "/v1/exclusions/{endpoint}", operation_id = "get_exclusion", tag = "devices",
    params(("endpoint" = String, Path, description = "The endpoint name, percent-encoded")),
    responses(
        (status = 200, description = "The exclusion", body = ExclusionBody,
            headers(("ETag" = String, description = "Its revision"))),
        (status = 404, description = "It is not excluded", body = Problem),
    ))]
pub(super) async fn get(
    State(state): State<ApiState>,
    scope: Scope,
    Path(endpoint): Path<String>,
) -> Result<Response, Problem> {
    if !scoped::sees(&state, &scope, &endpoint).await? {
        return Err(not_excluded(&endpoint));
    }
    let exclusion = state.store.exclusion(&endpoint).await?;
    let exclusion = exclusion.ok_or_else(|| not_excluded(&endpoint))?;
    let revision = exclusion.revision;
    Ok(etag::tagged(revision, ExclusionBody::from(exclusion)))
}

fn not_excluded(endpoint: &str) -> Problem {
    Problem::not_found(format!("device {endpoint:?} is not excluded"))
}

/// End the exclusion of a device.
///
/// Upgrades of it that wait begin when their turn comes. With `If-Match` it ends only if nobody has changed it since.
#[utoipa::path(delete, path = "/v1/exclusions/{endpoint}", operation_id = "end_exclusion", tag = "devices",
    params(("endpoint" = String, Path, description = "The endpoint name, percent-encoded"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that the caller has seen")),
    responses(
        (status = 204, description = "It is excluded no more"),
        (status = 404, description = "It is not excluded", body = Problem),
        (status = 412, description = "Somebody has changed it meanwhile", body = Problem),
    ))]
pub(super) async fn end(
    State(state): State<ApiState>,
    scope: Scope,
    Path(endpoint): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let seen = etag::if_match(&headers)?;
    let within = scoped::within(&state, &scope);
    let ended = (state.store).end_exclusion(&endpoint, seen, within.as_ref());
    if !ended.await? {
        return Err(not_excluded(&endpoint));
    }
    state.signals.members.changed();
    state.signals.written();
    Ok(StatusCode::NO_CONTENT)
}
