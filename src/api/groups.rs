//! `/v1/groups`.

use std::collections::BTreeSet;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
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
    filter::Filter,
    store::{
        DeviceFilter, GroupId, GroupRecord, GroupUpdate, Members, NewGroup, NewMembers, StoreError,
    },
};

const MAX_NAME: usize = 200;
/// Devices that come to a list, or leave it, in one request.
const MAX_DEVICES: usize = 10_000;

/// A group of devices: a list, or a filter.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct GroupBody {
    /// Its number.
    id: i64,
    /// Whose it is; not there where it is the tenant `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    /// Its name.
    name: String,
    /// Counts its changes, from 1: the `ETag` of `GET /v1/groups/{id}`.
    revision: i64,
    /// Whom it lets through, as short as that can be written; `null` when the group is a list.
    #[schema(required)]
    filter: Option<String>,
    /// How many devices belong to it; `null` in lists where it has a filter, because counting takes time.
    #[schema(required)]
    members: Option<u64>,
    /// When it was added.
    #[schema(format = DateTime)]
    created_at: String,
}

impl From<GroupRecord> for GroupBody {
    fn from(group: GroupRecord) -> Self {
        let (filter, members) = match group.members {
            Members::Listed(count) => (None, Some(count)),
            Members::Matching(filter) => (Some(filter.to_string()), None),
        };
        Self {
            id: group.id.0,
            tenant: (!group.tenant.is_default()).then(|| group.tenant.to_string()),
            name: group.name,
            revision: group.revision,
            filter,
            members,
            created_at: group.created_at.to_string(),
        }
    }
}

impl GroupBody {
    /// Counts those whom its filter lets through.
    async fn counted(state: &ApiState, group: GroupRecord) -> Result<Self, StoreError> {
        let members = match &group.members {
            Members::Listed(count) => *count,
            Members::Matching(filter) => {
                let filter = DeviceFilter {
                    filter: Some(Filter::of_tenant(&group.tenant).and(filter.clone())),
                    now: state.now(),
                    ..DeviceFilter::default()
                };
                state.store.count_devices(&filter).await?
            }
        };
        Ok(Self {
            members: Some(members),
            ..group.into()
        })
    }

    /// The same of a group that was added or changed: that is done, whether its devices can be counted or not.
    async fn counted_if_possible(state: &ApiState, group: GroupRecord) -> Self {
        match Self::counted(state, group.clone()).await {
            Ok(body) => body,
            Err(error) => {
                tracing::warn!(%error, "the devices of a group cannot be counted");
                group.into()
            }
        }
    }
}

/// A group to be added: a list of devices, which is empty where neither is given, or a filter.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AddGroup {
    /// A name that no other group of the tenant has, 1 to 200 characters.
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]{1,200}$",
        example = "Northern meters"
    )]
    name: String,
    /// The endpoint names of devices that are known, up to 10,000. More are added by changing the group.
    #[schema(max_items = 10_000)]
    devices: Option<Vec<String>>,
    /// Whom it lets through, whenever that is asked (docs/fleet-and-filters.md).
    #[schema(
        max_length = 4096,
        format = "rsql",
        example = "product==meter;site==north*"
    )]
    filter: Option<String>,
}

/// What to change about a group. What is not given stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdateGroup {
    /// Its name from now on.
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]{1,200}$"
    )]
    name: Option<String>,
    /// Whom it lets through from now on; not possible where the group is a list.
    #[schema(
        max_length = 4096,
        format = "rsql",
        example = "product==meter;site==north*"
    )]
    filter: Option<String>,
    /// Endpoint names of known devices that come to the list, up to 10,000; those that are in it already stay.
    #[schema(max_items = 10_000)]
    add: Option<Vec<String>>,
    /// Endpoint names of devices that leave the list, up to 10,000; those that are not in it are passed over. They leave
    /// after others have come.
    #[schema(max_items = 10_000)]
    remove: Option<Vec<String>>,
}

fn check_name(fields: &mut Fields, name: &str) {
    fields.check(
        "name",
        (1..=MAX_NAME).contains(&name.chars().count()) && !name.chars().any(char::is_control),
        format!("a name has 1 to {MAX_NAME} characters and no control characters"),
    );
}

/// Each once.
fn check_devices(fields: &mut Fields, field: &str, devices: Option<Vec<String>>) -> Vec<String> {
    let devices = devices.unwrap_or_default();
    fields.check(
        field,
        devices.len() <= MAX_DEVICES,
        format!("at most {MAX_DEVICES} devices fit into one request; send more in several"),
    );
    let devices: BTreeSet<String> = devices.into_iter().collect();
    devices.into_iter().collect()
}

fn check_filter(fields: &mut Fields, filter: Option<&String>) -> Option<Filter> {
    fields.take("filter", Filter::parse(filter?))
}

/// Add a group.
///
/// Devices that are removed leave the lists that they are in.
#[utoipa::path(post, path = "/v1/groups", operation_id = "add_group", tag = "groups", request_body = AddGroup,
    responses(
        (status = 201, description = "Added", body = GroupBody,
            headers(("Location" = String, description = "Path of the group"), ("ETag" = String, description = "Its revision"))),
        (status = 409, description = "Another group has the name, devices are unknown, or there are too many groups",
            body = Problem),
    ))]
