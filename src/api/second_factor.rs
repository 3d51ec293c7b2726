//! `/v1/me/totp`: the second factor of people, a code that changes with the time (TOTP, RFC 6238).
//!
//! The secret is kept sealed for its user, as the devices' keys are. A code is good within its half minute and in those before and after
//! it, and is used once. Recovery codes stand for it where the device is lost.

mod codes;

use axum::{
    Json,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use self::codes::{
    RECOVERY_CODES, SECRET_BYTES, is_time_code, new_recovery_code, no_vault, purpose,
    recovery_hash, step, totp,
};
pub(super) use self::codes::{is_guessable, proof};
use super::{
    ApiState,
    admitted::no_session,
    audit::lines,
    extract::{self, Path},
    middleware::too_many,
    passwords,
    problem::Problem,
    random::random,
    source::Source,
    users,
};
use crate::{
    access::{Caller, CallerKind, Grant, Scope},
    config::AdminConfig,
    store::UserRecord,
    vault::Vault,
};

/// Whether nothing may be done in a session of this user but to set up a second factor.
pub(super) fn has_to_enrol(user: &UserRecord, admin: &AdminConfig) -> bool {
    let named = |grant: &Grant| {
        let mut roles = admin.totp_required_roles.iter();
        roles.any(|role| role == grant.role.name())
    };
    // the identity provider sees to that
    user.identity.is_none()
        && user.totp.is_none()
        && (user.second_factor_required || user.grants.iter().any(named))
}

/// A code is wanted for the log-in.
pub(super) fn code_needed() -> Problem {
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "code-needed",
        "A second factor is needed",
        "what else was given is right; give `code` too, which the user's device shows, or a recovery code",
    )
}

/// The code of a log-in is not good.
pub(super) fn code_wrong() -> Problem {
    Problem::new(
        StatusCode::UNAUTHORIZED,
        "code-wrong",
        "The code is wrong",
        "the code is not of this minute, or was used before: wait for the next one; a recovery code can be used once",
    )
}

/// How somebody stands with the second factor.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SecondFactorBody {
    /// A log-in needs it.
    enrolled: bool,
    /// Nothing else may be done before it is there.
    required: bool,
    /// Recovery codes that are left.
    recovery_codes: u32,
}

impl SecondFactorBody {
    /// That of a user; `None`: the user has gone, or the identity provider takes care of it.
    pub(super) async fn of(state: &ApiState, name: &str) -> Result<Option<Self>, Problem> {
        let Some(user) = state.store.user(name).await? else {
            return Ok(None);
        };
        if user.identity.is_some() {
            return Ok(None);
        }
        let admin = &state.config.get().admin;
        Ok(Some(Self {
            required: has_to_enrol(&user, admin),
            enrolled: user.totp.is_some(),
            recovery_codes: state.store.recovery_codes(user.id).await?,
        }))
    }
}

/// Who sets up a second factor.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EnrolTotp {
    /// The password.
    #[schema(max_length = 128, format = "password")]
    password: String,
}

/// A secret that its user has still to confirm.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EnrolledTotp {
    /// The secret in base32, for typing.
    #[schema(example = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP")]
    secret: String,
    /// The same as a URI, mostly shown as a QR code. Neither is shown again.
    #[schema(
        example = "otpauth://totp/Cellwise:anna?secret=JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP&issuer=Cellwise"
    )]
    uri: String,
}

/// The user who asks in a session, with the right password, as often as is permitted.
async fn known_by_password(
    state: &ApiState,
    caller: &Caller,
    password: String,
    source: Source,
) -> Result<Result<UserRecord, Response>, Problem> {
    let CallerKind::User { id, name } = caller.kind() else {
        return Err(no_session());
    };
    if let Err(wait_s) = state.passwords.ration_own(*id) {
        return Ok(Err(too_many("too many attempts", wait_s)));
    }
    let user = state.store.user(name).await?;
    let hash = user.as_ref().map(|user| user.password.clone());
    let plausible = passwords::LENGTH.contains(&password.chars().count());
    match user {
        Some(user) if plausible && state.passwords.is(password, hash).await? => Ok(Ok(user)),
        _ => {
            lines::log_in_failed(Some(name), source.0);
            Err(Problem::field("password", "it is wrong"))
        }
    }
}

