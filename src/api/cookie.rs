//! The cookie of a session, and the header that goes with it.

use std::time::Duration;

use axum::http::{HeaderMap, header};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

/// The cookie. Its name makes browsers insist on `Secure`, on `Path=/` and on this host (RFC 6265bis §4.1.3.2).
pub(super) const COOKIE: &str = "__Host-cellwise";
/// What changes something carries this header in a session.
pub(super) const CSRF: &str = "x-csrf-token";

/// What the header has to be: it follows from the cookie, which a page of another host cannot read.
pub(super) fn csrf_token(session: &str) -> String {
    let digest = Sha256::new().chain_update("csrf ").chain_update(session);
    hex::encode(digest.finalize())
}

/// Whether a request carries it.
pub(super) fn has_csrf_token(headers: &HeaderMap, session: &str) -> bool {
    let given = headers.get(CSRF).map_or(&[][..], |value| value.as_bytes());
    csrf_token(session).as_bytes().ct_eq(given).into()
}

/// The session that the cookies of a request name.
pub(super) fn cookie(headers: &HeaderMap) -> Option<String> {
    cookie_named(headers, COOKIE)
}

/// What the cookie of this name holds.
pub(super) fn cookie_named(headers: &HeaderMap, wanted: &str) -> Option<String> {
    let cookies = headers.get_all(header::COOKIE).iter();
    let mut pairs = cookies
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='));
    let (_, session) = pairs.find(|(name, _)| *name == wanted)?;
    Some(session.to_owned())
}

/// The value of `Set-Cookie` that gives a browser a session, or with no time takes it away.
pub(super) fn set_cookie(session: &str, lasts: Duration) -> String {
    let seconds = lasts.as_secs();
    format!("{COOKIE}={session}; Path=/; Max-Age={seconds}; Secure; HttpOnly; SameSite=Strict")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_session_is_found_among_cookies() {
        let mut headers = HeaderMap::new();
        assert_eq!(cookie(&headers), None);
        headers.append(header::COOKIE, "a=b; __Host-cellwise2=x".parse().unwrap());
        assert_eq!(cookie(&headers), None);
        headers.append(
            header::COOKIE,
            "c=d; __Host-cellwise=abc; e=f".parse().unwrap(),
        );
        assert_eq!(cookie(&headers).as_deref(), Some("abc"));
    }

    #[test]
    fn a_session_has_its_own_header() {
        let mut headers = HeaderMap::new();
        assert!(!has_csrf_token(&headers, "abc"));
        headers.insert(CSRF, csrf_token("abc").parse().unwrap());
        assert!(has_csrf_token(&headers, "abc") && !has_csrf_token(&headers, "abd"));
        headers.insert(CSRF, "abc".parse().unwrap());
        assert!(!has_csrf_token(&headers, "abc"));
    }
}
