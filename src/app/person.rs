//! Whose token it is, and what somebody is in a home.

use axum::{
    extract::FromRequestParts,
    http::{StatusCode, request::Parts},
};
use sha2::{Digest as _, Sha256};

use super::{
    problem::Problem,
    state::AppState,
    tokens::{NotTaken, Told, is_signed},
};
use crate::{
    clock::UtcMillis,
    home::{HomeId, HomeKey, Role, UserId, UserKey},
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
        parts.extensions.get().cloned().ok_or_else(Problem::closed)
    }
}

impl<S: Sync> FromRequestParts<S> for Inside {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parts.extensions.get().cloned().ok_or_else(Problem::closed)
    }
}

/// Why nobody is let in.
pub(super) enum Outside {
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
pub(super) async fn person(state: &AppState, token: &str) -> Result<Person, Outside> {
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
pub(super) async fn role_in(
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

fn no_keys(why: &str) -> Problem {
    tracing::debug!(why, "a token could not be checked");
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "issuer-unavailable",
        "The token cannot be checked",
        "the keys of the issuer of tokens are not there; try again later",
    )
}
