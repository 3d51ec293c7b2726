//! `/v1/session/oidc`: people log in by an identity provider (`OpenID` Connect Core 1.0, code flow, with PKCE).
//!
//! The browser goes to the provider with a state, a nonce and a challenge, and comes back with a code. What was sent is sealed in a cookie
//! of the browser, so that nobody else can answer in its place. Of the groups that the provider tells, a table of the settings makes
//! grants, anew with each log-in.

mod http;
pub(super) mod provider;
mod settings;

use std::time::Duration;

use axum::{
    Extension,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use serde::Deserialize;
use utoipa::IntoParams;

pub use self::settings::{Oidc, OidcError, OidcFiles};
use self::{
    provider::{Person, ProviderError},
    settings::UnderWay,
};
use super::{
    ApiState,
    audit::lines,
    cookie::cookie_named,
    extract::Query,
    middleware::too_many,
    problem::Problem,
    random::random,
    sessions::{self, begin},
    source::Source,
};
use crate::{
    access::check_grants,
    audit::Entry,
    clock::UtcMillis,
    store::{Acting, Identity, IdentityUser, UserRecord},
};

/// The cookie of a log-in that is under way. It is sent with the way back from the provider, which a cookie of a session is not.
const COOKIE: &str = "__Host-cellwise-oidc";
/// How long somebody may take at the provider.
const LASTS: Duration = Duration::from_mins(10);
/// Where a browser goes after a log-in.
const HOME: &str = "/docs/";
/// Longest path that it may go to.
const MAX_RETURN: usize = 200;
/// Longest code and state that are looked at.
const MAX_PARAMETER: usize = 4_096;
/// Longest name of a user that is made of what the provider suggests.
const MAX_NAME: usize = 50;
/// Groups that are told to somebody who has no grants.
const GROUPS_TOLD: usize = 20;

/// Where to.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Begin {
    /// The path of this host to which the browser goes after the log-in.
    #[param(
        max_length = 200,
        pattern = "^/([A-Za-z0-9._~-][A-Za-z0-9._~/?&=%-]*)?$",
        example = "/docs/"
    )]
    return_to: Option<String>,
}

/// Whether a path leads to this host, whatever a browser makes of it: `//`, `/\` and the like name another one.
fn stays_here(path: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
    let Some(rest) = path.strip_prefix('/') else {
        return false;
    };
    let mut bytes = rest.bytes();
    path.len() <= MAX_RETURN
        && bytes.next().is_none_or(plain)
        && bytes.all(|byte| plain(byte) || b"/?&=%".contains(&byte))
}

/// Begin to log in by the identity provider.
///
/// For browsers: leads to the provider, which leads back to `/v1/session/oidc/callback` within ten minutes. Attempts are rationed: 30 a minute
/// from one address, of which a log-in takes two, one here and one at its end.
#[utoipa::path(get, path = "/v1/session/oidc", operation_id = "begin_oidc", tag = "access", params(Begin),
    responses(
        (status = 303, description = "To the identity provider",
            headers(("Location" = String, description = "Where it is"), ("Set-Cookie" = String, description = "The log-in"))),
        (status = 400, description = "A parameter is unknown", body = Problem),
        (status = 409, description = "The settings name no identity provider", body = Problem),
        (status = 422, description = "A parameter is not valid", body = Problem),
        (status = 503, description = "The identity provider cannot be asked, or too many people log in at once", body = Problem),
    ))]
