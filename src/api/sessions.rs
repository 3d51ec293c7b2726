//! `/v1/session`: people log in and out.
//!
//! A session is a cookie that scripts cannot read, that is sent to this host alone and over TLS (or to the machine itself), and with
//! no request that another site has caused. What changes something needs a header besides, which only a page of this host can know.

use std::time::Duration;

use axum::{
    Extension, Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    ApiState,
    admitted::{Credential, no_session},
    audit::lines,
    cookie::{csrf_token, set_cookie},
    extract, links,
    middleware::too_many,
    passwords,
    problem::Problem,
    random::random,
    second_factor,
    source::Source,
    token::TokenHash,
};
use crate::{
    access::{Caller, CallerKind},
    clock::UtcMillis,
    store::{NewSession, Proof, UserRecord},
};

const RANDOM_BYTES: usize = 32;

/// Who logs in: by a name and a password, or by a link.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LogIn {
    /// The name.
    #[schema(max_length = 64, example = "anna")]
    name: Option<String>,
    /// The password.
    #[schema(max_length = 128, format = "password")]
    password: Option<String>,
    /// In place of both: the `token` of a link that was made for the user (`POST /v1/users/{name}/login-link`).
    #[schema(max_length = 64, format = "password")]
    link: Option<String>,
    /// The second factor, where the user has one: what the user's device shows, or a recovery code.
    #[schema(max_length = 32, example = "123456")]
    code: Option<String>,
}

/// What somebody logs in by.
enum Shown {
    Password { name: String, password: String },
    Link(String),
}

impl LogIn {
    /// What it is, and the code.
    fn shown(self) -> Result<(Shown, Option<String>), Problem> {
        const NEEDED: &str = "give a name and a password, or a link";
        const ALONE: &str = "a link stands for the name and the password: give it without them";
        let shown = match (self.name, self.password, self.link) {
            (Some(name), Some(password), None) => Shown::Password { name, password },
            (None, None, Some(link)) => Shown::Link(link),
            (_, _, Some(_)) => return Err(Problem::field("link", ALONE)),
            (None, _, None) => return Err(Problem::field("name", NEEDED)),
            (Some(_), None, None) => return Err(Problem::field("password", NEEDED)),
        };
        Ok((shown, self.code))
    }
}

impl Shown {
    /// Whether it may be somebody's: what is longer is nobody's, and not worth the work.
    fn is_plausible(&self) -> bool {
        match self {
            Self::Password { name, password } => {
                name.len() <= 64 && passwords::LENGTH.contains(&password.chars().count())
            }
            Self::Link(_) => true,
        }
    }

    /// Whether it may be looked at, from an address; otherwise the seconds to wait.
    fn ration(&self, state: &ApiState, source: Source) -> Result<(), u64> {
        match self {
            Self::Password { name, .. } => state.passwords.ration(name, source.0),
            Self::Link(_) => state.passwords.ration_address(source.0),
        }
    }
}

/// A session.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SessionBody {
    /// Who is logged in: `user:5:anna`.
    who: String,
    /// What changes something has to carry in the header `X-CSRF-Token`.
    csrf_token: String,
    /// When the session ends, however much it is used. It ends before when it is not used (`admin.session_idle_s`).
    #[schema(format = DateTime)]
    expires_at: String,
}

/// Log in.
///
/// With `name` and `password`, or with `link`. The answer sets the cookie `__Host-cellwise`, which browsers take over TLS, and from the machine
/// itself. Attempts are rationed: 10 a minute for one user (links are not), 30 from one address. A user with a second factor gives `code` too;
/// without it the answer is 401 with the problem `code-needed`. A link is used up when the session begins, and not before.
#[utoipa::path(post, path = "/v1/session", operation_id = "log_in", tag = "access", request_body = LogIn,
    responses(
        (status = 201, description = "Logged in", body = SessionBody,
            headers(("Set-Cookie" = String, description = "The session"))),
        (status = 401, description = "The name, the password or the code is wrong, the link is not good, or a code is needed", body = Problem),
        (status = 403, description = "The user is disabled", body = Problem),
        (status = 409, description = "The credential key is not set with which the second factor was stored", body = Problem),
        (status = 422, description = "There is neither a name with a password nor a link, or there are both", body = Problem),
        (status = 503, description = "Too many people log in at once, or the database is not available", body = Problem),
    ))]
