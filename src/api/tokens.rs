//! `/v1/tokens`, and `/v1/me`.

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
    admitted::Credential,
    extract::{self, Fields, ListBody, Paging, Path, Query},
    grants::{Gathered, GrantBody, check_name, manages, read_grants},
    problem::Problem,
    random::random,
    second_factor::SecondFactorBody,
    token::{PREFIX, TokenHash},
};
use crate::{
    access::{Caller, CallerKind, Grant, Scope},
    clock::UtcMillis,
    store::{NewToken, TokenId, TokenRecord},
};

const RANDOM_BYTES: usize = 32;

/// A token of the API.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TokenBody {
    /// Its number, which no other token ever has.
    id: i64,
    /// Its name.
    name: String,
    /// What it is granted.
    grants: Vec<GrantBody>,
    /// Who added it.
    created_by: String,
    /// When it was added.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it ends; `null`: when it is revoked.
    #[schema(required, format = DateTime)]
    expires_at: Option<String>,
    /// It has ended.
    expired: bool,
    /// When it was used last, to about a minute; `null`: never.
    #[schema(required, format = DateTime)]
    last_used_at: Option<String>,
}

impl TokenBody {
    fn new(token: TokenRecord, now: UtcMillis) -> Self {
        Self {
            id: token.id.0,
            grants: token.grants.iter().map(GrantBody::from).collect(),
            created_by: token.created_by,
            created_at: token.created_at.to_string(),
            expires_at: token.expires_at.map(|at| at.to_string()),
            expired: token.expires_at.is_some_and(|at| at <= now),
            last_used_at: token.last_used_at.map(|at| at.to_string()),
            name: token.name,
        }
    }
}

/// A token that was added.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AddedToken {
    #[serde(flatten)]
    record: TokenBody,
    /// The token. It is not shown again.
    #[schema(example = "cw_5f0c7b0e8f0a4c3f9d0b5d0c1f6f2a115f0c7b0e8f0a4c3f9d0b5d0c1f6f2a11")]
    token: String,
}

/// A token to be added.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AddToken {
    /// A name to recognise it by, which no other token has.
    #[schema(
        min_length = 1,
        max_length = 64,
        pattern = r"^(?!\.{1,2}$)[A-Za-z0-9._-]{1,64}$",
        example = "nightly-import"
    )]
    name: String,
    /// What it is granted, 1 to 10. It may do what any of them permits.
    #[schema(min_items = 1, max_items = 10)]
    grants: Vec<GrantBody>,
    /// When it ends, RFC 3339; when it is revoked, when not given.
    #[schema(format = DateTime, example = "2030-03-01T00:00:00Z")]
    expires_at: Option<String>,
}

impl AddToken {
    /// The name, the grants, and when it ends.
    async fn check(
        self,
        state: &ApiState,
        scope: &Scope,
    ) -> Result<(String, Vec<Grant>, Option<UtcMillis>), Problem> {
        let now = state.now();
        let mut fields = Fields::default();
        check_name(&mut fields, &self.name);
        let grants = read_grants((state, scope), &self.grants, &mut fields).await?;
        let expires_at = match &self.expires_at {
            Some(text) => fields.take("expires_at", end(text, now)),
            None => None,
        };
        fields.finish()?;
        Ok((self.name, grants, expires_at))
    }
}

fn end(text: &str, now: UtcMillis) -> Result<UtcMillis, String> {
    let at: jiff::Timestamp = text
        .parse()
        .map_err(|error| format!("not a time of the form 2030-03-01T00:00:00Z: {error}"))?;
    let at = UtcMillis(at.as_millisecond());
    if at <= now {
        return Err(format!("{at} is past (it is {now})"));
    }
    Ok(at)
}

/// 256 random bits: whoever does not know it does not guess it, and its SHA-256 gives nothing away.
fn generate() -> Result<String, Problem> {
    Ok(format!(
        "{PREFIX}{}",
        hex::encode(random::<RANDOM_BYTES>()?)
    ))
}

/// Add a token.
///
/// It is shown once, and kept as its SHA-256. It begins with `cw_`, so that programs that look for secrets find it.
#[utoipa::path(post, path = "/v1/tokens", operation_id = "add_token", tag = "access", request_body = AddToken,
    responses(
        (status = 201, description = "Added", body = AddedToken,
            headers(("Location" = String, description = "Path of the token"))),
        (status = 409, description = "Another token has the name, or there are too many tokens, or too many of a tenant", body = Problem),
        (status = 422, description = "A field is not valid", body = Problem),
    ))]
pub(super) async fn add(
    State(state): State<ApiState>,
    scope: Scope,
    caller: Caller,
    extract::Json(body): extract::Json<AddToken>,
) -> Result<Response, Problem> {
    let now = state.now();
    let (name, grants, expires_at) = body.check(&state, &scope).await?;
    let token = generate()?;
    let new = NewToken {
        name,
        hash: *TokenHash::of(&token).bytes(),
        grants,
        created_by: caller.who(),
        created_at: now,
        expires_at,
        share: state.config.get().tenants.max_tokens,
    };
    let record = state.store.add_token(&new).await?;
    let location = format!("/v1/tokens/{}", record.id.0);
    let record = TokenBody::new(record, now);
    let body = Json(AddedToken { record, token });
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], body).into_response())
}

