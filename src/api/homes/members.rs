//! `/v1/homes/{home}/members/{user}`.

use std::collections::BTreeSet;

use axum::{Json, extract::State, http::StatusCode};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::names::key;
use crate::{
    access::Scope,
    api::{
        ApiState,
        extract::{self, Fields, Path},
        problem::Problem,
    },
    home::{MAX_MEMBERS, Role, UserId},
    store::MemberRecord,
};

/// What somebody is in a home: owners and administrators act, members look.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(in crate::api) enum HomeRoleName {
    Owner,
    Administrator,
    Member,
}

impl From<Role> for HomeRoleName {
    fn from(role: Role) -> Self {
        match role {
            Role::Owner => Self::Owner,
            Role::Administrator => Self::Administrator,
            Role::Member => Self::Member,
        }
    }
}

impl From<HomeRoleName> for Role {
    fn from(role: HomeRoleName) -> Self {
        match role {
            HomeRoleName::Owner => Self::Owner,
            HomeRoleName::Administrator => Self::Administrator,
            HomeRoleName::Member => Self::Member,
        }
    }
}

/// Somebody in a home.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct HomeMemberBody {
    /// What the integrator calls the user.
    user: String,
    role: HomeRoleName,
    /// Since when.
    #[schema(format = DateTime)]
    added_at: String,
}

impl From<MemberRecord> for HomeMemberBody {
    fn from(member: MemberRecord) -> Self {
        Self {
            user: member.user.to_string(),
            role: member.role.into(),
            added_at: member.added_at.to_string(),
        }
    }
}

/// Everybody who is to be in a home.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(max_items = 64)]
pub(in crate::api) struct PutMembers(Vec<PutHomeMember>);

/// Somebody who is to be in a home.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PutHomeMember {
    /// What the integrator calls the user: 1 to 128 printable ASCII characters without spaces.
    #[schema(
        min_length = 1,
        max_length = 128,
        pattern = r"^(?!\.{1,2}$)[!-~]{1,128}$"
    )]
    user: String,
    role: HomeRoleName,
}

impl PutMembers {
    /// The members, or what is wrong with them.
    pub(super) fn read(self, field: &str, fields: &mut Fields) -> Vec<(UserId, Role)> {
        let detail = format!("{MAX_MEMBERS} at most");
        fields.check(field, self.0.len() <= MAX_MEMBERS, detail);
        let mut known = BTreeSet::new();
        let mut members = Vec::new();
        for (at, member) in self.0.into_iter().take(MAX_MEMBERS).enumerate() {
            let place = format!("{field}[{at}].user");
            let Some(user) = fields.take(&place, member.user.parse::<UserId>()) else {
                continue;
            };
            fields.check(
                &place,
                known.insert(user.clone()),
                "the user is there twice",
            );
            members.push((user, member.role.into()));
        }
        members
    }
}

/// What somebody is to be in a home.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct SetHomeMember {
    role: HomeRoleName,
}

fn user(id: &str) -> Result<UserId, Problem> {
    id.parse().map_err(|error| Problem::field("user", error))
}

/// Have a user be in a home.
#[utoipa::path(put, path = "/v1/homes/{home}/members/{user}", operation_id = "set_home_member", tag = "homes", request_body = SetHomeMember,
    params(("home" = String, Path, min_length = 1, max_length = 64, description = "What the integrator calls the home"),
        ("user" = String, Path, min_length = 1, max_length = 128, description = "What the integrator calls the user")),
    responses(
        (status = 200, description = "The member", body = HomeMemberBody),
        (status = 404, description = "There is no such home", body = Problem),
        (status = 409, description = "It has 64 members already", body = Problem),
    ))]
pub(in crate::api) async fn set(
    State(state): State<ApiState>,
    scope: Scope,
    Path((home, id)): Path<(String, String)>,
    extract::Json(body): extract::Json<SetHomeMember>,
) -> Result<Json<HomeMemberBody>, Problem> {
    let (key, user) = (key(&scope, &home)?, user(&id)?);
    let role = body.role.into();
    let member = (state.store)
        .put_member(&key, &user, role, state.now())
        .await?;
    Ok(Json(member.into()))
}

/// Have a user be in a home no more.
#[utoipa::path(delete, path = "/v1/homes/{home}/members/{user}", operation_id = "remove_home_member", tag = "homes",
    params(("home" = String, Path, min_length = 1, max_length = 64, description = "What the integrator calls the home"),
        ("user" = String, Path, min_length = 1, max_length = 128, description = "What the integrator calls the user")),
    responses(
        (status = 204, description = "Removed"),
        (status = 404, description = "There is no such home, or the user is not in it", body = Problem),
    ))]
pub(in crate::api) async fn remove(
    State(state): State<ApiState>,
    scope: Scope,
    Path((home, id)): Path<(String, String)>,
) -> Result<StatusCode, Problem> {
    let (key, user) = (key(&scope, &home)?, user(&id)?);
    state.store.remove_member(&key, &user).await?;
    Ok(StatusCode::NO_CONTENT)
}
