//! `/v1/tokens`, and `/v1/me`.

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::{
    ToSchema,
    openapi::{Object, Type},
};

use super::{
    ApiState,
    admitted::Credential,
    door::PREFIX,
    extract::{self, Fields, ListBody, Paging, Path, Query},
    problem::Problem,
    second_factor::SecondFactorBody,
    token::TokenHash,
};
use crate::{
    access::{Caller, CallerKind, Grant, MAX_GRANTS, Role, Scope, Tenants, check_grants},
    clock::UtcMillis,
    filter::Filter,
    store::{NewToken, Page, StoreError, TokenId, TokenRecord},
};

const MAX_NAME: usize = 64;
const RANDOM_BYTES: usize = 32;

/// A role, for all devices or for some.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GrantBody {
    /// What for: `viewer` reads; `operator` has to do with devices, packages, tasks, groups, exclusions, upgrades and forecasts;
    /// `approver` answers for tasks that somebody else has made; `administrator` has to do with users, tokens, webhooks and cells,
    /// and reads who did what; `auditor` reads who did what. Each of them reads.
    #[schema(schema_with = role)]
    role: Role,
    /// On this tenant, or on all of them: `*`. When not given, on all, and with a filter on `default`; a caller that has one tenant
    /// gives grants on that one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(
        pattern = r"^(\*|[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?)$",
        example = "acme"
    )]
    tenant: Option<String>,
    /// For those devices only that this lets through: RSQL, up to 4,096 characters (docs/fleet-and-filters.md). Others are not there
    /// for the caller. `null`: all. For `viewer`, `operator` and `approver`.
    #[serde(default)]
    #[schema(
        required = false,
        max_length = 4096,
        format = "rsql",
        example = "site==north*"
    )]
    filter: Option<String>,
}

fn role() -> Object {
    Object::builder()
        .schema_type(Type::String)
        .enum_values(Some(Role::ALL.map(Role::name)))
        .build()
}

impl From<&Grant> for GrantBody {
    fn from(grant: &Grant) -> Self {
        Self {
            role: grant.role,
            tenant: (grant.tenant != Tenants::usual(grant.filter.as_ref()))
                .then(|| grant.tenant.clone().into()),
            filter: grant.filter.as_ref().map(Filter::to_string),
        }
    }
}

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

/// Checks the name of a token or of a user.
pub(super) fn check_name(fields: &mut Fields, name: &str) {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    fields.check(
        "name",
        (1..=MAX_NAME).contains(&name.len())
            && name.chars().all(plain)
            && !matches!(name, "." | ".."),
        format!(
            "a name has 1 to {MAX_NAME} characters out of A-Z a-z 0-9 . _ -, and is not . or .."
        ),
    );
}

/// The tenants that a grant is on. Nobody grants what it is not granted itself.
async fn tenants_of(
    (state, scope): (&ApiState, &Scope),
    named: Option<&str>,
    filter: Option<&Filter>,
) -> Result<Result<Tenants, String>, StoreError> {
    let tenants = match named.map(|named| Tenants::try_from(named.to_owned())) {
        Some(Ok(tenants)) => tenants,
        Some(Err(error)) => return Ok(Err(format!("{error}; * stands for all"))),
        None if *scope == Scope::Whole => return Ok(Ok(Tenants::usual(filter))),
        None => match scope.tenants().as_deref() {
            Some([only]) => Tenants::One(only.clone()),
            _ => return Ok(Err("name the tenant that the grant is on".to_owned())),
        },
    };
    let known = match &tenants {
        Tenants::All if *scope != Scope::Whole => {
            let detail = "the caller is not granted all tenants, and cannot grant them";
            return Ok(Err(detail.to_owned()));
        }
        Tenants::All => true,
        Tenants::One(tenant) => {
            scope.has_all_of(tenant.as_str()) && state.store.tenant(tenant).await?.is_some()
        }
    };
    Ok(if known {
        Ok(tenants)
    } else {
        Err(format!(
            "there is no tenant {:?}",
            named.unwrap_or_default()
        ))
    })
}

/// Whether somebody with these grants is there for a caller: nothing is granted on a tenant that the caller does not have.
pub(super) fn manages(scope: &Scope, grants: &[Grant]) -> bool {
    let has = |grant: &Grant| (grant.tenant.one()).is_some_and(|it| scope.has_all_of(it.as_str()));
    *scope == Scope::Whole || grants.iter().all(has)
}

/// What is granted; what is wrong goes to `fields`.
pub(super) async fn read_grants(
    granter: (&ApiState, &Scope),
    given: &[GrantBody],
    fields: &mut Fields,
) -> Result<Vec<Grant>, StoreError> {
    let mut grants = Vec::new();
    for (at, grant) in given.iter().enumerate().take(MAX_GRANTS + 1) {
        let filter = match grant.filter.as_deref().map(Filter::parse) {
            Some(filter) => fields
                .take(&format!("grants[{at}].filter"), filter)
                .map(Some),
            None => Some(None),
        };
        let named = grant.tenant.as_deref();
        let tenant = tenants_of(granter, named, filter.as_ref().and_then(Option::as_ref)).await?;
        let tenant = fields.take(&format!("grants[{at}].tenant"), tenant);
        grants.extend(filter.zip(tenant).map(|(filter, tenant)| Grant {
            role: grant.role,
            tenant,
            filter,
        }));
    }
    if grants.len() == given.len().min(MAX_GRANTS + 1)
        && let Err((at, error)) = check_grants(&grants)
    {
        let field = at.map_or("grants".to_owned(), |at| format!("grants[{at}].filter"));
        fields.check(&field, false, error);
    }
    Ok(grants)
}

/// Those of a list who are there for a caller: what is not there leaves no gap in a page.
pub(super) struct Gathered<R> {
    found: Vec<R>,
    limit: usize,
    /// The number of the last that was looked at.
    pub(super) after: Option<i64>,
}

impl<R> Gathered<R> {
    /// None yet of a page that begins behind a number.
    pub(super) fn behind(after: Option<i64>, limit: u32) -> Self {
        Self {
            found: Vec::new(),
            limit: limit as usize,
            after,
        }
    }

    /// Takes those that are there. Returns whether more have to be read.
    pub(super) fn take(
        &mut self,
        page: Page<R>,
        number: impl Fn(&R) -> i64,
        is_there: impl Fn(&R) -> bool,
    ) -> bool {
        self.after = page.items.last().map(number);
        self.found.extend(page.items.into_iter().filter(is_there));
        page.more && self.found.len() <= self.limit
    }

    /// The page, and behind which number the next begins.
    pub(super) fn page(mut self, number: impl Fn(&R) -> i64) -> (Vec<R>, Option<i64>) {
        let more = self.found.len() > self.limit;
        self.found.truncate(self.limit);
        let next = self.found.last().filter(|_| more).map(number);
        (self.found, next)
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
    let mut random = [0; RANDOM_BYTES];
    getrandom::fill(&mut random)
        .map_err(|error| Problem::internal(&std::io::Error::other(error)))?;
    Ok(format!("{PREFIX}{}", hex::encode(random)))
}

/// Add a token.
///
/// It is shown once, and kept as its SHA-256. It begins with `cw_`, so that programs that look for secrets find it.
#[utoipa::path(post, path = "/v1/tokens", operation_id = "add_token", tag = "access", request_body = AddToken,
    responses(
        (status = 201, description = "Added", body = AddedToken,
            headers(("Location" = String, description = "Path of the token"))),
        (status = 409, description = "Another token has the name, or there are too many tokens", body = Problem),
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