pub(super) async fn log_in(
    State(state): State<ApiState>,
    Extension(source): Extension<Source>,
    extract::Json(body): extract::Json<LogIn>,
) -> Result<Response, Problem> {
    let (shown, code) = body.shown()?;
    if !shown.is_plausible() {
        return Err(wrong());
    }
    if let Err(wait_s) = shown.ration(&state, source) {
        lines::log_in_failed(None, source.0);
        return Ok(too_many("too many attempts to log in", wait_s));
    }
    let (user, link) = match shown {
        Shown::Password { name, password } => {
            let user = by_password(&state, &name, password, source).await?;
            (user, None)
        }
        Shown::Link(link) => {
            let (user, link) = links::user_of(&state, &link, source).await?;
            (user, Some(link))
        }
    };
    let failed = || lines::log_in_failed(Some(&user.name), source.0);
    if user.disabled {
        failed();
        return Err(disabled(&user.name));
    }
    let rationed = user.totp.is_some() && code.as_deref().is_some_and(second_factor::is_guessable);
    let at = state.clock.now().instant;
    if rationed && let Err(wait_s) = state.passwords.ration_code(user.id.0, at) {
        failed();
        return Ok(too_many("too many codes", wait_s));
    }
    let factor = factor(&state, &user, code.as_deref()).inspect_err(|_| failed())?;
    let recovered = matches!(factor, Some(Proof::Recovery(_)));
    let Some(begun) = begin(&state, &user, factor).await? else {
        failed();
        return Err(match (&user.totp, link) {
            // it was used before, as far as can be told
            (Some(_), _) => second_factor::code_wrong(),
            (None, Some(_)) => links::not_good(),
            (None, None) => wrong(),
        });
    };
    if rationed {
        let at = state.clock.now().instant;
        state.passwords.code_was_right(user.id.0, at);
    }
    if recovered {
        lines::recovery_code_used(&begun.caller.who(), source.0);
    }
    if let Some(link) = link {
        lines::link_used(&begun.caller.who(), &link.used(), source.0);
    }
    Ok(logged_in(begun, source))
}

/// The user who has this name and this password.
async fn by_password(
    state: &ApiState,
    name: &str,
    password: String,
    source: Source,
) -> Result<UserRecord, Problem> {
    let user = state.store.user(name).await?;
    // who logs in by an identity provider has no password
    let hash = user.as_ref().map(|user| user.password.clone());
    let hash = hash.filter(|hash| !hash.is_empty());
    let fits = state.passwords.is(password, hash).await?;
    match user {
        Some(user) if fits => Ok(user),
        known => {
            lines::log_in_failed(known.as_ref().map(|user| &*user.name), source.0);
            Err(wrong())
        }
    }
}

/// What is shown as the second factor, by a user who has one.
fn factor(
    state: &ApiState,
    user: &UserRecord,
    code: Option<&str>,
) -> Result<Option<Proof>, Problem> {
    if user.totp.is_none() {
        return Ok(None);
    }
    let code = code.ok_or_else(second_factor::code_needed)?;
    let proof = second_factor::proof(state, user, code)?;
    proof.map(Some).ok_or_else(second_factor::code_wrong)
}

fn logged_in(begun: Begun, source: Source) -> Response {
    lines::logged_in(&begun.caller.who(), source.0);
    let body = Json(SessionBody {
        who: begun.caller.who(),
        csrf_token: csrf_token(&begun.session),
        expires_at: begun.expires_at.to_string(),
    });
    let cookie = [(header::SET_COOKIE, begun.cookie())];
    (StatusCode::CREATED, Extension(begun.caller), cookie, body).into_response()
}

/// A session that has begun.
pub(super) struct Begun {
    /// Whose it is.
    pub(super) caller: Caller,
    /// What the cookie holds.
    session: String,
    lasts: Duration,
    expires_at: UtcMillis,
}

