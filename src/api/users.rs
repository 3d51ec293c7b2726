//! `/v1/users`: people.

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    ApiState,
    extract::{self, Fields, ListBody, Paging, Path, Query},
    grants::{self, Gathered, GrantBody},
    passwords,
    problem::Problem,
};
use crate::{
    access::{Caller, Scope},
    store::{NewUser, UserChange, UserId, UserRecord},
};

/// A user.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct UserBody {
    /// The number, which no other user ever has.
    id: i64,
    /// The name.
    name: String,
    /// What the user is granted.
    grants: Vec<GrantBody>,
    /// Who added it.
    created_by: String,
    /// When it was added.
    #[schema(format = DateTime)]
    created_at: String,
    /// When the user logged in last; `null`: never.
    #[schema(required, format = DateTime)]
    last_login_at: Option<String>,
    /// The user logs in with a second factor.
    second_factor: bool,
    /// The user may do nothing but set up a second factor before there is one. `admin.totp_required_roles` may require it besides.
    second_factor_required: bool,
    /// The user is kept out.
    disabled: bool,
    /// Who the user is for an identity provider, which says with each log-in what the user is granted; `null`: the user has a password.
    #[schema(required)]
    identity: Option<IdentityBody>,
}

/// Who somebody is for an identity provider.
#[derive(Debug, Serialize, ToSchema)]
struct IdentityBody {
    /// The provider.
    #[schema(example = "https://login.example.com")]
    issuer: String,
    /// What never changes there, and is nobody else's.
    subject: String,
}

impl From<UserRecord> for UserBody {
    fn from(user: UserRecord) -> Self {
        Self {
            id: user.id.0,
            grants: user.grants.iter().map(GrantBody::from).collect(),
            created_by: user.created_by,
            created_at: user.created_at.to_string(),
            last_login_at: user.last_login_at.map(|at| at.to_string()),
            second_factor: user.totp.is_some(),
            second_factor_required: user.second_factor_required,
            disabled: user.disabled,
            identity: user.identity.map(|identity| IdentityBody {
                issuer: identity.issuer,
                subject: identity.subject,
            }),
            name: user.name,
        }
    }
}

/// A user to be added.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AddUser {
    /// A name, which no other user has.
    #[schema(
        min_length = 1,
        max_length = 64,
        pattern = r"^(?!\.{1,2}$)[A-Za-z0-9._-]{1,64}$",
        example = "anna"
    )]
    name: String,
    /// The password, 12 to 128 characters, without the name in it.
    #[schema(min_length = 12, max_length = 128, format = "password")]
    password: String,
    /// What the user is granted, 1 to 10. The user may do what any of them permits.
    #[schema(min_items = 1, max_items = 10)]
    grants: Vec<GrantBody>,
}

/// What to change about a user. What is not given stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdateUser {
    /// What the user is granted from now on.
    #[schema(min_items = 1, max_items = 10)]
    grants: Option<Vec<GrantBody>>,
    /// The password from now on, 12 to 128 characters, without the name in it.
    #[schema(min_length = 12, max_length = 128, format = "password")]
    password: Option<String>,
    /// Whether the user may do nothing but set up a second factor before there is one.
    second_factor_required: Option<bool>,
    /// Whether the user is kept out. The user's sessions end.
    disabled: Option<bool>,
}

/// Add a user.
///
/// A user logs in with a name and a password (`POST /v1/session`). Of the password an argon2id hash is kept. This takes no
/// `Idempotency-Key`: a name is added once.
#[utoipa::path(post, path = "/v1/users", operation_id = "add_user", tag = "access", request_body = AddUser,
    responses(
        (status = 201, description = "Added", body = UserBody,
            headers(("Location" = String, description = "Path of the user"))),
        (status = 409, description = "Another user has the name, or there are too many users, or too many of a tenant", body = Problem),
        (status = 422, description = "A field is not valid", body = Problem),
    ))]
pub(super) async fn add(
    State(state): State<ApiState>,
    scope: Scope,
    caller: Caller,
    extract::Json(body): extract::Json<AddUser>,
) -> Result<Response, Problem> {
    let mut fields = Fields::default();
    grants::check_name(&mut fields, &body.name);
    fields.take("password", passwords::check(&body.password, &body.name));
    let grants = grants::read_grants((&state, &scope), &body.grants, &mut fields).await?;
    fields.finish()?;
    let new = NewUser {
        password: state.passwords.hash(body.password).await?,
        name: body.name,
        grants,
        created_by: caller.who(),
        created_at: state.now(),
        share: state.config.get().tenants.max_users,
    };
    let user = state.store.add_user(&new).await?;
    let location = format!("/v1/users/{}", user.name);
    let body = Json(UserBody::from(user));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], body).into_response())
}

/// List users, oldest first.
#[utoipa::path(get, path = "/v1/users", operation_id = "list_users", tag = "access", params(Paging),
    responses(
        (status = 200, description = "A page", body = ListBody<UserBody>),
    ))]
