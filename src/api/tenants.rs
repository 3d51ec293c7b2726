//! `/v1/tenants`: to whom devices, packages, tasks and the like belong.

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    ApiState,
    etag::{if_match, tag, tagged},
    extract::{self, Fields, ListBody, Paging, Path, Query},
    problem::Problem,
};
use crate::{
    access::Scope,
    store::{NewTenant, TenantRecord},
    tenant::TenantId,
};

const MAX_NAME: usize = 200;

/// A tenant.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TenantBody {
    /// What it is called in paths, filters and grants.
    #[schema(pattern = "^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$")]
    id: String,
    /// What people call it.
    name: String,
    /// When it was added.
    #[schema(format = DateTime)]
    created_at: String,
    /// Counts its changes, from 1: the `ETag` of its answers.
    revision: u32,
}

impl From<TenantRecord> for TenantBody {
    fn from(tenant: TenantRecord) -> Self {
        Self {
            id: tenant.id.into(),
            name: tenant.name,
            created_at: tenant.created_at.to_string(),
            revision: tenant.revision,
        }
    }
}

/// A tenant to be added.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AddTenant {
    /// What it is called in paths, filters and grants: 1 to 32 of a-z 0-9 -, with a letter or a digit at both ends. No other tenant has
    /// it, or had it.
    #[schema(
        min_length = 1,
        max_length = 32,
        pattern = "^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$",
        example = "acme"
    )]
    id: String,
    /// What people call it, 1 to 200 characters; its id when not given.
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]{1,200}$",
        example = "Acme Water Ltd"
    )]
    name: Option<String>,
}

/// What to change about a tenant.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdateTenant {
    /// What people call it from now on, 1 to 200 characters.
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]{1,200}$"
    )]
    name: String,
}

fn check_name(fields: &mut Fields, name: &str) {
    fields.check(
        "name",
        (1..=MAX_NAME).contains(&name.chars().count()) && !name.chars().any(char::is_control),
        format!("a name has 1 to {MAX_NAME} characters and no control characters"),
    );
}

fn no_tenant(id: &str) -> Problem {
    Problem::not_found(format!("there is no tenant {id:?}"))
}

/// The id of a tenant that may be there for the caller.
fn id_of(scope: &Scope, id: &str) -> Result<TenantId, Problem> {
    let id = id.parse().map_err(|_| no_tenant(id));
    id.and_then(|id: TenantId| {
        if scope.has_all_of(id.as_str()) {
            Ok(id)
        } else {
            Err(no_tenant(id.as_str()))
        }
    })
}

/// Add a tenant.
///
/// Devices, packages, tasks, groups and webhooks belong to one tenant. Until there is another than `default`, nobody has to know of it.
#[utoipa::path(post, path = "/v1/tenants", operation_id = "add_tenant", tag = "tenants", request_body = AddTenant,
    responses(
        (status = 201, description = "Added", body = TenantBody,
            headers(("Location" = String, description = "Path of the tenant"), ("ETag" = String, description = "Its revision"))),
        (status = 409, description = "There is, or was, a tenant of that id, or there are too many tenants", body = Problem),
        (status = 422, description = "A field is not valid", body = Problem),
    ))]
pub(super) async fn add(
    State(state): State<ApiState>,
    extract::Json(body): extract::Json<AddTenant>,
) -> Result<Response, Problem> {
    let mut fields = Fields::default();
    let id: Option<TenantId> = fields.take("id", body.id.parse());
    let name = body.name.unwrap_or_else(|| body.id.clone());
    check_name(&mut fields, &name);
    fields.finish()?;
    let id = id.ok_or_else(|| Problem::field("id", "it is missing"))?;
    let new = NewTenant {
        id,
        name,
        created_at: state.now(),
    };
    let added = state.store.add_tenant(&new).await?;
    let location = format!("/v1/tenants/{}", added.id);
    let headers = [(header::LOCATION, location), tag(added.revision.into())];
    let body = Json(TenantBody::from(added));
    Ok((StatusCode::CREATED, headers, body).into_response())
}

/// List tenants, ordered by their ids: those that are there for the caller.
#[utoipa::path(get, path = "/v1/tenants", operation_id = "list_tenants", tag = "tenants", params(Paging),
    responses(
        (status = 200, description = "A page", body = ListBody<TenantBody>),
    ))]
