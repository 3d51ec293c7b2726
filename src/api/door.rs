//! Who is let in under `/v1`, and what for.
//!
//! A request names its caller by a token, or by the cookie of a session. Its route has an entry in the table of operations
//! ([`crate::access::OPERATIONS`]), which says what the caller needs. A route without an entry is closed to everybody. Handlers take
//! the [`Caller`], and the [`Scope`] of the devices that are there for it.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use utoipa::openapi::{OpenApi, path::PathItem};

use super::{
    ApiState,
    admitted::Credential,
    audit::lines,
    cookie::{self, has_csrf_token},
    extract::{self, TenantIsNamed},
    middleware::{RateLimit, too_many},
    problem::Problem,
    second_factor::has_to_enrol,
    source::Source,
    token::{PREFIX, TokenHash},
};
use crate::{
    access::{Caller, Operation, Permission, Reach, Refusal, Scope},
    clock::UtcMillis,
    store::{MAX_TOKENS, StoreError, TokenId, TokenRecord},
    tenant::TenantId,
};

/// A use is noted when the last one that was noted is so long ago.
const NOTED_EVERY: Duration = Duration::from_mins(1);

/// Goes with a request that no person has made, such as that of a page which renews itself: it does not keep a session from ending.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unattended;

/// What stands before the routes.
pub(super) struct Door {
    state: ApiState,
    /// Of each path its methods, and what they carry out.
    routes: HashMap<String, HashMap<Method, Option<&'static Operation>>>,
    attempts: RateLimit,
    /// When the use of a token was noted last.
    noted: Mutex<HashMap<TokenId, UtcMillis>>,
}

impl Door {
    /// Before the routes that are described. There are no others: what makes a route describes it.
    pub(super) fn new(state: ApiState, api: &OpenApi) -> Self {
        let paths = api.paths.paths.iter();
        Self {
            attempts: RateLimit::of_attempts(state.config.clone()),
            state,
            routes: paths
                .map(|(path, item)| (path.clone(), operations(item)))
                .collect(),
            noted: Mutex::default(),
        }
    }

    /// What the handlers work with.
    pub(super) fn state(&self) -> &ApiState {
        &self.state
    }