pub(super) async fn begin_log_in(
    State(state): State<ApiState>,
    Extension(source): Extension<Source>,
    Query(query): Query<Begin>,
) -> Result<Response, Problem> {
    let to = query.return_to.unwrap_or_else(|| HOME.to_owned());
    if !stays_here(&to) {
        let what = "give a path of this host, such as /docs/: A-Z a-z 0-9 . _ ~ - / ? & = %";
        return Err(Problem::field("return_to", what));
    }
    let oidc = state.oidc.as_ref().ok_or_else(no_provider)?;
    if let Err(wait_s) = state.passwords.ration_address(source.0) {
        return Ok(too_many("too many attempts to log in", wait_s));
    }
    let now = state.now();
    let text = || random::<32>().map(|random| BASE64_URL_SAFE_NO_PAD.encode(random));
    let (location, asked) = (oidc.provider)
        .ask((text()?, text()?), source.0, now)
        .await
        .map_err(failed)?;
    let under_way = UnderWay {
        asked,
        to,
        ends_at: (now + LASTS).0,
    };
    let cookie = set_cookie(&oidc.seal(&under_way)?, LASTS);
    let headers = [
        (header::LOCATION, location),
        (header::SET_COOKIE, cookie),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    Ok((StatusCode::SEE_OTHER, headers).into_response())
}

/// It is sent with a way back from another site, if that is a page that is gone to, and nothing in one (RFC 6265bis §5.6.7.1).
fn set_cookie(value: &str, lasts: Duration) -> String {
    let seconds = lasts.as_secs();
    format!("{COOKIE}={value}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Lax")
}

/// What the provider says. There may be more of it.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Answered {
    /// What is exchanged for a token.
    #[param(max_length = 4096, pattern = r"^[\x20-\x7e]*$")]
    code: Option<String>,
    /// Names the log-in.
    #[param(max_length = 1024, pattern = r"^[\x20-\x7e]*$")]
    state: Option<String>,
    /// Why there is no code.
    #[param(max_length = 256, pattern = r"^[\x20-\x7e]*$")]
    error: Option<String>,
    /// The same, for people.
    #[param(max_length = 1024, pattern = r"^[\x20-\x7e]*$")]
    error_description: Option<String>,
    /// Who answers (RFC 9207).
    #[param(max_length = 1024, pattern = r"^[\x20-\x7e]*$")]
    iss: Option<String>,
}

/// End a log-in by the identity provider.
///
/// To here the provider leads a browser back. The answer sets the cookie of a session, as `POST /v1/session` does, and leads to where it was
/// begun for. `GET /v1/me` tells the session's `csrf_token`.
#[utoipa::path(get, path = "/v1/session/oidc/callback", operation_id = "end_oidc", tag = "access", params(Answered),
    responses(
        (status = 200, description = "Logged in: a page that leads on", body = String, content_type = "text/html",
            headers(("Set-Cookie" = String, description = "The session"))),
        (status = 400, description = "A parameter is there twice", body = Problem),
        (status = 403, description = "The browser has not begun this log-in, or too long ago, or it was answered before; the provider refuses, or \
            what it says is not valid; no group is granted anything; or the user is disabled", body = Problem),
        (status = 409, description = "The settings name no identity provider, or there are too many users", body = Problem),
        (status = 503, description = "The identity provider cannot be asked, or too many people log in at once", body = Problem),
    ))]
pub(super) async fn end_log_in(
    State(state): State<ApiState>,
    Extension(source): Extension<Source>,
    headers: HeaderMap,
    Query(query): Query<Answered>,
) -> Result<Response, Problem> {
    let oidc = state.oidc.clone().ok_or_else(no_provider)?;
    if let Err(wait_s) = state.passwords.ration_address(source.0) {
        return Ok(too_many("too many attempts to log in", wait_s));
    }
    let now = state.now();
    let failed = |user: Option<&str>| lines::log_in_failed(user, source.0);
    let under_way = match under_way(&oidc, &headers, &query, now) {
        Ok(under_way) => under_way,
        Err(problem) => {
            failed(None);
            return Err(problem);
        }
    };
    // from here on it is answered, whatever comes of it
    let ended = finish(&state, &oidc, under_way, query, source, now).await;
    let mut response = match ended {
        Ok(response) => response,
        Err(Failure { user, problem }) => {
            failed(user.as_deref());
            problem.into_response()
        }
    };
    let gone = header_value(&set_cookie("", Duration::ZERO))?;
    response.headers_mut().append(header::SET_COOKIE, gone);
    Ok(response)
}

