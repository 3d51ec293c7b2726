//! `/v1/sites`.

use std::time::Duration;

use axum::{
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
    scoped,
};
use crate::{
    access::Scope,
    ledger::Attribute,
    store::{MAX_SITE_LIMIT, SiteKey, SiteRecord},
};

/// Longest note, characters.
const MAX_NOTE: usize = 1_000;
/// Within this time the gate usually knows another limit.
const GATE_KNOWS_WITHIN: Duration = Duration::from_secs(2);

/// A site that has a limit.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SiteBody {
    /// Its name, as its devices have it in their attribute `site`.
    site: String,
    /// Whose it is; not there where it is the tenant `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    /// How many of its devices may upgrade at once.
    #[schema(minimum = 1, maximum = 100_000)]
    limit: u32,
    /// The operator's note.
    #[schema(required)]
    note: Option<String>,
    /// Another number after each change: the `ETag` of the site.
    revision: i64,
}

/// A site that has a limit, and how it stands there.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SiteDetailBody {
    #[serde(flatten)]
    site: SiteBody,
    /// Devices that upgrade now, from their slot to the end; `null` where that cannot be told within moments.
    #[schema(required)]
    active: Option<u32>,
    /// Devices that wait for a slot, of their cell or of the site; `null` as above.
    #[schema(required)]
    waiting: Option<usize>,
}

/// The limit of a site.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetSite {
    /// How many of its devices may upgrade at once, 1 to 100,000.
    #[serde(deserialize_with = "extract::whole")]
    #[schema(value_type = u32, minimum = 1, maximum = 100_000)]
    limit: u32,
    /// A note, 1 to 1,000 characters; none where it is left out.
    #[schema(
        min_length = 1,
        max_length = 1000,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]*[^\u0000-\u001f\u007f-\u009f\s][^\u0000-\u001f\u007f-\u009f]*$"
    )]
    note: Option<String>,
}

impl From<SiteRecord> for SiteBody {
    fn from(site: SiteRecord) -> Self {
        let tenant = site.key.tenant;
        Self {
            site: site.key.name,
            tenant: (!tenant.is_default()).then(|| tenant.to_string()),
            limit: site.limit,
            note: site.note,
            revision: site.revision,
        }
    }
}

impl SiteDetailBody {
    /// Asks the gate how it stands there.
    async fn tagged(state: &ApiState, site: SiteRecord) -> Response {
        let live = state.lanes.lane(site.key.lane()).await;
        let revision = site.revision;
        let body = Self {
            site: site.into(),
            active: live.map(|live| live.taken),
            waiting: live.map(|live| live.waiting),
        };
        etag::tagged(revision, body)
    }
}

/// The site of that name of the tenant that the request is for.
fn key(scope: &Scope, name: String) -> Result<SiteKey, Problem> {
    let most = Attribute::Site.max_chars();
    let count = name.chars().count();
    if !(1..=most).contains(&count) || name.chars().any(char::is_control) {
        let detail = format!("a site has 1 to {most} characters and no control characters");
        return Err(Problem::field("site", detail));
    }
    Ok(SiteKey {
        tenant: scoped::home(scope)?,
        name,
    })
}

fn no_limit(key: &SiteKey) -> Problem {
    Problem::not_found(format!("site {:?} has no limit", key.name))
}

/// List the sites that have a limit, newest first.
#[utoipa::path(get, path = "/v1/sites", operation_id = "list_sites", tag = "sites", params(Paging),
    responses(
        (status = 200, description = "A page", body = ListBody<SiteBody>),
    ))]
pub(super) async fn list(
    State(state): State<ApiState>,
    scope: Scope,
    Query(paging): Query<Paging>,
) -> Result<axum::Json<ListBody<SiteBody>>, Problem> {
    let before = paging.after::<i64>("sites")?;
    let tenants = scope.tenants();
    let page = (state.store)
        .sites(tenants.as_deref(), before, paging.limit()?)
        .await?;
    let body = ListBody::new(page, "sites", |site| site.id, SiteBody::from);
    Ok(axum::Json(body))
}

/// A site that has a limit, and how many of its devices upgrade and wait.
#[utoipa::path(get, path = "/v1/sites/{site}", operation_id = "get_site", tag = "sites",
    params(("site" = String, Path, min_length = 1, max_length = 128, description = "Its name")),
    responses(
        (status = 200, description = "The site", body = SiteDetailBody, headers(("ETag" = String, description = "Its revision"))),
        (status = 404, description = "It has no limit", body = Problem),
    ))]
pub(super) async fn get(
    State(state): State<ApiState>,
    scope: Scope,
    Path(site): Path<String>,
) -> Result<Response, Problem> {
    let key = key(&scope, site)?;
    match state.store.site(&key).await? {
        Some(site) => Ok(SiteDetailBody::tagged(&state, site).await),
        None => Err(no_limit(&key)),
    }
}

/// Give a site a limit: so many of its devices may upgrade at once, in whatever cells they are.
///
/// It holds at once for whoever is admitted next; nobody loses a slot. With `If-Match` it is changed only if nobody has changed it since:
/// the `ETag` of the site; `"0"` is that of a site without a limit. No device has to be there yet.
#[utoipa::path(put, path = "/v1/sites/{site}", operation_id = "set_site", tag = "sites", request_body = SetSite,
    params(("site" = String, Path, min_length = 1, max_length = 128, description = "Its name"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that the caller has seen")),
    responses(
        (status = 200, description = "The site", body = SiteDetailBody, headers(("ETag" = String, description = "Its revision"))),
        (status = 409, description = "Too many sites have a limit", body = Problem),
        (status = 412, description = "Somebody has changed it meanwhile", body = Problem),
    ))]
pub(super) async fn set(
    State(state): State<ApiState>,
    scope: Scope,
    Path(site): Path<String>,
    headers: HeaderMap,
    extract::Json(body): extract::Json<SetSite>,
) -> Result<Response, Problem> {
    let key = key(&scope, site)?;
    let seen = etag::if_match(&headers)?;
    let mut fields = Fields::default();
    let fits = (1..=MAX_SITE_LIMIT).contains(&body.limit);
    let detail = format!(
        "{} is out of range: 1 to {MAX_SITE_LIMIT} are possible",
        body.limit
    );
    fields.check("limit", fits, detail);
    if let Some(note) = &body.note {
        fields.take("note", super::cells::rules::check_text(note, MAX_NOTE));
    }
    fields.finish()?;
    let site = (state.store)
        .set_site(&key, body.limit, body.note.as_deref(), seen)
        .await?;
    state.signals.devices_written(GATE_KNOWS_WITHIN).await;
    Ok(SiteDetailBody::tagged(&state, site).await)
}

/// Take the limit of a site away.
#[utoipa::path(delete, path = "/v1/sites/{site}", operation_id = "clear_site", tag = "sites",
    params(("site" = String, Path, min_length = 1, max_length = 128, description = "Its name"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that the caller has seen")),
    responses(
        (status = 204, description = "Taken away"),
        (status = 404, description = "It has no limit", body = Problem),
        (status = 412, description = "Somebody has changed it meanwhile", body = Problem),
    ))]
pub(super) async fn clear(
    State(state): State<ApiState>,
    scope: Scope,
    Path(site): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let key = key(&scope, site)?;
    let seen = etag::if_match(&headers)?;
    state.store.clear_site(&key, seen).await?;
    state.signals.devices_written(GATE_KNOWS_WITHIN).await;
    Ok(StatusCode::NO_CONTENT)
}
