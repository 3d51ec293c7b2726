//! Who is let in, and for what.
//!
//! A token names the user. The home of the path has to be one of theirs, with a role that may do what the table says of the route
//! ([`super::routes`]). A home that is not theirs is answered like one that is not there, in the same words on every route.

use std::{collections::HashMap, sync::Arc};

use axum::{
    extract::{FromRequestParts, MatchedPath, RawPathParams, Request, State},
    http::{HeaderValue, Method, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use sha2::{Digest as _, Sha256};
use utoipa::openapi::OpenApi;

use super::{
    problem::Problem,
    rations::{Rations, StartRations},
    routes::{Needs, Route},
    state::AppState,
    tokens::{NotTaken, Told, is_signed},
};
use crate::{
    api::{RateLimit, Source, too_many},
    clock::UtcMillis,
    home::{Action, HomeId, HomeKey, Role, UserId, UserKey},
    store::StoreError,
    tenant::TenantId,
};

/// Longest token that is looked up, bytes.
const MAX_ISSUED: usize = 512;

/// Somebody who was let in.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Person {
    /// Who.
    pub(super) key: UserKey,
    /// The homes and the roles there, where the token tells them.
    pub(super) homes: Option<Vec<(HomeId, Role)>>,
    /// When the token was made at the earliest.
    issued_at: UtcMillis,
    /// When the token ends.
    pub(super) ends_at: UtcMillis,
    /// The digest of a token that the admin API has issued.
    issued: Option<[u8; 32]>,
}

/// Somebody in the home that a request is about.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Inside {
    /// The home.
    pub(super) home: HomeKey,
    /// Who.
    pub(super) person: Person,
}

impl<S: Sync> FromRequestParts<S> for Person {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get().cloned().ok_or_else(closed)
    }
}

impl<S: Sync> FromRequestParts<S> for Inside {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get().cloned().ok_or_else(closed)
    }
}

/// What stands before the routes.
pub(super) struct Door {
    state: AppState,
    /// Of each path its methods, and what they carry out.
    routes: HashMap<String, HashMap<Method, Option<&'static Route>>>,
    attempts: RateLimit,
    users: Rations,
    homes: Rations,
    starts: Arc<StartRations>,
}

impl Door {
    /// Before the routes that are described.
    pub(super) fn new(state: AppState, api: &OpenApi) -> Self {
        let paths = api.paths.paths.iter().map(|(path, item)| {
            let methods = [
                (Method::GET, &item.get),
                (Method::PUT, &item.put),
                (Method::POST, &item.post),
            ];
            let methods = methods.into_iter().filter_map(|(method, operation)| {
                let name = operation.as_ref()?.operation_id.as_deref();
                Some((method, Route::named(name.unwrap_or_default())))
            });
            (path.clone(), methods.collect())
        });
        let settings = state.config.clone();
        Self {
            routes: paths.collect(),
            attempts: RateLimit::of_app_attempts(settings.clone()),
            users: Rations::of_users(settings.clone()),
            homes: Rations::of_homes(settings.clone()),
            starts: Arc::new(StartRations::new(settings)),
            state,
        }
    }

    /// What the handlers work with.
    pub(super) fn state(&self) -> &AppState {
        &self.state
    }

    /// What a method carries out here. `None`: nothing is done with it; `Some(None)`: it is missing from the table.
    #[expect(clippy::option_option, reason = "these are three cases")]
    pub(super) fn route(&self, path: &str, method: &Method) -> Option<Option<&'static Route>> {
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

    /// The answer to a token that is none.
    fn reject(&self, request: &Request, why: &str) -> Response {
        match self.attempts.check(Source::of(request)).allowed() {
            Ok(()) => unauthorized(why),
            Err(wait_s) => too_many("this address has sent too many wrong tokens", wait_s),
        }
    }