    /// The name of what is carried out with this method here.
    pub(super) fn name_of(&self, path: &str, method: &Method) -> Option<&'static str> {
        let operation = self.operation(path, method).flatten()?;
        Some(operation.name)
    }

    /// Who has this token; `None`: nobody.
    async fn holder(&self, given: &str) -> Result<Option<(Caller, Credential)>, StoreError> {
        let given = given.trim();
        if self.state.token.is(given) {
            return Ok(Some((Caller::admin_token(), Credential::AdminToken)));
        }
        if !given.starts_with(PREFIX) {
            return Ok(None);
        }
        let hash = TokenHash::of(given);
        let found = self.state.store.find_token(hash.bytes(), self.state.now());
        Ok(found.await?.map(|token| {
            self.note_use(&token);
            let credential = Credential::ApiToken(token.id);
            let caller = Caller::api_token(token.id.0, token.name, token.grants);
            (caller, credential)
        }))
    }

    /// Who has this session; `None`: it has ended.
    async fn logged_in(
        &self,
        session: &str,
        attended: bool,
    ) -> Result<Option<(Caller, Credential)>, StoreError> {
        let hash = *TokenHash::of(session).bytes();
        let (now, idle) = (self.state.now(), idle(&self.state));
        let found = self.state.store.find_session(&hash, now, idle).await?;
        let Some((user, seen)) = found else {
            return Ok(None);
        };
        if attended && now.since(seen) >= NOTED_EVERY {
            let store = self.state.store.clone();
            tokio::spawn(async move {
                if let Err(error) = store.session_seen(&hash, now).await {
                    tracing::warn!(%error, "the use of a session was not noted");
                }
            });
        }
        let credential = Credential::Session {
            hash,
            csrf_token: cookie::csrf_token(session),
            has_to_enrol: has_to_enrol(&user, &self.state.config.get().admin),
        };
        let caller = Caller::user(user.id.0, user.name, user.grants);
        Ok(Some((caller, credential)))
    }

    /// The scope of a request that may name a tenant: what of it is the tenant's.
    async fn narrowed(
        &self,
        operation: Option<&'static Operation>,
        scope: Scope,
        request: &mut Request,
    ) -> Result<Scope, Problem> {
        let mut named = extract::tenants_named(request.uri());
        let (Some(name), true) = (named.next(), operation.is_some_and(takes_a_tenant)) else {
            return Ok(scope);
        };
        if named.next().is_some() {
            return Err(Problem::field("tenant", "name one tenant"));
        }
        let no_tenant = || Problem::not_found(format!("there is no tenant {name:?}"));
        let tenant: TenantId = name.parse().map_err(|_| no_tenant())?;
        let narrowed = scope.of_tenant(&tenant).ok_or_else(no_tenant)?;
        if self.state.store.tenant(&tenant).await?.is_none() {
            return Err(no_tenant());
        }
        drop(named);
        request.extensions_mut().insert(TenantIsNamed);
        Ok(narrowed)
    }

    /// The answer to a token that is none.
    fn reject(&self, request: &Request) -> Response {
        lines::token_rejected(request);
        match self.attempts.check(Source::of(request)).allowed() {
            Ok(()) => {
                unauthorized("the server does not know this token, or it has ended or was revoked")
            }
            Err(wait_s) => too_many("this address has sent too many wrong tokens", wait_s),
        }
    }

    /// Notes once in a while that a token is used. Nobody waits for that.
    fn note_use(&self, token: &TokenRecord) {
        let now = self.state.now();
        let recent = |at: UtcMillis| now.since(at) < NOTED_EVERY;
        let mut noted = self.noted.lock().unwrap_or_else(PoisonError::into_inner);
        if token.last_used_at.is_some_and(recent)
            || noted.get(&token.id).copied().is_some_and(recent)
        {
            return;
        }
        if noted.len() >= MAX_TOKENS as usize {
            noted.retain(|_, at| recent(*at));
        }
        noted.insert(token.id, now);
        let (store, id) = (self.state.store.clone(), token.id);
        tokio::spawn(async move {
            if let Err(error) = store.token_used(id, now).await {
                tracing::warn!(%error, token = id.0, "the use of a token was not noted");
            }
        });
    }

    /// What a method carries out here. `None`: nothing is done with it; `Some(None)`: it is missing from the table.
    #[expect(clippy::option_option, reason = "these are three cases")]
    fn operation(&self, path: &str, method: &Method) -> Option<Option<&'static Operation>> {
        let method = if *method == Method::HEAD {
            &Method::GET
        } else {
            method
        };
        match self.routes.get(path) {
            Some(methods) => methods.get(method).copied(),
            None => Some(None),
        }
    }
}

fn operations(item: &PathItem) -> HashMap<Method, Option<&'static Operation>> {
    let methods = [
        (Method::GET, &item.get),
        (Method::PUT, &item.put),
        (Method::POST, &item.post),
        (Method::DELETE, &item.delete),
        (Method::OPTIONS, &item.options),
        (Method::HEAD, &item.head),
        (Method::PATCH, &item.patch),
        (Method::TRACE, &item.trace),
    ];
    let described = methods
        .into_iter()
        .filter_map(|(method, operation)| Some((method, operation.as_ref()?)));
    let named = described.map(|(method, operation)| {
        let name = operation.operation_id.as_deref().unwrap_or_default();
        (method, Operation::named(name))
    });
    named.collect()
}

/// Whether an operation is carried out for one tenant where its query names it (`?tenant=acme`).
pub(super) fn takes_a_tenant(operation: &Operation) -> bool {
    operation.reach != Reach::Whole
        && !matches!(operation.needs, Permission::Open | Permission::Own)
}