/// A log-in that came to nothing.
struct Failure {
    /// Whose it was, where that is known.
    user: Option<String>,
    problem: Problem,
}

impl<P: Into<Problem>> From<P> for Failure {
    fn from(problem: P) -> Self {
        Self {
            user: None,
            problem: problem.into(),
        }
    }
}

/// Lets somebody in who has come back from the provider.
async fn finish(
    state: &ApiState,
    oidc: &Oidc,
    under_way: UnderWay,
    query: Answered,
    source: Source,
    now: UtcMillis,
) -> Result<Response, Failure> {
    let person = person(oidc, &under_way, query, source, now).await?;
    let user = known(state, oidc, person, source, now).await?;
    let of_user = |problem: Problem| Failure {
        user: Some(user.name.clone()),
        problem,
    };
    if user.disabled {
        return Err(of_user(sessions::disabled(&user.name)));
    }
    let begun = begin(state, &user, None).await.map_err(of_user)?;
    let begun =
        begun.ok_or_else(|| of_user(refused("the user was changed meanwhile; log in again")))?;
    state.signals.news.tell(); // streams look whether they are permitted still
    lines::logged_in(&begun.caller.who(), source.0);
    let mut response = (StatusCode::OK, page(&under_way.to)).into_response();
    let cookie = header_value(&begun.cookie())?;
    response.headers_mut().append(header::SET_COOKIE, cookie);
    response.extensions_mut().insert(begun.caller);
    Ok(response)
}

fn header_value(text: &str) -> Result<HeaderValue, Problem> {
    let value = HeaderValue::from_str(text);
    value.map_err(|error| Problem::internal(&std::io::Error::other(error)))
}

/// A page that leads on. A redirection would still be one that the provider's site has caused, with which browsers send no cookie
/// that is `SameSite=Strict`; going on from a page of this host is not.
fn page(to: &str) -> ([(HeaderName, &'static str); 4], String) {
    // `to` stays here, and so needs an escape for `&` alone
    let to = to.replace('&', "&amp;");
    let page = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<meta http-equiv=\"refresh\" content=\"0;url={to}\">\n\
         <title>Cellwise</title>\n<p>You are logged in. <a href=\"{to}\">Go on</a></p>\n</html>\n"
    );
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::CONTENT_SECURITY_POLICY, "default-src 'none'"),
        (header::REFERRER_POLICY, "no-referrer"),
    ];
    (headers, page)
}

/// The log-in that the browser has begun and that is answered now.
fn under_way(
    oidc: &Oidc,
    headers: &HeaderMap,
    query: &Answered,
    now: UtcMillis,
) -> Result<UnderWay, Problem> {
    const UNKNOWN: &str = "this browser has not begun this log-in, or more than ten minutes ago, or it was answered before; begin anew \
        at /v1/session/oidc";
    let short = |text: &Option<String>| text.as_ref().is_none_or(|it| it.len() <= MAX_PARAMETER);
    let all = [
        &query.code,
        &query.state,
        &query.error,
        &query.error_description,
        &query.iss,
    ];
    if !all.into_iter().all(short) {
        return Err(refused("what the identity provider says is too long"));
    }
    let cookie = cookie_named(headers, COOKIE);
    let (Some(cookie), Some(named)) = (cookie, &query.state) else {
        return Err(refused(UNKNOWN));
    };
    let under_way = oidc.open(&cookie, named, now);
    under_way.ok_or_else(|| refused(UNKNOWN))
}

/// Who has logged in.
async fn person(
    oidc: &Oidc,
    under_way: &UnderWay,
    query: Answered,
    source: Source,
    now: UtcMillis,
) -> Result<Person, Problem> {
    if let Some(issuer) = &query.iss
        && issuer != oidc.provider.issuer()
    {
        return Err(refused("another identity provider answers than was asked"));
    }
    if let Some(error) = query.error {
        let more = query.error_description.unwrap_or_default();
        let what = format!("the identity provider refuses: {error} {more}");
        let printable = what.chars().filter(|c| !c.is_control()).take(500);
        return Err(refused(printable.collect::<String>().trim_end()));
    }
    let code = query.code.ok_or_else(|| refused("there is no code"))?;
    let person = (oidc.provider).person(code, &under_way.asked, source.0, now);
    person.await.map_err(failed)
}

