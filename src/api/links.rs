//! `/v1/users/{name}/login-link`: somebody logs in once without a password.
//!
//! Links are kept in memory alone, as the SHA-256 of what is in them: a restart ends them. What a user is when its link is used
//! counts: one that was changed since has no link any more.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    ApiState, audit::lines, extract::Path, problem::Problem, random::random, sessions,
    source::Source, token::TokenHash, users,
};
use crate::{
    access::{Caller, Grant, Scope},
    clock::UtcMillis,
    store::{UserId, UserRecord},
};

/// How long a link is good.
pub(super) const LASTS: Duration = Duration::from_mins(10);
/// Links that are good at once, of all users.
pub(super) const MOST: usize = 256;
/// Bytes that are in a link, in hexadecimal.
const RANDOM_BYTES: usize = 32;
/// The page that takes links.
const PAGE: &str = "/console/login";

/// The links that are good: one of each user at most.
#[derive(Default)]
pub struct Links(Mutex<Vec<Link>>);

#[derive(Clone)]
struct Link {
    /// The SHA-256 of what is in it.
    hash: [u8; 32],
    /// Who logs in by it, as it was when the link was made.
    user: UserId,
    name: String,
    password: String,
    grants: Vec<Grant>,
    /// Who has made it.
    made_by: String,
    expires_at: UtcMillis,
    /// Somebody logs in by it at the moment.
    held: bool,
}

impl Link {
    /// Whether it is for this user, who is what it was.
    fn is_for(&self, user: &UserRecord) -> bool {
        self.user == user.id && self.password == user.password && self.grants == user.grants
    }
}

impl Links {
    /// Makes one for a user as that was read. The one of before ends.
    pub(super) fn make(
        &self,
        user: &UserRecord,
        made_by: String,
        now: UtcMillis,
    ) -> Result<LoginLink, Problem> {
        let token = hex::encode(random::<RANDOM_BYTES>()?);
        let mut links = self.links();
        links.retain(|link| link.user != user.id && link.expires_at > now);
        if links.len() >= MOST {
            return Err(too_many());
        }
        let expires_at = now + LASTS;
        links.push(Link {
            hash: *TokenHash::of(&token).bytes(),
            user: user.id,
            name: user.name.clone(),
            password: user.password.clone(),
            grants: user.grants.clone(),
            made_by,
            expires_at,
            held: false,
        });
        Ok(LoginLink {
            path: format!("{PAGE}?link={token}"),
            token,
            expires_at: expires_at.to_string(),
        })
    }

    /// Takes one to log in by it. Nobody else does meanwhile. `None`: it is not good.
    fn hold(self: &Arc<Self>, token: &str, now: UtcMillis) -> Option<Held> {
        let hash = *TokenHash::of(token).bytes();
        let mut links = self.links();
        let mut good = links.iter_mut().filter(|link| link.expires_at > now);
        let link = good.find(|link| link.hash == hash && !link.held)?;
        link.held = true;
        Some(Held {
            links: self.clone(),
            link: link.clone(),
            used: false,
        })
    }

    fn let_go(&self, hash: &[u8; 32], used: bool) {
        let mut links = self.links();
        // a newer one may have ended it meanwhile
        let Some(at) = links.iter().position(|link| link.hash == *hash) else {
            return;
        };
        if used {
            links.remove(at);
        } else {
            links[at].held = false;
        }
    }

    fn links(&self) -> MutexGuard<'_, Vec<Link>> {
        // no change to it can stop half-way
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Links")
    }
}

/// A link by which somebody is logging in. Unless that has come true the link is good again when this is dropped.
pub(super) struct Held {
    links: Arc<Links>,
    link: Link,
    used: bool,
}

impl Held {
    /// Somebody has logged in by it: it ends. Returns who had made it.
    pub(super) fn used(mut self) -> String {
        self.used = true;
        std::mem::take(&mut self.link.made_by)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.links.let_go(&self.link.hash, self.used);
    }
}

/// The user who logs in by a link, and the link.
pub(super) async fn user_of(
    state: &ApiState,
    token: &str,
    source: Source,
) -> Result<(UserRecord, Held), Problem> {
    let Some(held) = state.links.hold(token, state.now()) else {
        lines::log_in_failed(None, source.0);
        return Err(not_good());
    };
    let user = state.store.user(&held.link.name).await?;
    let Some(user) = user.filter(|user| held.link.is_for(user)) else {
        lines::log_in_failed(Some(&held.link.name), source.0);
        return Err(not_good());
    };
    Ok((user, held))
}

/// A link by which a user logs in once.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct LoginLink {
    /// What `POST /v1/session` takes as `link`. It is not shown again.
    #[schema(
        pattern = "^[0-9a-f]{64}$",
        example = "5f0c7b0e8f0a4c3f9d0b5d0c1f6f2a115f0c7b0e8f0a4c3f9d0b5d0c1f6f2a11"
    )]
    pub(super) token: String,
    /// The page of this host that logs in by it, for browsers.
    #[schema(
        example = "/console/login?link=5f0c7b0e8f0a4c3f9d0b5d0c1f6f2a115f0c7b0e8f0a4c3f9d0b5d0c1f6f2a11"
    )]
    path: String,
    /// When it ends.
    #[schema(format = DateTime)]
    expires_at: String,
}