/// Lets in whoever has a token or a session, for what the grants permit.
#[expect(clippy::too_many_lines, reason = "one check after the other")]
pub(super) async fn admit(
    State(door): State<Arc<Door>>,
    path: MatchedPath,
    mut request: Request,
    next: Next,
) -> Response {
    let operation = door.operation(path.as_str(), request.method());
    if let Some(Some(operation)) = operation {
        request.extensions_mut().insert(operation);
        if operation.needs == Permission::Open {
            return next.run(request).await;
        }
    }
    let (token, session) = (bearer(&request), cookie::cookie(request.headers()));
    let attended = request.extensions().get::<Unattended>().is_none();
    let found = match (&token, &session) {
        (Some(token), _) => door.holder(token).await,
        (None, Some(session)) => door.logged_in(session, attended).await,
        (None, None) => return unauthorized(HOW),
    };
    let (caller, credential) = match found {
        Ok(Some(found)) => found,
        Ok(None) if token.is_none() => return unauthorized("the session has ended; log in again"),
        Ok(None) => return door.reject(&request),
        Err(error) => return Problem::from(error).into_response(),
    };
    if let (None, Some(session)) = (&token, &session)
        && !request.method().is_safe()
        && !has_csrf_token(request.headers(), session)
    {
        let mut response = no_csrf_token().into_response();
        response.extensions_mut().insert(caller);
        return response;
    }
    // what concerns the caller alone is all that is needed for setting one up
    if let Credential::Session {
        has_to_enrol: true, ..
    } = credential
        && operation
            .flatten()
            .is_some_and(|it| it.needs != Permission::Own)
    {
        let mut response = second_factor_required().into_response();
        response.extensions_mut().insert(caller);
        return response;
    }
    // where there is no operation the router says which methods there are
    if let Some(operation) = operation {
        match caller.admit(operation) {
            Ok(scope) => match door.narrowed(operation, scope, &mut request).await {
                Ok(scope) => request.extensions_mut().insert(scope),
                Err(problem) => {
                    let mut response = problem.into_response();
                    response.extensions_mut().insert(caller);
                    return response;
                }
            },
            Err(refusal) => {
                lines::not_permitted(&caller, &request);
                let mut response = forbidden(&caller, refusal).into_response();
                response.extensions_mut().insert(caller);
                return response;
            }
        };
    }
    request.extensions_mut().insert(caller.clone());
    request.extensions_mut().insert(credential);
    let mut response = next.run(request).await;
    response.extensions_mut().insert(caller);
    response
}

const HOW: &str = "send the header Authorization: Bearer <token>, with a token that an administrator has added, or with the one that \
     is in admin.token in the server's data directory; people log in by POST /v1/session";

fn no_csrf_token() -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "csrf-token-missing",
        "The session alone does not permit this",
        "send the header X-CSRF-Token with what POST /v1/session and GET /v1/me have answered as csrf_token",
    )
}

fn second_factor_required() -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "second-factor-required",
        "A second factor is required",
        "set up a second factor first: POST /v1/me/totp, and POST /v1/me/totp/confirm with a code",
    )
}

/// The token of a request (RFC 6750 §2.1).
fn bearer(request: &Request) -> Option<String> {
    let value = request.headers().get(header::AUTHORIZATION)?;
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let bearer = scheme.eq_ignore_ascii_case("bearer");
    bearer.then(|| token.to_owned())
}

fn unauthorized(detail: &str) -> Response {
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        "The token is missing or wrong",
        detail,
    )
    .with_header(
        header::WWW_AUTHENTICATE,
        HeaderValue::from_static("Bearer realm=\"cellwise\""),
    )
}

fn forbidden(caller: &Caller, refusal: Refusal) -> Problem {
    let who = caller.who();
    let detail = match refusal {
        Refusal::Role(needed) => {
            format!("this needs {}, which {who} does not have", needed.roles())
        }
        Refusal::Narrowed => {
            format!("this concerns more than {who} is granted")
        }
        Refusal::Unlisted => "this is permitted to nobody".to_owned(),
    };
    Problem::new(
        StatusCode::FORBIDDEN,
        "forbidden",
        "The caller may not do this",
        detail,
    )
}

/// How long a session may go without being used. A use is noted up to a minute late.
fn idle(state: &ApiState) -> Duration {
    Duration::from_secs(state.config.get().admin.session_idle_s)
}

/// Whether a caller that was let in would be let in still, for the same: its token was not revoked and has not ended, its session goes
/// on, and nobody has changed its grants.
pub(super) async fn is_let_in_still(
    state: &ApiState,
    caller: &Caller,
    credential: &Credential,
) -> Result<bool, StoreError> {
    let now = state.now();
    match credential {
        Credential::AdminToken => Ok(true),
        Credential::ApiToken(id) => {
            let token = state.store.token(*id).await?;
            let ends = token.map(|token| token.expires_at);
            Ok(ends.is_some_and(|ends| ends.is_none_or(|at| at > now)))
        }
        Credential::Session { hash, .. } => {
            let found = state.store.find_session(hash, now, idle(state)).await?;
            let admin = &state.config.get().admin;
            Ok(found.is_some_and(|(user, _)| {
                user.grants == caller.grants() && !has_to_enrol(&user, admin)
            }))
        }
    }
}
