//! `/v1/app-users` and `/v1/app-tokens`: users of end users' applications.

use std::time::Duration;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    ApiState,
    extract::{self, Path},
    homes::{HomeBody, members::HomeRoleName},
    problem::Problem,
    random::random,
    scoped, tasks,
    token::TokenHash,
};
use crate::{
    access::{Caller, Scope},
    home::{HomeKey, UserKey},
    store::{NewAppToken, StartRecord, StartState, UserExport},
};

/// What every token of a user begins with, so that whoever looks for secrets where none should be finds it.
const PREFIX: &str = "cwu_";
const RANDOM_BYTES: usize = 32;
/// For how long a token may be, seconds.
const LIFETIMES_S: std::ops::RangeInclusive<u32> = 60..=86_400;
/// For how long it is where nobody says that.
const LIFETIME_S: u32 = 3_600;

/// All that is kept of a user.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AppUserBody {
    /// What the integrator calls the user.
    user: String,
    /// What stands for the user in the audit log.
    pseudonym: String,
    /// The homes that the user is in.
    homes: Vec<AppUserHomeBody>,
    /// What the user has started and cancelled, newest first, 10,000 at most.
    starts: Vec<AppStartBody>,
    /// Tokens that were issued here and have not ended.
    tokens: Vec<AppUserTokenBody>,
    /// Tokens that were issued before are not let in.
    #[schema(required, format = DateTime)]
    revoked_before: Option<String>,
}

/// A home that a user is in.
#[derive(Debug, Serialize, ToSchema)]
struct AppUserHomeBody {
    #[serde(flatten)]
    home: HomeBody,
    role: HomeRoleName,
}

/// Something that a user has done.
#[derive(Debug, Serialize, ToSchema)]
struct AppStartBody {
    /// The home; `null`: it was deleted.
    #[schema(required)]
    home: Option<String>,
    /// The device.
    endpoint: String,
    /// The offers, by their numbers.
    offers: Vec<i64>,
    /// The upgrades that were started or cancelled, by their numbers.
    upgrades: Vec<i64>,
    state: StartStateName,
    /// When.
    #[schema(format = DateTime)]
    at: String,
}

/// What came of it: `waiting` for the user's word over a weak signal, `started`, `cancelled`, or `lapsed` where the user said nothing for ten
/// minutes.
#[derive(Debug, Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum StartStateName {
    Waiting,
    Started,
    Cancelled,
    Lapsed,
}

/// A token of a user, without the token.
#[derive(Debug, Serialize, ToSchema)]
struct AppUserTokenBody {
    /// When it was issued.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it ends.
    #[schema(format = DateTime)]
    expires_at: String,
}

/// A token that was issued.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct IssuedToken {
    /// The token. It is not shown again.
    #[schema(example = "cwu_5f0c7b0e8f0a4c3f9d0b5d0c1f6f2a115f0c7b0e8f0a4c3f9d0b5d0c1f6f2a11")]
    token: String,
    /// When it ends.
    #[schema(format = DateTime)]
    expires_at: String,
}

/// A token to be issued.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct IssueToken {
    /// What the integrator calls the user: 1 to 128 printable ASCII characters without spaces.
    #[schema(
        min_length = 1,
        max_length = 128,
        pattern = r"^(?!\.{1,2}$)[!-~]{1,128}$"
    )]
    user: String,
    /// For how long it is, 60 to 86400; 3600 when not given.
    #[serde(default, deserialize_with = "extract::optional_whole")]
    #[schema(minimum = 60, maximum = 86_400)]
    lifetime_seconds: Option<u32>,
}

/// Until when tokens of a user are let in no more.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RevokeUser {
    /// Tokens that were issued before are not let in, RFC 3339; those of before now when not given. It is not ahead.
    #[schema(format = DateTime, example = "2027-03-01T02:00:00Z")]
    before: Option<String>,
}

/// Since when tokens of a user are let in.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RevokedBody {
    /// Tokens that were issued before are not let in.
    #[schema(format = DateTime)]
    revoked_before: String,
}

impl From<StartState> for StartStateName {
    fn from(state: StartState) -> Self {
        match state {
            StartState::Waiting => Self::Waiting,
            StartState::Started => Self::Started,
            StartState::Cancelled => Self::Cancelled,
            StartState::Lapsed => Self::Lapsed,
        }
    }
}

impl From<StartRecord> for AppStartBody {
    fn from(start: StartRecord) -> Self {
        Self {
            home: start.home.map(|HomeKey { id, .. }| id.to_string()),
            endpoint: start.endpoint,
            offers: start.offers.into_iter().map(|offer| offer.0).collect(),
            upgrades: start
                .upgrades
                .into_iter()
                .map(|upgrade| upgrade.0)
                .collect(),
            state: start.state.into(),
            at: start.at.to_string(),
        }
    }
}

