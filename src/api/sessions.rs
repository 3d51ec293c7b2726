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
    extract,
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

/// Who logs in.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LogIn {
    /// The name.
    #[schema(max_length = 64, example = "anna")]
    name: String,
    /// The password.
    #[schema(max_length = 128, format = "password")]
    password: String,
    /// The second factor, where the user has one: what the user's device shows, or a recovery code.
    #[schema(max_length = 32, example = "123456")]
    code: Option<String>,
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
/// The answer sets the cookie `__Host-cellwise`, which browsers take over TLS, and from the machine itself. Attempts are rationed: 10 a
/// minute for one user, 30 from one address. A user with a second factor gives `code` too; without it the answer is 401 with the problem
/// `code-needed`.
#[utoipa::path(post, path = "/v1/session", operation_id = "log_in", tag = "access", request_body = LogIn,
    responses(
        (status = 201, description = "Logged in", body = SessionBody,
            headers(("Set-Cookie" = String, description = "The session"))),
        (status = 401, description = "The name, the password or the code is wrong, or a code is needed", body = Problem),
        (status = 403, description = "The user is disabled", body = Problem),
        (status = 409, description = "The credential key is not set with which the second factor was stored", body = Problem),
        (status = 503, description = "Too many people log in at once, or the database is not available", body = Problem),
    ))]
#[expect(clippy::too_many_lines, reason = "one check after the other")]
pub(super) async fn log_in(
    State(state): State<ApiState>,
    Extension(source): Extension<Source>,
    extract::Json(body): extract::Json<LogIn>,
) -> Result<Response, Problem> {
    // longer ones are nobody's, and not worth the work
    let plausible =
        body.name.len() <= 64 && passwords::LENGTH.contains(&body.password.chars().count());
    if !plausible {
        return Ok(wrong());
    }
    if let Err(wait_s) = state.passwords.ration(&body.name, source.0) {
        lines::log_in_failed(None, source.0);
        return Ok(too_many("too many attempts to log in", wait_s));
    }
    let user = state.store.user(&body.name).await?;
    // who logs in by an identity provider has no password
    let hash = user.as_ref().map(|user| user.password.clone());
    let hash = hash.filter(|hash| !hash.is_empty());
    let fits = state.passwords.is(body.password, hash).await?;
    let user = match user {
        Some(user) if fits => user,
        known => {
            lines::log_in_failed(known.as_ref().map(|user| &*user.name), source.0);
            return Ok(wrong());
        }
    };
    if user.disabled {
        lines::log_in_failed(Some(&user.name), source.0);
        return Err(disabled(&user.name));
    }
    let (mut shown, mut rationed) = (None, false);
    if user.totp.is_some() {
        let Some(code) = body.code else {
            lines::log_in_failed(Some(&user.name), source.0);
            return Err(second_factor::code_needed());
        };
        rationed = second_factor::is_guessable(&code);
        if rationed
            && let Err(wait_s) = state
                .passwords
                .ration_code(user.id.0, state.clock.now().instant)
        {
            lines::log_in_failed(Some(&user.name), source.0);
            return Ok(too_many("too many codes", wait_s));
        }
        shown = second_factor::proof(&state, &user, &code)?;
        if shown.is_none() {
            lines::log_in_failed(Some(&user.name), source.0);
            return Err(second_factor::code_wrong());
        }
    }
    let recovered = matches!(shown, Some(Proof::Recovery(_)));
    let Some(begun) = begin(&state, &user, shown).await? else {
        lines::log_in_failed(Some(&user.name), source.0);
        return match user.totp {
            // it was used before, as far as can be told
            Some(_) => Err(second_factor::code_wrong()),
            None => Ok(wrong()),
        };
    };
    if rationed {
        state
            .passwords
            .code_was_right(user.id.0, state.clock.now().instant);
    }
    if recovered {
        lines::recovery_code_used(&begun.caller.who(), source.0);
    }
    lines::logged_in(&begun.caller.who(), source.0);
    let body = Json(SessionBody {
        who: begun.caller.who(),
        csrf_token: csrf_token(&begun.session),
        expires_at: begun.expires_at.to_string(),
    });
    let cookie = [(header::SET_COOKIE, begun.cookie())];
    Ok((StatusCode::CREATED, Extension(begun.caller), cookie, body).into_response())
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

fn wrong() -> Response {
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        "The name or the password is wrong",
        "the name or the password is wrong",
    )
    .into_response()
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
