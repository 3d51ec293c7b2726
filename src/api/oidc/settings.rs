//! What the settings say of the log-in by an identity provider, and the log-ins that are under way.

use std::{
    num::NonZeroUsize,
    sync::{Mutex, PoisonError},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use lru::LruCache;
use openssl::x509::X509;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;

use super::provider::{Asked, Provider, Setup, SetupError};
use crate::{
    access::{Grant, Role, Tenants, check_grants},
    api::problem::Problem,
    clock::UtcMillis,
    config::Config,
    filter::Filter,
    vault::{KEY_BYTES, Vault},
};

/// The path to which the provider sends browsers back.
const CALLBACK: &str = "/v1/session/oidc/callback";
/// For what it is sealed.
const PURPOSE: &str = "log-in by the identity provider";
/// Log-ins that were answered, and are answered once: those of the last minutes.
const ANSWERED: NonZeroUsize = NonZeroUsize::new(10_000).unwrap();

/// Why nobody can log in by an identity provider with these settings.
#[derive(Debug, Error)]
#[error("{setting}: {problem}")]
pub struct OidcError {
    setting: String,
    problem: String,
}

/// Files that the settings name.
#[derive(Debug, Default)]
pub struct OidcFiles {
    /// What `oidc.client_secret_file` holds.
    pub client_secret: Option<Vec<u8>>,
    /// What `oidc.ca_file` holds.
    pub authorities: Option<Vec<u8>>,
}

/// The log-in by an identity provider.
#[derive(Debug)]
pub struct Oidc {
    pub(in crate::api) provider: Provider,
    /// What each group is granted.
    grants: Vec<(String, Grant)>,
    vault: Vault,
    answered: Mutex<LruCache<[u8; 32], ()>>,
}

impl Oidc {
    /// That of the settings; `None`: they name no provider. What is under way is sealed with `key`. The provider is not asked yet.
    ///
    /// # Errors
    /// A setting is not possible.
    #[expect(clippy::too_many_lines, reason = "one setting after the other")]
    pub fn of(
        config: &Config,
        files: OidcFiles,
        key: [u8; KEY_BYTES],
    ) -> Result<Option<Self>, OidcError> {
        let oidc = &config.oidc;
        if oidc.issuer.is_empty() {
            return Ok(None);
        }
        let error = |setting: String, problem: String| OidcError { setting, problem };
        let secret = files.client_secret.map(|secret| {
            let secret = String::from_utf8(secret).ok();
            let secret = secret.map(|it| it.trim().to_owned());
            secret.filter(|it| !it.is_empty()).ok_or_else(|| {
                let setting = "oidc.client_secret_file".to_owned();
                error(setting, "it holds no text".to_owned())
            })
        });
        if let Some(pem) = &files.authorities
            && !X509::stack_from_pem(pem).is_ok_and(|found| !found.is_empty())
        {
            let problem = "there is no certificate in it; expected authorities in PEM";
            return Err(error("oidc.ca_file".to_owned(), problem.to_owned()));
        }
        let mut grants = Vec::new();
        for (at, grant) in oidc.grants.iter().enumerate() {
            let setting = |field: &str| format!("oidc.grants[{at}].{field}");
            let unknown = |field: &str, value: &str| {
                let problem = format!("there is no {field} {value:?}");
                error(setting(field), problem)
            };
            let mut roles = Role::ALL.into_iter();
            let role = roles.find(|role| role.name() == grant.role);
            let role = role.ok_or_else(|| unknown("role", &grant.role))?;
            let filter = grant.filter.as_deref().map(Filter::parse).transpose();
            let filter = filter.map_err(|problem| error(setting("filter"), problem.to_string()))?;
            let tenant = match &grant.tenant {
                None => Tenants::usual(filter.as_ref()),
                Some(name) => serde_json::from_value(name.as_str().into())
                    .map_err(|_| unknown("tenant", name))?,
            };
            let made = Grant {
                role,
                tenant,
                filter,
            };
            check_grants(std::slice::from_ref(&made))
                .map_err(|(_, problem)| error(setting("filter"), problem.to_string()))?;
            grants.push((grant.group.clone(), made));
        }
        let setup = Setup {
            issuer: oidc.issuer.clone(),
            client_id: oidc.client_id.clone(),
            client_secret: secret.transpose()?,
            authorities: files.authorities,
            redirect_uri: format!(
                "{}{CALLBACK}",
                config.admin.public_url.trim_end_matches('/')
            ),
            scopes: oidc.scopes.clone(),
            groups_claim: oidc.groups_claim.clone(),
        };
        let provider =
            Provider::new(setup).map_err(|SetupError::Setting { setting, problem }| {
                error(setting.to_owned(), problem)
            })?;
        Ok(Some(Self {
            provider,
            grants,
            vault: Vault::new(key),
            answered: Mutex::new(LruCache::new(ANSWERED)),
        }))
    }

    /// What somebody in these groups is granted, each grant once.
    pub(super) fn grants(&self, groups: &[String]) -> Vec<Grant> {
        let mut granted: Vec<Grant> = Vec::new();
        for (group, grant) in &self.grants {
            if groups.contains(group) && !granted.contains(grant) {
                granted.push(grant.clone());
            }
        }
        granted
    }

    pub(super) fn seal(&self, under_way: &UnderWay) -> Result<String, Problem> {
        // numbers and texts have a form in JSON
        let plain = serde_json::to_vec(under_way).unwrap_or_default();
        let sealed = self.vault.seal(PURPOSE, &plain);
        let sealed = sealed.map_err(|error| Problem::internal(&error))?;
        Ok(BASE64_URL_SAFE_NO_PAD.encode(sealed))
    }

    /// The log-in that a cookie holds, if it is the one that is answered with this state, for the first time, and in time.
    pub(super) fn open(&self, cookie: &str, state: &str, now: UtcMillis) -> Option<UnderWay> {
        let sealed = BASE64_URL_SAFE_NO_PAD.decode(cookie).ok()?;
        let under_way: UnderWay =
            serde_json::from_slice(&self.vault.open(PURPOSE, &sealed)?).ok()?;
        let same: bool = (under_way.asked.state.as_bytes())
            .ct_eq(state.as_bytes())
            .into();
        if !same || under_way.ends_at <= now.0 {
            return None;
        }
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        let name = Sha256::digest(&under_way.asked.state).into();
        answered.put(name, ()).is_none().then_some(under_way)
    }
}

/// A log-in whose answer has not come yet.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct UnderWay {
    pub(super) asked: Asked,
    /// Where the browser goes then.
    pub(super) to: String,
    /// When it is too late, milliseconds since 1970.
    pub(super) ends_at: i64,
}
