//! Who asks: the user of whom a token speaks.
//!
//! A token is made by the integrator's identity provider, signed, and short-lived; or it was issued for one user by the admin API, and is
//! known by its digest. Either is worth nothing once its user's tokens of that time are revoked.

mod claims;
mod jws;
mod keys;
mod told;

#[cfg(test)]
pub(super) mod tests;

use std::{fs, path::Path, sync::Arc, time::Duration};

use thiserror::Error;

pub(super) use self::told::{Refused, Told};
use self::{claims::Rules, jws::Signed, keys::Keys};
use crate::{clock::UtcMillis, config::AppConfig};

/// Why a signed token was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NotTaken {
    /// It is no token for this server.
    Refused(Refused),
    /// The keys of the issuer are not there.
    NoKeys(String),
}

impl From<Refused> for NotTaken {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

/// Why tokens cannot be checked with these settings.
#[derive(Debug, Error)]
#[error("{setting}: {problem}")]
pub struct IssuerError {
    setting: &'static str,
    problem: String,
}

/// The issuer of tokens that the settings name.
#[derive(Debug)]
pub struct Issuer {
    rules: Rules,
    keys: Arc<Keys>,
}

impl Issuer {
    /// That of the settings; `None` where they name none. A URL is not asked yet.
    ///
    /// # Errors
    /// A file that they name cannot be used.
    pub fn of(config: &AppConfig) -> Result<Option<Self>, IssuerError> {
        if !config.enabled || config.issuer.is_empty() {
            return Ok(None);
        }
        let failed = |setting| move |problem| IssuerError { setting, problem };
        let named = |path: &Path| !path.as_os_str().is_empty();
        let keys = if named(&config.jwks_file) {
            Keys::of_file(&config.jwks_file).map_err(failed("app.jwks_file"))?
        } else {
            let authorities = named(&config.ca_file)
                .then(|| fs::read(&config.ca_file))
                .transpose()
                .map_err(|error| failed("app.ca_file")(error.to_string()))?;
            Keys::of_url(&config.jwks_url, authorities.as_deref()).map_err(failed("app.ca_file"))?
        };
        Ok(Some(Self {
            rules: Rules {
                issuer: config.issuer.clone(),
                audience: config.audience.clone(),
                leeway: Duration::from_secs(config.leeway_s),
                longest: Duration::from_secs(config.max_token_lifetime_s),
                user_claim: config.user_claim.clone(),
                tenant_claim: config.tenant_claim.clone(),
                homes_claim: config.homes_claim.clone(),
            },
            keys: Arc::new(keys),
        }))
    }

    /// Who a signed token speaks of.
    ///
    /// # Errors
    /// It is no token for this server at `now`, or the keys of the issuer are not there.
    pub(super) async fn told(&self, token: &str, now: UtcMillis) -> Result<Told, NotTaken> {
        let signed = Signed::parse(token)?;
        let keys = self.keys.get(now).await.map_err(NotTaken::NoKeys)?;
        let mut verified = signed.verified(&keys);
        if verified == Err(jws::Unsigned::NoKey) {
            let renewed = self.keys.renew(now).await.map_err(NotTaken::NoKeys)?;
            verified = signed.verified(&renewed);
        }
        let claims = verified.map_err(|unsigned| {
            Refused::new(match unsigned {
                jws::Unsigned::NoKey => "its issuer does not publish the key that it names (kid)",
                jws::Unsigned::Wrong => "its signature does not hold",
            })
        })?;
        Ok(self.rules.told(claims, now)?)
    }
}

/// Whether a text has the form of a signed token.
pub(super) fn is_signed(token: &str) -> bool {
    jws::is_compact(token)
}