pub(super) async fn add(
    State(state): State<ApiState>,
    scope: Scope,
    extract::Json(body): extract::Json<AddGroup>,
) -> Result<Response, Problem> {
    let mut fields = Fields::default();
    check_name(&mut fields, &body.name);
    let both = body.devices.is_some() && body.filter.is_some();
    fields.check("filter", !both, "give devices or a filter, not both");
    let filter = check_filter(&mut fields, body.filter.as_ref());
    let devices = check_devices(&mut fields, "devices", body.devices);
    fields.finish()?;
    let new = NewGroup {
        tenant: scoped::home(&scope)?,
        name: body.name,
        members: filter.map_or(NewMembers::Listed(devices), NewMembers::Matching),
        created_at: state.now(),
    };
    let group = state.store.add_group(&new).await?;
    let location = format!("/v1/groups/{}", group.id.0);
    let tag = etag::tag(group.revision);
    let body = Json(GroupBody::counted_if_possible(&state, group).await);
    let headers = [(header::LOCATION, location), tag];
    Ok((StatusCode::CREATED, headers, body).into_response())
}

/// List groups, newest first.
#[utoipa::path(get, path = "/v1/groups", operation_id = "list_groups", tag = "groups", params(Paging),
    responses(
        (status = 200, description = "A page", body = ListBody<GroupBody>),
    ))]
pub(super) async fn list(
    State(state): State<ApiState>,
    scope: Scope,
    Query(paging): Query<Paging>,
) -> Result<Json<ListBody<GroupBody>>, Problem> {
    let before = paging.after::<i64>("groups")?.map(GroupId);
    let tenants = scope.tenants();
    let page = (state.store)
        .groups(tenants.as_deref(), before, paging.limit()?)
        .await?;
    let body = ListBody::new(page, "groups", |group| group.id.0, GroupBody::from);
    Ok(Json(body))
}

/// A group, and how many devices belong to it.
///
/// Those whom a filter lets through are counted: of a million devices this takes some seconds.
/// `GET /v1/devices?group=` lists them.
#[utoipa::path(get, path = "/v1/groups/{id}", operation_id = "get_group", tag = "groups",
    params(("id" = i64, Path, description = "Its number")),
    responses(
        (status = 200, description = "The group", body = GroupBody, headers(("ETag" = String, description = "Its revision"))),
        (status = 404, description = "There is no such group", body = Problem),
    ))]
pub(super) async fn get(
    State(state): State<ApiState>,
    scope: Scope,
    Path(id): Path<i64>,
) -> Result<Response, Problem> {
    let group = scoped::group(&state, &scope, GroupId(id)).await?;
    let revision = group.revision;
    Ok(etag::tagged(
        revision,
        GroupBody::counted(&state, group).await?,
    ))
}

/// Change a group's name, its filter, or the devices in its list.
///
/// With `If-Match` it is changed only if nobody has changed it since: the `ETag` of its answers. `members` is `null` where they cannot be
/// counted now.
/// Tasks that were created for it keep the devices that they have; those that say so are joined by devices that come to it.
#[utoipa::path(patch, path = "/v1/groups/{id}", operation_id = "update_group", tag = "groups", request_body = UpdateGroup,
    params(("id" = i64, Path, description = "Its number"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that the caller has seen")),
    responses(
        (status = 200, description = "The group", body = GroupBody, headers(("ETag" = String, description = "Its revision"))),
        (status = 404, description = "There is no such group", body = Problem),
        (status = 409, description = "Another group has the name, devices are unknown, a list is given a filter, or a filter a \
            list", body = Problem),
        (status = 412, description = "Somebody has changed it meanwhile", body = Problem),
    ))]
pub(super) async fn update(
    State(state): State<ApiState>,
    scope: Scope,
    Path(id): Path<i64>,
    headers: HeaderMap,
    extract::Json(body): extract::Json<UpdateGroup>,
) -> Result<Response, Problem> {
    let mut fields = Fields::default();
    if let Some(name) = &body.name {
        check_name(&mut fields, name);
    }
    let given = [
        body.add.is_some(),
        body.remove.is_some(),
        body.filter.is_some(),
    ];
    let given = body.name.is_some() || given.contains(&true);
    fields.check("name", given, "give name, filter, add or remove");
    let update = GroupUpdate {
        filter: check_filter(&mut fields, body.filter.as_ref()),
        add: check_devices(&mut fields, "add", body.add),
        remove: check_devices(&mut fields, "remove", body.remove),
        name: body.name,
        seen: etag::if_match(&headers)?,
    };
    fields.finish()?;
    scoped::group(&state, &scope, GroupId(id)).await?;
    let group = state.store.update_group(GroupId(id), &update).await?;
    state.signals.members.changed();
    state.signals.written();
    let revision = group.revision;
    let body = GroupBody::counted_if_possible(&state, group).await;
    Ok(etag::tagged(revision, body))
}

/// Remove a group. Its devices stay.
#[utoipa::path(delete, path = "/v1/groups/{id}", operation_id = "remove_group", tag = "groups",
    params(("id" = i64, Path, description = "Its number"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that the caller has seen")),
    responses(
        (status = 204, description = "Removed"),
        (status = 404, description = "There is no such group", body = Problem),
        (status = 409, description = "Tasks that were created for it have not ended; the detail names them", body = Problem),
        (status = 412, description = "Somebody has changed it meanwhile", body = Problem),
    ))]
pub(super) async fn remove(
    State(state): State<ApiState>,
    scope: Scope,
    Path(id): Path<i64>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let seen = etag::if_match(&headers)?;
    scoped::group(&state, &scope, GroupId(id)).await?;
    state.store.remove_group(GroupId(id), seen).await?;
    Ok(StatusCode::NO_CONTENT)
}
