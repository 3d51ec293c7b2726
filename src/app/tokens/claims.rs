//! What a token says, once its signature holds: for whom it is, how long, and of whom it speaks.

use std::time::Duration;

use serde_json::{Map, Value};

use super::told::{Refused, Told};
use crate::clock::UtcMillis;

/// Homes that a token may name.
const MAX_HOMES: usize = 64;
/// Clocks differ by as much at the least: issuers tell whole seconds.
const A_SECOND: Duration = Duration::from_secs(1);
/// The last second that a time may name: the year 9999.
const LAST_SECOND: f64 = 253_402_300_799.0;

/// What a token has to say.
#[derive(Debug, Clone)]
pub(super) struct Rules {
    pub(super) issuer: String,
    pub(super) audience: String,
    pub(super) leeway: Duration,
    pub(super) longest: Duration,
    pub(super) user_claim: String,
    pub(super) tenant_claim: String,
    pub(super) homes_claim: String,
}

impl Rules {
    /// Who a token speaks of.
    pub(super) fn told(
        &self,
        claims: &Map<String, Value>,
        now: UtcMillis,
    ) -> Result<Told, Refused> {
        if text(claims, "iss") != Some(self.issuer.as_str()) {
            return Err(Refused::new("another issuer (iss) has made it"));
        }
        let for_us = match claims.get("aud") {
            Some(Value::String(one)) => *one == self.audience,
            Some(Value::Array(several)) => several.iter().any(|it| *it == self.audience.as_str()),
            _ => false,
        };
        if !for_us {
            return Err(Refused::new("it was made for somebody else (aud)"));
        }
        let no_time = |name| Refused::owned(format!("its claim {name} is missing, or is no time"));
        let ends_at = time(claims, "exp").ok_or_else(|| no_time("exp"))?;
        let issued_at = time(claims, "iat").ok_or_else(|| no_time("iat"))?;
        if claims.contains_key("nbf") {
            let begins_at = time(claims, "nbf").ok_or_else(|| no_time("nbf"))?;
            if begins_at > now + self.leeway {
                return Err(Refused::new("it is not valid yet (nbf)"));
            }
        }
        if ends_at + self.leeway <= now {
            return Err(Refused::new("it has ended (exp); ask for another one"));
        }
        if issued_at > now + self.leeway {
            return Err(Refused::new("it was made in the future (iat)"));
        }
        if ends_at < issued_at || ends_at.since(issued_at) > self.longest {
            return Err(Refused::owned(format!(
                "it lasts for longer than {} s, from iat to exp",
                self.longest.as_secs()
            )));
        }
        let named = |claim: &str| {
            let what = format!("its claim {claim} is missing, or is no text");
            text(claims, claim).ok_or(Refused::owned(what))
        };
        let tenant = match self.tenant_claim.as_str() {
            "" => None,
            claim => Some(named(claim)?.to_owned()),
        };
        let homes = match self.homes_claim.as_str() {
            "" => None,
            claim => claims.get(claim).map(homes).transpose()?,
        };
        Ok(Told {
            user: named(&self.user_claim)?.to_owned(),
            tenant,
            homes,
            issued_at: issued_at.before(self.leeway.max(A_SECOND)),
            ends_at: ends_at + self.leeway,
        })
    }
}

fn text<'c>(claims: &'c Map<String, Value>, name: &str) -> Option<&'c str> {
    claims.get(name)?.as_str().filter(|text| !text.is_empty())
}

/// A time as tokens have it: seconds since 1970, also parts of one (RFC 7519 §2).
fn time(claims: &Map<String, Value>, name: &str) -> Option<UtcMillis> {
    let seconds = claims.get(name)?.as_f64()?;
    if !(0.0..=LAST_SECOND).contains(&seconds) {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "it is in the range")]
    let millis = (seconds * 1_000.0) as i64;
    Some(UtcMillis(millis))
}

/// The homes of somebody, and the roles there: `{"h1": "owner"}` or `[{"id": "h1", "role": 0}]`, where a role is a name or a number.
fn homes(claim: &Value) -> Result<Vec<(String, Value)>, Refused> {
    const WHAT: Refused = Refused::new(
        "its claim with the homes is neither an object of homes and roles nor a list of objects with id and role",
    );
    let homes: Vec<(String, Value)> = match claim {
        Value::Object(homes) => {
            let homes = homes.iter();
            homes
                .map(|(home, role)| (home.clone(), role.clone()))
                .collect()
        }
        Value::Array(homes) => {
            let homes = homes.iter().take(MAX_HOMES + 1).map(|home| {
                let id = home.get("id")?.as_str()?;
                Some((id.to_owned(), home.get("role")?.clone()))
            });
            homes.collect::<Option<_>>().ok_or(WHAT)?
        }
        _ => return Err(WHAT),
    };
    if homes.len() > MAX_HOMES {
        return Err(Refused::new("it names more than 64 homes"));
    }
    Ok(homes)
}