/// List tokens, oldest first.
///
/// Those that have ended stay until they are revoked.
#[utoipa::path(get, path = "/v1/tokens", operation_id = "list_tokens", tag = "access", params(Paging),
    responses(
        (status = 200, description = "A page", body = ListBody<TokenBody>),
    ))]
pub(super) async fn list(
    State(state): State<ApiState>,
    scope: Scope,
    Query(paging): Query<Paging>,
) -> Result<Json<ListBody<TokenBody>>, Problem> {
    let limit = paging.limit()?;
    let number = |token: &TokenRecord| token.id.0;
    let there = |token: &TokenRecord| manages(&scope, &token.grants);
    let mut gathered = Gathered::behind(paging.after("tokens")?, limit);
    loop {
        let after = gathered.after.map(TokenId);
        let page = state.store.tokens(after, limit).await?;
        if !gathered.take(page, number, there) {
            break;
        }
    }
    let (tokens, next) = gathered.page(number);
    let now = state.now();
    let items = tokens.into_iter().map(|token| TokenBody::new(token, now));
    Ok(Json(ListBody::after(items, "tokens", next)))
}

/// A token.
#[utoipa::path(get, path = "/v1/tokens/{id}", operation_id = "get_token", tag = "access",
    params(("id" = i64, Path, description = "Its number")),
    responses(
        (status = 200, description = "The token", body = TokenBody),
        (status = 404, description = "There is no such token", body = Problem),
    ))]
pub(super) async fn get(
    State(state): State<ApiState>,
    scope: Scope,
    Path(id): Path<i64>,
) -> Result<Json<TokenBody>, Problem> {
    let token = known(&state, &scope, id).await?;
    Ok(Json(TokenBody::new(token, state.now())))
}

async fn known(state: &ApiState, scope: &Scope, id: i64) -> Result<TokenRecord, Problem> {
    let token = state.store.token(TokenId(id)).await?;
    let token = token.filter(|token| manages(scope, &token.grants));
    token.ok_or_else(|| no_token(id))
}

fn no_token(id: i64) -> Problem {
    Problem::not_found(format!("there is no token {id}"))
}

/// Revoke a token.
///
/// From now on nobody is let in with it. Streams of events that were opened with it end within seconds.
#[utoipa::path(delete, path = "/v1/tokens/{id}", operation_id = "revoke_token", tag = "access",
    params(("id" = i64, Path, description = "Its number")),
    responses(
        (status = 204, description = "Revoked"),
        (status = 404, description = "There is no such token", body = Problem),
    ))]
pub(super) async fn revoke(
    State(state): State<ApiState>,
    scope: Scope,
    Path(id): Path<i64>,
) -> Result<StatusCode, Problem> {
    known(&state, &scope, id).await?;
    if state.store.revoke_token(TokenId(id)).await? {
        state.signals.news.tell();
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(no_token(id))
    }
}

/// Who asks.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MeBody {
    /// A word that stays the same and is nobody else's: `admin-token`, `token:7:nightly-import`, `user:5:anna`.
    who: String,
    /// What the caller is let in with.
    kind: CallerKindName,
    /// What it is granted.
    grants: Vec<GrantBody>,
    /// What changes something has to carry in the header `X-CSRF-Token`; `null`: the caller has a token, and need not.
    #[schema(required)]
    csrf_token: Option<String>,
    /// How the user stands with the second factor; `null`: the caller has a token.
    #[schema(required)]
    second_factor: Option<SecondFactorBody>,
}

/// What a caller is let in with.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum CallerKindName {
    /// The token in the server's data directory.
    AdminToken,
    /// A token of the API.
    ApiToken,
    /// A password.
    User,
}

/// Who asks, and what for it is let in.
#[utoipa::path(get, path = "/v1/me", operation_id = "get_me", tag = "access",
    responses(
        (status = 200, description = "The caller", body = MeBody),
    ))]
pub(super) async fn me(
    State(state): State<ApiState>,
    caller: Caller,
    credential: Credential,
) -> Result<Json<MeBody>, Problem> {
    let second_factor = match caller.kind() {
        CallerKind::User { name, .. } => SecondFactorBody::of(&state, name).await?,
        CallerKind::AdminToken | CallerKind::ApiToken { .. } => None,
    };
    Ok(Json(MeBody {
        second_factor,
        who: caller.who(),
        kind: match caller.kind() {
            CallerKind::AdminToken => CallerKindName::AdminToken,
            CallerKind::ApiToken { .. } => CallerKindName::ApiToken,
            CallerKind::User { .. } => CallerKindName::User,
        },
        grants: caller.grants().iter().map(GrantBody::from).collect(),
        csrf_token: match credential {
            Credential::Session { csrf_token, .. } => Some(csrf_token),
            Credential::AdminToken | Credential::ApiToken(_) => None,
        },
    }))
}