/// The user that somebody is, with the grants of now. Who is granted nothing any more loses what was granted before, and the sessions.
async fn known(
    state: &ApiState,
    oidc: &Oidc,
    person: Person,
    source: Source,
    now: UtcMillis,
) -> Result<UserRecord, Failure> {
    // who is made a user, or is granted something else, leaves a row
    let acting = Acting::new(Entry {
        at: now,
        who: "identity-provider".to_owned(),
        source: Some(source.0.to_string()),
        operation: "end_oidc".to_owned(),
        ..Entry::default()
    });
    let identity = Identity {
        issuer: oidc.provider.issuer().to_owned(),
        subject: person.subject.clone(),
    };
    let grants = oidc.grants(&person.groups);
    if let Err((_, problem)) = check_grants(&grants) {
        let user = acting.scope(state.store.ungrant(&identity)).await?;
        if user.is_some() {
            state.signals.news.tell(); // streams look whether they are permitted still
        }
        let problem = no_grants(&person, grants.len(), &problem.to_string());
        return Err(Failure { user, problem });
    }
    let new = IdentityUser {
        name: name(&person.name),
        identity,
        grants,
        at: now,
        share: state.config.get().tenants.max_users,
    };
    let user = acting.scope(state.store.user_of_identity(&new)).await?;
    Ok(user)
}

/// A name such as users have, of what the provider suggests.
fn name(suggested: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let name: String = (suggested.chars())
        .map(|c| if plain(c) { c } else { '-' })
        .take(MAX_NAME)
        .collect();
    let name = name.trim_matches(['-', '.']);
    if name.is_empty() { "user" } else { name }.to_owned()
}

fn no_grants(person: &Person, grants: usize, problem: &str) -> Problem {
    let groups = person.groups.iter().take(GROUPS_TOLD);
    let groups: Vec<String> = groups
        .map(|group| group.chars().take(100).collect())
        .collect();
    let detail = match (grants, groups.len()) {
        (0, 0) => "the identity provider tells no group of yours; an administrator of it can add you to one that the settings of \
             Cellwise name (oidc.grants), and oidc.groups_claim names the claim"
            .to_owned(),
        (0, _) => format!(
            "none of your groups is granted anything; an administrator can grant one something in the settings (oidc.grants): {}",
            groups.join(", ")
        ),
        _ => format!("what your groups are granted is not possible together: {problem}"),
    };
    Problem::new(
        StatusCode::FORBIDDEN,
        "no-grants",
        "You are granted nothing here",
        detail,
    )
}

fn no_provider() -> Problem {
    Problem::conflict(
        "no-identity-provider",
        "There is no identity provider",
        "the settings name no identity provider (oidc.issuer); log in with a password",
    )
}

fn refused(detail: &str) -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "log-in-refused",
        "The log-in is refused",
        detail,
    )
}

fn failed(error: ProviderError) -> Problem {
    let unavailable = |name, title, detail: &str| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, name, title, detail)
    };
    match error {
        ProviderError::Refused(detail) => {
            refused(&format!("the identity provider is not believed: {detail}"))
        }
        ProviderError::Unavailable(detail) => {
            tracing::warn!(error = detail, "nobody can log in by the identity provider");
            unavailable(
                "identity-provider-unavailable",
                "The identity provider cannot be asked",
                &format!("{detail}; try again later, or log in with a password"),
            )
        }
        ProviderError::Busy => unavailable(
            "too-many-log-ins",
            "Too many people log in at once",
            "try again in a moment",
        ),
    }
}

#[cfg(test)]
mod tests;
