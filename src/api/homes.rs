//! `/v1/homes`: end users' homes, who is in them, and which devices.

pub(super) mod bulk;
pub(super) mod devices;
pub(super) mod members;
mod names;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use devices::{HomeDeviceBody, PutDevices};
use members::{HomeMemberBody, PutMembers};
use names::{check_text, key, no_home};

use super::{
    ApiState, etag,
    extract::{self, Fields, ListBody, Paging, Path, Query},
    problem::Problem,
    scoped,
};
use crate::{
    access::Scope,
    home::{HomeId, HomeKey, MAX_NAME, QuietHours},
    store::{HomeRecord, PutHome},
    task::time_zone,
    tenant::TenantId,
};

/// The zone of a home of which nobody says where it is.
const ZONE: &str = "UTC";

/// A home.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HomeBody {
    /// What the integrator calls it.
    home: String,
    /// Whose it is; not there where it is the tenant `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    /// What people call it.
    name: String,
    /// Its time zone, an IANA name.
    zone: String,
    /// When no upgrade begins by itself there; `null`: at no time.
    #[schema(required)]
    quiet: Option<QuietBody>,
    /// How many members it has.
    members: u32,
    /// How many devices it has.
    devices: u32,
    /// When it was added.
    #[schema(format = DateTime)]
    created_at: String,
    /// Another number after each change of it, its members and its devices: the `ETag` of the home.
    revision: i64,
}

/// A home, who is in it, and which devices.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct HomeDetailBody {
    #[serde(flatten)]
    home: HomeBody,
    /// Everybody who is in it, by their names.
    people: Vec<HomeMemberBody>,
    /// What is in it, by the endpoint names.
    things: Vec<HomeDeviceBody>,
}

/// Hours of the home's zone in which no upgrade begins by itself. Upgrades that have begun go on.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct QuietBody {
    /// From this time of the day on.
    #[schema(pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$", example = "22:00")]
    from: String,
    /// Up to this one, over midnight where it is before `from`. It is another one.
    #[schema(pattern = "^([01][0-9]|2[0-3]):[0-5][0-9]$", example = "06:30")]
    to: String,
}

/// A home as it is to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SetHome {
    /// What people call it, 1 to 100 characters.
    #[schema(
        min_length = 1,
        max_length = 100,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]*[^\u0000-\u001f\u007f-\u009f\s][^\u0000-\u001f\u007f-\u009f]*$",
        example = "Baker Street 221b"
    )]
    name: String,
    /// Its time zone, an IANA name; `UTC` when not given.
    #[schema(example = "Europe/Berlin", max_length = 64)]
    zone: Option<String>,
    /// When no upgrade begins by itself there; at no time when not given.
    quiet: Option<QuietBody>,
    /// Everybody who is in it, up to 64: each user with what it is there. They stay as they are when not given.
    people: Option<PutMembers>,
    /// All devices that are in it, up to 256, by their endpoint names. They stay as they are when not given.
    things: Option<PutDevices>,
}

impl From<HomeRecord> for HomeBody {
    fn from(home: HomeRecord) -> Self {
        let tenant = home.key.tenant;
        Self {
            home: home.key.id.to_string(),
            tenant: (!tenant.is_default()).then(|| tenant.to_string()),
            name: home.name,
            zone: home.zone,
            quiet: home.quiet.map(|quiet| {
                let (from, to) = quiet.times();
                QuietBody { from, to }
            }),
            members: home.members,
            devices: home.devices,
            created_at: home.created_at.to_string(),
            revision: home.revision,
        }
    }
}

impl SetHome {
    /// The home, or what is wrong with it, each with its field, below `place`.
    fn read(
        self,
        tenant: &TenantId,
        id: &str,
        place: &str,
        fields: &mut Fields,
    ) -> Option<PutHome> {
        let field = |name: &str| format!("{place}{name}");
        let id: Option<HomeId> = fields.take(&field("home"), id.parse());
        check_text(fields, &field("name"), &self.name, MAX_NAME);
        let zone = self.zone.unwrap_or_else(|| ZONE.to_owned());
        fields.take(&field("zone"), time_zone(&zone));
        let quiet = match self.quiet {
            None => None,
            Some(quiet) => {
                let detail =
                    "give two times of the day that are not the same, such as 22:00 and 06:30";
                let hours = QuietHours::parse(&quiet.from, &quiet.to).ok_or(detail);
                fields.take(&field("quiet"), hours)
            }
        };
        let members = (self.people).map(|people| people.read(&field("people"), fields));
        let devices = (self.things).map(|things| things.read(&field("things"), fields));
        Some(PutHome {
            key: HomeKey {
                tenant: tenant.clone(),
                id: id?,
            },
            name: self.name,
            zone,
            quiet,
            members,
            devices,
        })
    }
}