    /// What somebody may not do in a home, or may ask for too often.
    async fn inside(
        &self,
        person: &Person,
        named: Option<&str>,
        action: Action,
    ) -> Result<Inside, Denied> {
        let home = named.and_then(|id| id.parse().ok()).map(|id| HomeKey {
            tenant: person.key.tenant.clone(),
            id,
        });
        let Some(home) = home else {
            return Err(no_such_home().into());
        };
        let role = role_in(&self.state, person, &home).await;
        let Some(role) = role.map_err(Problem::from)? else {
            return Err(no_such_home().into());
        };
        let tenant = person.key.tenant.as_str();
        self.homes
            .check(tenant, home.id.as_str())
            .map_err(Denied::Wait)?;
        if !role.may(action) {
            return Err(members_look(role).into());
        }
        Ok(Inside {
            home,
            person: person.clone(),
        })
    }
}

/// Why somebody does nothing in a home.
enum Denied {
    /// What is answered.
    Problem(Problem),
    /// Seconds to wait.
    Wait(u64),
}

impl From<Problem> for Denied {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

/// Why nobody is let in.
enum Outside {
    /// The token is none.
    Refused(String),
    /// It cannot be told.
    Problem(Problem),
}

impl From<StoreError> for Outside {
    fn from(error: StoreError) -> Self {
        Self::Problem(error.into())
    }
}

/// Whose token it is.
async fn person(state: &AppState, token: &str) -> Result<Person, Outside> {
    const UNKNOWN: &str = "the server does not know this token, or it has ended or was revoked";
    let now = state.now();
    let person = if is_signed(token) {
        let Some(issuer) = &state.issuer else {
            let why = "no issuer of signed tokens is configured (app.issuer)";
            return Err(Outside::Refused(why.to_owned()));
        };
        let told = issuer.told(token, now).await.map_err(|error| match error {
            NotTaken::Refused(why) => Outside::Refused(format!("the token is not valid: {why}")),
            NotTaken::NoKeys(why) => Outside::Problem(no_keys(&why)),
        })?;
        of_told(told).map_err(Outside::Refused)?
    } else {
        if token.len() > MAX_ISSUED {
            return Err(Outside::Refused(UNKNOWN.to_owned()));
        }
        let hash: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let found = state.store.find_app_token(&hash, now).await?;
        let found = found.ok_or_else(|| Outside::Refused(UNKNOWN.to_owned()))?;
        Person {
            key: found.user,
            homes: None,
            issued_at: found.created_at,
            ends_at: found.expires_at,
            issued: Some(hash),
        }
    };
    if is_revoked(state, &person).await? {
        return Err(Outside::Refused(UNKNOWN.to_owned()));
    }
    Ok(person)
}

/// Whom a signed token speaks of.
fn of_told(told: Told) -> Result<Person, String> {
    let not_valid = |what: &dyn std::fmt::Display| format!("the token is not valid: {what}");
    let tenant = match told.tenant {
        None => TenantId::default(),
        Some(name) => (name.parse::<TenantId>()).map_err(|error| not_valid(&error))?,
    };
    let id = (told.user.parse::<UserId>()).map_err(|error| not_valid(&error))?;
    let homes = told.homes.map(|homes| {
        let homes = homes.into_iter().map(|(id, role)| {
            let id = id.parse::<HomeId>().map_err(|error| not_valid(&error))?;
            let role = match (role.as_str(), role.as_i64()) {
                (Some(name), _) => Role::from_name(name),
                (None, Some(code)) => Role::from_code(code),
                (None, None) => None,
            };
            let what = "a role is owner (0), administrator (1) or member (2)";
            Ok((id, role.ok_or_else(|| not_valid(&what))?))
        });
        homes.collect::<Result<Vec<_>, String>>()
    });
    Ok(Person {
        key: UserKey { tenant, id },
        homes: homes.transpose()?,
        issued_at: told.issued_at,
        ends_at: told.ends_at,
        issued: None,
    })
}

async fn is_revoked(state: &AppState, person: &Person) -> Result<bool, StoreError> {
    let before = state.store.revoked_before(&person.key).await?;
    Ok(before.is_some_and(|before| person.issued_at < before))
}

/// What somebody is in a home: as the token tells, or else as is kept. `None`: nobody, or there is no such home.
async fn role_in(
    state: &AppState,
    person: &Person,
    home: &HomeKey,
) -> Result<Option<Role>, StoreError> {
    let Some(told) = &person.homes else {
        return state.store.role_in(home, &person.key.id).await;
    };
    let told = told.iter().find(|(id, _)| *id == home.id);
    let Some((_, role)) = told else {
        return Ok(None);
    };
    let there = state.store.home(home).await?;
    Ok(there.map(|_| *role))
}

/// Whether somebody who follows a home would be let in still.
pub(super) async fn is_inside_still(state: &AppState, inside: &Inside) -> Result<bool, StoreError> {
    let person = &inside.person;
    let now = state.now();
    if person.ends_at <= now || is_revoked(state, person).await? {
        return Ok(false);
    }
    if let Some(hash) = &person.issued
        && state.store.find_app_token(hash, now).await?.is_none()
    {
        return Ok(false);
    }
    Ok(role_in(state, person, &inside.home).await?.is_some())
}

/// Lets in whoever has a token, for what the role in the home permits.
pub(super) async fn admit(
    State(door): State<Arc<Door>>,
    path: MatchedPath,
    params: RawPathParams,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(token) = bearer(&request) else {
        return unauthorized("send the header Authorization: Bearer <token>");
    };
    let person = match person(&door.state, &token).await {
        Ok(person) => person,
        Err(Outside::Refused(why)) => return door.reject(&request, &why),
        Err(Outside::Problem(problem)) => return problem.into_response(),
    };
    let (tenant, user) = (person.key.tenant.as_str(), person.key.id.as_str());
    if let Err(wait_s) = door.users.check(tenant, user) {
        return too_many("this user asks too often", wait_s);
    }
    let needs = match door.route(path.as_str(), request.method()) {
        // the router says which methods there are
        None => return next.run(request).await,
        Some(None) => return closed().into_response(),
        Some(Some(route)) => route.needs,
    };
    if let Needs::Home(action) = needs {
        let mut named = params.iter().filter(|(name, _)| *name == "home");
        let named = named.next().map(|(_, home)| home);
        match door.inside(&person, named, action).await {
            Ok(inside) => {
                request.extensions_mut().insert(inside);
                request.extensions_mut().insert(door.starts.clone());
            }
            Err(Denied::Problem(problem)) => return problem.into_response(),
            Err(Denied::Wait(wait_s)) => {
                return too_many("this home is asked for too often", wait_s);
            }
        }
    }
    request.extensions_mut().insert(person);
    next.run(request).await
}

/// The token of a request (RFC 6750 §2.1).
fn bearer(request: &Request) -> Option<String> {
    let value = request.headers().get(header::AUTHORIZATION)?;
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let bearer = scheme.eq_ignore_ascii_case("bearer");
    bearer.then(|| token.trim().to_owned())
}

fn unauthorized(detail: &str) -> Response {
    let mut response = Problem::new(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        "The token is missing or wrong",
        detail,
    )
    .into_response();
    let how = HeaderValue::from_static("Bearer realm=\"cellwise-app\"");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, how);
    response
}

fn no_keys(why: &str) -> Problem {
    tracing::debug!(why, "a token could not be checked");
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "issuer-unavailable",
        "The token cannot be checked",
        "the keys of the issuer of tokens are not there; try again later",
    )
}

/// The one answer about a home that is not there, or is not theirs.
fn no_such_home() -> Problem {
    Problem::not_found("there is no such home")
}

fn members_look(role: Role) -> Problem {
    let detail = format!(
        "as {} you may look, and no more; an owner or an administrator of the home may do this",
        role.name()
    );
    forbidden(&detail)
}

fn forbidden(detail: &str) -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "forbidden",
        "You may not do this",
        detail,
    )
}

/// Nobody has said who may do it.
fn closed() -> Problem {
    forbidden("this is permitted to nobody")
}