pub(super) async fn list(
    State(state): State<ApiState>,
    scope: Scope,
    Query(paging): Query<Paging>,
) -> Result<Json<ListBody<UserBody>>, Problem> {
    let limit = paging.limit()?;
    let number = |user: &UserRecord| user.id.0;
    let there = |user: &UserRecord| grants::manages(&scope, &user.grants);
    let mut gathered = Gathered::behind(paging.after("users")?, limit);
    loop {
        let after = gathered.after.map(UserId);
        let page = state.store.users(after, limit).await?;
        if !gathered.take(page, number, there) {
            break;
        }
    }
    let (users, next) = gathered.page(number);
    let items = users.into_iter().map(UserBody::from);
    Ok(Json(ListBody::after(items, "users", next)))
}

/// A user.
#[utoipa::path(get, path = "/v1/users/{name}", operation_id = "get_user", tag = "access",
    params(("name" = String, Path, description = "The name")),
    responses(
        (status = 200, description = "The user", body = UserBody),
        (status = 404, description = "There is no such user", body = Problem),
    ))]
pub(super) async fn get(
    State(state): State<ApiState>,
    scope: Scope,
    Path(name): Path<String>,
) -> Result<Json<UserBody>, Problem> {
    Ok(Json(known(&state, &scope, &name).await?.into()))
}

/// A user that is there.
pub(super) async fn known(
    state: &ApiState,
    scope: &Scope,
    name: &str,
) -> Result<UserRecord, Problem> {
    let user = state.store.user(name).await?;
    let user = user.filter(|user| grants::manages(scope, &user.grants));
    user.ok_or_else(|| no_user(name))
}

/// What a user has to be still when it is changed: whoever is granted everything changes it whatever it is by then.
pub(super) fn as_seen<'u>(scope: &Scope, user: &'u UserRecord) -> Option<&'u UserRecord> {
    (*scope != Scope::Whole).then_some(user)
}

/// Change what a user is granted, the password, or whether the user is let in.
///
/// All that is given takes effect with the next request, or nothing does. A new password ends the user's sessions.
#[utoipa::path(patch, path = "/v1/users/{name}", operation_id = "update_user", tag = "access", request_body = UpdateUser,
    params(("name" = String, Path, description = "The name")),
    responses(
        (status = 200, description = "The user", body = UserBody),
        (status = 404, description = "There is no such user", body = Problem),
        (status = 422, description = "A field is not valid", body = Problem),
    ))]
pub(super) async fn update(
    State(state): State<ApiState>,
    scope: Scope,
    Path(name): Path<String>,
    extract::Json(body): extract::Json<UpdateUser>,
) -> Result<Json<UserBody>, Problem> {
    let mut fields = Fields::default();
    let some = body.grants.is_some()
        || body.password.is_some()
        || body.second_factor_required.is_some()
        || body.disabled.is_some();
    let what = "give grants, a password, second_factor_required or disabled";
    fields.check("grants", some, what);
    let grants = match &body.grants {
        Some(grants) => Some(grants::read_grants((&state, &scope), grants, &mut fields).await?),
        None => None,
    };
    if let Some(password) = &body.password {
        fields.take("password", passwords::check(password, &name));
    }
    fields.finish()?;
    let user = known(&state, &scope, &name).await?;
    if user.identity.is_some() {
        let mut fields = Fields::default();
        let what = "the identity provider says with each log-in what the user is granted: change the user's groups there, or oidc.grants";
        fields.check("grants", grants.is_none(), what);
        let what = "the user logs in by an identity provider, and has no password";
        fields.check("password", body.password.is_none(), what);
        let what = "the identity provider sees to a second factor";
        let required = body.second_factor_required;
        fields.check("second_factor_required", required.is_none(), what);
        fields.finish()?;
    }
    let password = match body.password {
        Some(password) => Some(state.passwords.hash(password).await?),
        None => None,
    };
    let change = UserChange {
        grants,
        password,
        second_factor_required: body.second_factor_required,
        disabled: body.disabled,
    };
    let seen = as_seen(&scope, &user);
    if !state.store.update_user(&name, seen, &change).await? {
        return Err(no_user(&name));
    }
    state.signals.news.tell();
    get(State(state), scope, Path(name)).await
}

/// Remove a user.
///
/// The user's sessions end.
#[utoipa::path(delete, path = "/v1/users/{name}", operation_id = "remove_user", tag = "access",
    params(("name" = String, Path, description = "The name")),
    responses(
        (status = 204, description = "Removed"),
        (status = 404, description = "There is no such user", body = Problem),
    ))]
pub(super) async fn remove(
    State(state): State<ApiState>,
    scope: Scope,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    let user = known(&state, &scope, &name).await?;
    let removed = state.store.remove_user(&name, as_seen(&scope, &user));
    if removed.await? {
        state.signals.news.tell();
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(no_user(&name))
    }
}

pub(super) fn no_user(name: &str) -> Problem {
    Problem::not_found(format!("there is no user {name:?}"))
}