impl Begun {
    /// The value of `Set-Cookie`.
    pub(super) fn cookie(&self) -> String {
        set_cookie(&self.session, self.lasts)
    }
}

/// Begins a session of a user as that was read. `None`: it is another one by now, or what was shown is not good any more.
pub(super) async fn begin(
    state: &ApiState,
    user: &UserRecord,
    second_factor: Option<Proof>,
) -> Result<Option<Begun>, Problem> {
    let session = hex::encode(random::<RANDOM_BYTES>()?);
    let lasts = Duration::from_secs(state.config.get().admin.session_max_s);
    let now = state.now();
    let new = NewSession {
        hash: *TokenHash::of(&session).bytes(),
        user: user.id,
        password: user.password.clone(),
        second_factor,
        created_at: now,
        expires_at: now + lasts,
    };
    if !state.store.begin_session(&new).await? {
        return Ok(None);
    }
    Ok(Some(Begun {
        caller: Caller::user(user.id.0, user.name.clone(), user.grants.clone()),
        session,
        lasts,
        expires_at: new.expires_at,
    }))
}

/// The user is kept out.
pub(super) fn disabled(name: &str) -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "user-disabled",
        "The user is disabled",
        format!("an administrator has disabled the user {name:?}, and can enable it again"),
    )
}

fn wrong() -> Problem {
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        "The name or the password is wrong",
        "the name or the password is wrong",
    )
}

/// Log out.
///
/// The session ends. Others of the user go on.
#[utoipa::path(delete, path = "/v1/session", operation_id = "log_out", tag = "access",
    responses(
        (status = 204, description = "Logged out", headers(("Set-Cookie" = String, description = "Takes the session away"))),
        (status = 409, description = "The caller has a token, and no session", body = Problem),
    ))]
pub(super) async fn log_out(
    State(state): State<ApiState>,
    credential: Credential,
) -> Result<Response, Problem> {
    let Credential::Session { hash, .. } = &credential else {
        return Err(no_session());
    };
    state.store.end_session(hash).await?;
    state.signals.news.tell();
    let gone = [(header::SET_COOKIE, set_cookie("", Duration::ZERO))];
    Ok((StatusCode::NO_CONTENT, gone).into_response())
}

/// A user's own password.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct UpdateMe {
    /// The password so far.
    #[schema(max_length = 128, format = "password")]
    old_password: String,
    /// The password from now on, 12 to 128 characters, without the name in it.
    #[schema(min_length = 12, max_length = 128, format = "password")]
    password: String,
}

/// Change one's own password.
///
/// All sessions of the user end, this one as well.
#[utoipa::path(patch, path = "/v1/me", operation_id = "update_me", tag = "access", request_body = UpdateMe,
    responses(
        (status = 204, description = "Changed: log in again"),
        (status = 409, description = "The caller has a token, and no session", body = Problem),
        (status = 422, description = "The old password is wrong, or the new one is not possible", body = Problem),
    ))]
pub(super) async fn update_me(
    State(state): State<ApiState>,
    caller: Caller,
    Extension(source): Extension<Source>,
    extract::Json(body): extract::Json<UpdateMe>,
) -> Result<Response, Problem> {
    let CallerKind::User { id, name } = caller.kind() else {
        return Err(no_session());
    };
    passwords::check(&body.password, name).map_err(|error| Problem::field("password", error))?;
    if let Err(wait_s) = state.passwords.ration_own(*id) {
        return Ok(too_many("too many attempts", wait_s));
    }
    let passwords = &state.passwords;
    let old = state.store.user(name).await?.map(|user| user.password);
    let wrong = || Problem::field("old_password", "it is wrong");
    if body.old_password.len() > 4 * passwords::LENGTH.end()
        || !passwords.is(body.old_password, old.clone()).await?
    {
        lines::log_in_failed(Some(name), source.0);
        return Err(wrong());
    }
    let hash = passwords.hash(body.password).await?;
    if !state
        .store
        .set_password(name, old.as_deref(), &hash)
        .await?
    {
        return Err(wrong()); // somebody has changed it meanwhile
    }
    state.signals.news.tell();
    Ok(StatusCode::NO_CONTENT.into_response())
}