impl AppUserBody {
    fn new(user: &UserKey, export: UserExport) -> Self {
        let homes = export
            .homes
            .into_iter()
            .map(|(home, role)| AppUserHomeBody {
                home: home.into(),
                role: role.into(),
            });
        let tokens = export.tokens.into_iter().map(|token| AppUserTokenBody {
            created_at: token.created_at.to_string(),
            expires_at: token.expires_at.to_string(),
        });
        Self {
            user: user.id.to_string(),
            pseudonym: export.pseudonym,
            homes: homes.collect(),
            starts: export.starts.into_iter().map(Into::into).collect(),
            tokens: tokens.collect(),
            revoked_before: export.revoked_before.map(|at| at.to_string()),
        }
    }
}

/// The user of that name of the tenant that the request is for.
fn key(scope: &Scope, id: &str) -> Result<UserKey, Problem> {
    let id = id.parse();
    Ok(UserKey {
        tenant: scoped::home(scope)?,
        id: id.map_err(|error| Problem::field("user", error))?,
    })
}

/// All that is kept of a user of end users' applications.
///
/// There need not be anything: users are known by their names alone.
#[utoipa::path(get, path = "/v1/app-users/{user}", operation_id = "export_app_user", tag = "homes",
    params(("user" = String, Path, min_length = 1, max_length = 128, description = "What the integrator calls the user")),
    responses(
        (status = 200, description = "All that is kept", body = AppUserBody),
    ))]
pub(super) async fn export(
    State(state): State<ApiState>,
    scope: Scope,
    Path(user): Path<String>,
) -> Result<Json<AppUserBody>, Problem> {
    let user = key(&scope, &user)?;
    let export = state.store.export_user(&user, state.now()).await?;
    Ok(Json(AppUserBody::new(&user, export)))
}

/// Delete what is kept of a user.
///
/// The name is in no home and at no start any more, and tokens of before now are not let in. The audit log keeps the pseudonym.
#[utoipa::path(delete, path = "/v1/app-users/{user}", operation_id = "delete_app_user", tag = "homes",
    params(("user" = String, Path, min_length = 1, max_length = 128, description = "What the integrator calls the user")),
    responses(
        (status = 204, description = "Nothing is kept of the user"),
    ))]
pub(super) async fn delete(
    State(state): State<ApiState>,
    scope: Scope,
    Path(user): Path<String>,
) -> Result<StatusCode, Problem> {
    let user = key(&scope, &user)?;
    state.store.delete_user(&user, state.now()).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Let no token of a user in that was issued before a time, of whoever has issued it.
///
/// An earlier time than the one that stands changes nothing. Clocks of identity providers may be ahead by `app.leeway_s`: a signed token is
/// taken only if it says that it was issued later by as much.
#[utoipa::path(post, path = "/v1/app-users/{user}/revoke", operation_id = "revoke_app_user", tag = "homes", request_body = RevokeUser,
    params(("user" = String, Path, min_length = 1, max_length = 128, description = "What the integrator calls the user")),
    responses(
        (status = 200, description = "The time that stands", body = RevokedBody),
    ))]
pub(super) async fn revoke(
    State(state): State<ApiState>,
    scope: Scope,
    Path(user): Path<String>,
    extract::Json(body): extract::Json<RevokeUser>,
) -> Result<Json<RevokedBody>, Problem> {
    let user = key(&scope, &user)?;
    let now = state.now();
    let before = match &body.before {
        None => now,
        Some(text) => {
            let at = tasks::parse_time(text);
            at.map_err(|detail| Problem::field("before", detail))?
        }
    };
    if before > now {
        return Err(Problem::field(
            "before",
            format!("{before} is ahead (it is {now})"),
        ));
    }
    let stands = state.store.revoke_user(&user, before, now).await?;
    Ok(Json(RevokedBody {
        revoked_before: stands.to_string(),
    }))
}

/// Issue a token for one user, for a short time.
///
/// It lets the user's application in at `/app/v1`, and nobody at the admin API. It is shown once, and kept as its SHA-256.
#[utoipa::path(post, path = "/v1/app-tokens", operation_id = "issue_app_token", tag = "homes", request_body = IssueToken,
    responses(
        (status = 201, description = "Issued", body = IssuedToken),
        (status = 409, description = "The user has 20 tokens already", body = Problem),
    ))]
pub(super) async fn issue(
    State(state): State<ApiState>,
    scope: Scope,
    caller: Caller,
    extract::Json(body): extract::Json<IssueToken>,
) -> Result<Response, Problem> {
    let user = key(&scope, &body.user)?;
    let lifetime = body.lifetime_seconds.unwrap_or(LIFETIME_S);
    if !LIFETIMES_S.contains(&lifetime) {
        let (least, most) = (LIFETIMES_S.start(), LIFETIMES_S.end());
        let detail = format!("{lifetime} is out of range: {least} to {most} are possible");
        return Err(Problem::field("lifetime_seconds", detail));
    }
    let token = format!("{PREFIX}{}", hex::encode(random::<RANDOM_BYTES>()?));
    let now = state.now();
    let new = NewAppToken {
        user,
        hash: *TokenHash::of(&token).bytes(),
        created_by: caller.who(),
        created_at: now,
        expires_at: now + Duration::from_secs(lifetime.into()),
    };
    let record = state.store.add_app_token(&new).await?;
    let expires_at = record.expires_at.to_string();
    let body = Json(IssuedToken { token, expires_at });
    Ok((StatusCode::CREATED, body).into_response())
}