/// Begin to set up a second factor.
///
/// Answers a secret for a device that makes codes (RFC 6238: SHA-1, 6 digits, 30 s). It counts when `POST /v1/me/totp/confirm` has one of its codes.
/// This takes no `Idempotency-Key`.
#[utoipa::path(post, path = "/v1/me/totp", operation_id = "enrol_totp", tag = "access", request_body = EnrolTotp,
    responses(
        (status = 201, description = "To be confirmed", body = EnrolledTotp),
        (status = 409, description = "The user has a second factor already, the server has no key to store its secret with, or the caller \
            has a token and no session", body = Problem),
        (status = 422, description = "The password is wrong", body = Problem),
    ))]
pub(super) async fn enrol(
    State(state): State<ApiState>,
    caller: Caller,
    axum::Extension(source): axum::Extension<Source>,
    extract::Json(body): extract::Json<EnrolTotp>,
) -> Result<Response, Problem> {
    let user = match known_by_password(&state, &caller, body.password, source).await? {
        Ok(user) => user,
        Err(response) => return Ok(response),
    };
    if user.totp.is_some() {
        return Err(there_already());
    }
    let vault: &Vault = state.vault.as_ref().ok_or_else(no_vault)?;
    let secret = random::<SECRET_BYTES>()?;
    let totp = totp(&secret, &user.name).map_err(|error| Problem::internal(&error))?;
    let uri = totp.to_url().map_err(|error| Problem::internal(&error))?;
    let sealed = vault.seal(&purpose(user.id), &secret);
    let sealed = sealed.map_err(|error| Problem::internal(&error))?;
    if !state.store.enrol(user.id, &sealed).await? {
        return Err(there_already());
    }
    let secret = totp.secret().to_base32();
    Ok((StatusCode::CREATED, Json(EnrolledTotp { secret, uri })).into_response())
}

fn there_already() -> Problem {
    Problem::conflict(
        "second-factor-there",
        "The user has a second factor",
        "the user has a second factor already; remove it first (POST /v1/me/totp/remove)",
    )
}

fn not_there(detail: &str) -> Problem {
    let title = "There is no such second factor";
    Problem::conflict("no-second-factor", title, detail)
}

/// A code of the secret that is to be confirmed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ConfirmTotp {
    /// What the device shows.
    #[schema(pattern = "^[0-9]{6}$", example = "123456")]
    code: String,
}

/// What stands for the second factor where the device is lost.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct RecoveryCodes {
    /// Each is good once, in place of a code. They are not shown again.
    #[schema(example = json!(["mzxw-6ytb-oi3d-gnrt"]))]
    recovery_codes: Vec<String>,
}

/// Confirm a second factor.
///
/// From now on a log-in needs a code. Sessions go on. The answer is not kept for its `Idempotency-Key`.
#[utoipa::path(post, path = "/v1/me/totp/confirm", operation_id = "confirm_totp", tag = "access", request_body = ConfirmTotp,
    responses(
        (status = 200, description = "It counts", body = RecoveryCodes),
        (status = 409, description = "There is nothing to be confirmed, or the caller has a token and no session", body = Problem),
        (status = 422, description = "The code is wrong", body = Problem),
    ))]