/// A home that has to be there, with who and what is in it.
async fn shown(state: &ApiState, key: &HomeKey) -> Result<Response, Problem> {
    let home = state.store.home(key).await?;
    let home = home.ok_or_else(|| no_home(key))?;
    let revision = home.revision;
    let people = state.store.members(key).await?;
    let things = state.store.devices_in(key).await?;
    let body = HomeDetailBody {
        home: home.into(),
        people: people.into_iter().map(Into::into).collect(),
        things: things.into_iter().map(Into::into).collect(),
    };
    Ok(etag::tagged(revision, body))
}

/// List homes, newest first.
#[utoipa::path(get, path = "/v1/homes", operation_id = "list_homes", tag = "homes", params(Paging),
    responses(
        (status = 200, description = "A page", body = ListBody<HomeBody>),
    ))]
pub(super) async fn list(
    State(state): State<ApiState>,
    scope: Scope,
    Query(paging): Query<Paging>,
) -> Result<Json<ListBody<HomeBody>>, Problem> {
    let before = paging.after::<i64>("homes")?;
    let tenants = scope.tenants();
    let page = (state.store)
        .homes(tenants.as_deref(), before, paging.limit()?)
        .await?;
    let body = ListBody::new(page, "homes", |home| home.number, HomeBody::from);
    Ok(Json(body))
}

/// A home, who is in it, and which devices.
#[utoipa::path(get, path = "/v1/homes/{home}", operation_id = "get_home", tag = "homes",
    params(("home" = String, Path, min_length = 1, max_length = 64, description = "What the integrator calls it")),
    responses(
        (status = 200, description = "The home", body = HomeDetailBody, headers(("ETag" = String, description = "Its revision"))),
        (status = 404, description = "There is no such home", body = Problem),
    ))]
pub(super) async fn get(
    State(state): State<ApiState>,
    scope: Scope,
    Path(home): Path<String>,
) -> Result<Response, Problem> {
    shown(&state, &key(&scope, &home)?).await
}

/// Add a home, or make it so.
///
/// Putting the same again changes nothing. Where `people` or `things` are given, those that are not among them are in it no more. A device is in
/// one home at most. With `If-Match` it is changed only if nobody has changed it since; `"0"` is the `ETag` of one that is not there.
#[utoipa::path(put, path = "/v1/homes/{home}", operation_id = "set_home", tag = "homes", request_body = SetHome,
    params(("home" = String, Path, min_length = 1, max_length = 64, description = "What the integrator calls it"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that the caller has seen")),
    responses(
        (status = 200, description = "The home", body = HomeDetailBody, headers(("ETag" = String, description = "Its revision"))),
        (status = 409, description = "A device is unknown or in another home, or there are too many homes", body = Problem),
        (status = 412, description = "Somebody has changed it meanwhile", body = Problem),
    ))]
pub(super) async fn set(
    State(state): State<ApiState>,
    scope: Scope,
    Path(home): Path<String>,
    headers: HeaderMap,
    extract::Json(body): extract::Json<SetHome>,
) -> Result<Response, Problem> {
    let tenant = scoped::home(&scope)?;
    let seen = etag::if_match(&headers)?;
    let mut fields = Fields::default();
    let put = body.read(&tenant, &home, "", &mut fields);
    fields.finish()?;
    let put = put.ok_or_else(|| Problem::field("home", "it is missing"))?;
    state.store.put_home(&put, seen, state.now()).await?;
    shown(&state, &put.key).await
}

/// Delete a home: its members are in it no more, and its devices in none.
///
/// Upgrades that were started go on.
#[utoipa::path(delete, path = "/v1/homes/{home}", operation_id = "delete_home", tag = "homes",
    params(("home" = String, Path, min_length = 1, max_length = 64, description = "What the integrator calls it"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that the caller has seen")),
    responses(
        (status = 204, description = "Deleted"),
        (status = 404, description = "There is no such home", body = Problem),
        (status = 412, description = "Somebody has changed it meanwhile", body = Problem),
    ))]
pub(super) async fn delete(
    State(state): State<ApiState>,
    scope: Scope,
    Path(home): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let key = key(&scope, &home)?;
    let seen = etag::if_match(&headers)?;
    state.store.delete_home(&key, seen).await?;
    Ok(StatusCode::NO_CONTENT)
}