pub(super) async fn list(
    State(state): State<ApiState>,
    scope: Scope,
    Query(paging): Query<Paging>,
) -> Result<Json<ListBody<TenantBody>>, Problem> {
    let limit = paging.limit()?;
    let after: Option<String> = paging.after("tenants")?;
    let after = after.map(|after| after.parse().map_err(|_| Paging::no_cursor()));
    let after: Option<TenantId> = after.transpose()?;
    let Some(mut own) = scope.tenants() else {
        let page = state.store.tenants(after.as_ref(), limit).await?;
        let key = |tenant: &TenantRecord| tenant.id.to_string();
        let body = ListBody::new(page, "tenants", key, TenantBody::from);
        return Ok(Json(body));
    };
    own.retain(|id| after.as_ref().is_none_or(|after| id > after));
    own.sort_unstable();
    let mut items = Vec::new();
    let mut next = None;
    for id in own {
        if items.len() == limit as usize {
            next = items.last().map(|last: &TenantBody| last.id.clone());
            break;
        }
        let tenant = state.store.tenant(&id).await?;
        items.extend(tenant.map(TenantBody::from));
    }
    Ok(Json(ListBody::after(items, "tenants", next)))
}

/// A tenant.
#[utoipa::path(get, path = "/v1/tenants/{tenant}", operation_id = "get_tenant", tag = "tenants",
    params(("tenant" = String, Path, description = "Its id")),
    responses(
        (status = 200, description = "The tenant", body = TenantBody, headers(("ETag" = String, description = "Its revision"))),
        (status = 404, description = "There is no such tenant", body = Problem),
    ))]
pub(super) async fn get(
    State(state): State<ApiState>,
    scope: Scope,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let id = id_of(&scope, &id)?;
    let tenant = state.store.tenant(&id).await?;
    let tenant = tenant.ok_or_else(|| no_tenant(id.as_str()))?;
    Ok(tagged(tenant.revision.into(), TenantBody::from(tenant)))
}

/// Give a tenant another name. Its id stays.
///
/// With `If-Match` it is changed only if nobody has changed it since.
#[utoipa::path(patch, path = "/v1/tenants/{tenant}", operation_id = "update_tenant", tag = "tenants", request_body = UpdateTenant,
    params(("tenant" = String, Path, description = "Its id"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that the caller has seen")),
    responses(
        (status = 200, description = "The tenant", body = TenantBody, headers(("ETag" = String, description = "Its revision"))),
        (status = 404, description = "There is no such tenant", body = Problem),
        (status = 412, description = "Somebody has changed it meanwhile", body = Problem),
        (status = 422, description = "A field is not valid", body = Problem),
    ))]
pub(super) async fn update(
    State(state): State<ApiState>,
    scope: Scope,
    Path(id): Path<String>,
    headers: HeaderMap,
    extract::Json(body): extract::Json<UpdateTenant>,
) -> Result<Response, Problem> {
    let id = id_of(&scope, &id)?;
    let seen = if_match(&headers)?;
    let mut fields = Fields::default();
    check_name(&mut fields, &body.name);
    fields.finish()?;
    let tenant = state.store.rename_tenant(&id, &body.name, seen).await?;
    Ok(tagged(tenant.revision.into(), TenantBody::from(tenant)))
}

/// Delete a tenant to which nothing belongs.
///
/// It is refused while there are devices, tasks, packages, groups, webhooks, or keys of products of it, or tokens or users with a grant
/// on it. Its id is not given again: rows of the audit log name it.
#[utoipa::path(delete, path = "/v1/tenants/{tenant}", operation_id = "delete_tenant", tag = "tenants",
    params(("tenant" = String, Path, description = "Its id"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that the caller has seen")),
    responses(
        (status = 204, description = "Deleted"),
        (status = 404, description = "There is no such tenant", body = Problem),
        (status = 409, description = "Something belongs to it, or it is `default`", body = Problem),
        (status = 412, description = "Somebody has changed it meanwhile", body = Problem),
    ))]
pub(super) async fn delete(
    State(state): State<ApiState>,
    scope: Scope,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let id = id_of(&scope, &id)?;
    let seen = if_match(&headers)?;
    state.store.delete_tenant(&id, state.now(), seen).await?;
    Ok(StatusCode::NO_CONTENT)
}