/// Make a link by which a user logs in.
///
/// It is good for ten minutes, and once. A newer one of the same user ends it, and so do another password, other grants, and a restart of
/// the server. It stands for the password, and not for the second factor. The answer is not kept for its `Idempotency-Key`.
#[utoipa::path(post, path = "/v1/users/{name}/login-link", operation_id = "add_login_link", tag = "access",
    params(("name" = String, Path, description = "The name")),
    responses(
        (status = 201, description = "Made", body = LoginLink),
        (status = 403, description = "The user is disabled, or the caller may not make one", body = Problem),
        (status = 404, description = "There is no such user", body = Problem),
        (status = 409, description = "The user logs in by an identity provider, or there are too many links", body = Problem),
    ))]
pub(super) async fn add(
    State(state): State<ApiState>,
    scope: Scope,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Response, Problem> {
    let user = users::known(&state, &scope, &name).await?;
    if user.identity.is_some() {
        return Err(no_password());
    }
    if user.disabled {
        return Err(sessions::disabled(&user.name));
    }
    let mut made = state.links.make(&user, caller.who(), state.now())?;
    made.path
        .insert_str(0, &state.config.get().console.path_prefix);
    Ok((StatusCode::CREATED, Json(made)).into_response())
}

/// Nobody logs in by this.
pub(super) fn not_good() -> Problem {
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        "The link is not good",
        "the link was used, or is older than ten minutes, or a newer one was made; or the user was changed, or the server was restarted \
         since: have another one made (cellwise user link NAME)",
    )
}

fn no_password() -> Problem {
    Problem::conflict(
        "no-password",
        "The user has no password",
        "the user logs in by an identity provider, for which no link stands",
    )
}

fn too_many() -> Problem {
    Problem::conflict(
        "too-many-links",
        "There are too many links",
        format!(
            "{MOST} links of other users are good already; each ends when it is used, or after ten minutes"
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: i64) -> UserRecord {
        UserRecord {
            id: UserId(id),
            name: format!("user{id}"),
            password: "hash".to_owned(),
            identity: None,
            grants: Vec::new(),
            created_by: String::new(),
            created_at: UtcMillis(0),
            last_login_at: None,
            totp: None,
            totp_pending: None,
            second_factor_required: false,
            disabled: false,
        }
    }

    fn made(links: &Links, id: i64, now: UtcMillis) -> Result<String, Problem> {
        let made = links.make(&user(id), "token:7:import".to_owned(), now);
        made.map(|it| it.token)
    }

    #[test]
    fn a_link_is_good_for_its_time_and_until_it_is_used() {
        let links = Arc::new(Links::default());
        let begin = UtcMillis(1_000);
        let last = (begin + LASTS).before(Duration::from_millis(1));
        let link = made(&links, 1, begin).unwrap();
        assert!(links.hold(&link, begin + LASTS).is_none());
        let held = links.hold(&link, last).unwrap();
        assert!(links.hold(&link, last).is_none(), "somebody logs in by it");
        drop(held);
        let held = links.hold(&link, last).unwrap();
        assert_eq!(held.used(), "token:7:import");
        assert!(links.hold(&link, last).is_none());
    }

    #[test]
    fn a_newer_one_ends_the_one_of_before_also_while_that_is_held() {
        let links = Arc::new(Links::default());
        let now = UtcMillis(1_000);
        let older = made(&links, 1, now).unwrap();
        let other = made(&links, 2, now).unwrap();
        let held = links.hold(&older, now).unwrap();
        let newer = made(&links, 1, now).unwrap();
        drop(held);
        assert!(links.hold(&older, now).is_none());
        assert!(links.hold(&newer, now).is_some());
        assert!(links.hold(&other, now).is_some());
    }

    #[test]
    fn there_are_so_many_at_most_and_those_that_have_ended_make_room() {
        let links = Links::default();
        let begin = UtcMillis(1_000);
        let most = i64::try_from(MOST).unwrap();
        for id in 1..=most {
            // the first has a minute less than the others
            let after = Duration::from_mins(u64::from(id > 1));
            assert!(made(&links, id, begin + after).is_ok(), "{id}");
        }
        let later = begin + Duration::from_mins(1);
        let full = made(&links, most + 1, later).unwrap_err();
        assert_eq!(full.name(), "too-many-links");
        assert!(made(&links, 5, later).is_ok(), "its own makes room");
        assert!(made(&links, most + 1, begin + LASTS).is_ok());
        assert!(made(&links, most + 2, begin + LASTS).is_err());
        assert_eq!(links.links().len(), MOST);
    }

    #[test]
    fn a_link_is_for_the_user_as_it_was() {
        let links = Arc::new(Links::default());
        let now = UtcMillis(1_000);
        let link = made(&links, 1, now).unwrap();
        let held = links.hold(&link, now).unwrap();
        assert!(held.link.is_for(&user(1)));
        let mut again = user(2);
        again.name = "user1".to_owned();
        let mut password = user(1);
        password.password = "another".to_owned();
        let mut grants = user(1);
        grants.grants = vec![Grant::of(crate::access::Role::Viewer)];
        for other in [again, password, grants] {
            assert!(!held.link.is_for(&other), "{other:?}");
        }
    }
}