pub(super) async fn confirm(
    State(state): State<ApiState>,
    caller: Caller,
    extract::Json(body): extract::Json<ConfirmTotp>,
) -> Result<Response, Problem> {
    let CallerKind::User { id, name } = caller.kind() else {
        return Err(no_session());
    };
    if let Err(wait_s) = state.passwords.ration_own(*id) {
        return Ok(too_many("too many attempts", wait_s));
    }
    let nothing = || not_there("nothing is to be confirmed; begin by POST /v1/me/totp");
    let user = state.store.user(name).await?.ok_or_else(nothing)?;
    let pending = user.totp_pending.as_ref().ok_or_else(nothing)?;
    let step = if is_time_code(&body.code) {
        step(pending, &user, &body.code, &state)?
    } else {
        None
    };
    let step = step.ok_or_else(|| {
        let detail = "it is wrong; is the clock of the device that makes codes right?";
        Problem::field("code", detail)
    })?;
    let codes = (0..RECOVERY_CODES).map(|_| new_recovery_code());
    let codes = codes.collect::<Result<Vec<_>, _>>()?;
    let hashes: Vec<[u8; 32]> = (codes.iter())
        .filter_map(|code| recovery_hash(user.id, code))
        .collect();
    let confirmed = (state.store).confirm_second_factor(user.id, pending, step, &hashes);
    if !confirmed.await? {
        return Err(nothing());
    }
    state.signals.news.tell();
    let body = RecoveryCodes {
        recovery_codes: codes,
    };
    Ok(Json(body).into_response())
}

/// Who takes the own second factor away.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RemoveTotp {
    /// The password.
    #[schema(max_length = 128, format = "password")]
    password: String,
    /// A code, or a recovery code.
    #[schema(max_length = 32, example = "123456")]
    code: String,
}

/// Remove one's own second factor.
///
/// Its recovery codes go with it. This takes no `Idempotency-Key`.
#[utoipa::path(post, path = "/v1/me/totp/remove", operation_id = "remove_totp", tag = "access", request_body = RemoveTotp,
    responses(
        (status = 204, description = "Removed"),
        (status = 409, description = "The user has none, or the caller has a token and no session", body = Problem),
        (status = 422, description = "The password or the code is wrong", body = Problem),
    ))]
pub(super) async fn remove(
    State(state): State<ApiState>,
    caller: Caller,
    axum::Extension(source): axum::Extension<Source>,
    extract::Json(body): extract::Json<RemoveTotp>,
) -> Result<Response, Problem> {
    let user = match known_by_password(&state, &caller, body.password, source).await? {
        Ok(user) => user,
        Err(response) => return Ok(response),
    };
    if user.totp.is_none() {
        return Err(not_there("the user has no second factor"));
    }
    let rationed = is_guessable(&body.code);
    if rationed
        && let Err(wait_s) = state
            .passwords
            .ration_code(user.id.0, state.clock.now().instant)
    {
        return Ok(too_many("too many codes", wait_s));
    }
    let wrong = || Problem::field("code", "it is wrong, or was used before");
    let Some(proof) = proof(&state, &user, &body.code)? else {
        lines::log_in_failed(Some(&user.name), source.0);
        return Err(wrong());
    };
    let removed = (state.store).remove_second_factor(&user.name, None, Some(&proof));
    if !removed.await? {
        return Err(wrong());
    }
    if rationed {
        state
            .passwords
            .code_was_right(user.id.0, state.clock.now().instant);
    }
    state.signals.news.tell();
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Remove a user's second factor.
///
/// For a user whose device and recovery codes are lost. The next log-in needs the password alone; where a second factor is required,
/// the user sets up another one then.
#[utoipa::path(delete, path = "/v1/users/{name}/totp", operation_id = "remove_user_totp", tag = "access",
    params(("name" = String, Path, description = "The name")),
    responses(
        (status = 204, description = "Removed"),
        (status = 404, description = "There is no such user, or the user has no second factor", body = Problem),
    ))]
pub(super) async fn remove_of_user(
    State(state): State<ApiState>,
    scope: Scope,
    Path(name): Path<String>,
) -> Result<StatusCode, Problem> {
    let user = users::known(&state, &scope, &name).await?;
    let seen = users::as_seen(&scope, &user);
    if (state.store.remove_second_factor(&name, seen, None)).await? {
        state.signals.news.tell();
        return Ok(StatusCode::NO_CONTENT);
    }
    let detail = format!("the user {name:?} has no second factor");
    Err(Problem::not_found(detail))
}
