//! What the secured port needs before it can open: the credential key, the devices' keys, certificates.

use std::{fs, io, os::unix::fs::PermissionsExt as _, path::Path, sync::Arc};

use super::{StartError, bind_udp, random};
use crate::{
    api::{Oidc, OidcFiles},
    audit::Entry,
    clock::UtcMillis,
    config::{Config, DEMO_CREDENTIAL_KEY, DtlsConfig, EvidenceConfig, OidcConfig},
    dtls::{Certificates, Dtls, DtlsSetup, Limits, Timing, check_certificates},
    runtime::{Keys, SecuredSetup},
    signing::SigningKey,
    store::{Acting, Store, StoreError},
    vault::{KEY_BYTES, Vault},
};

/// Rows that are read at once.
const PAGE: u32 = 10_000;
/// Under this key of `meta` stands something sealed, to tell whether the credential key is the same as before.
const CHECK: &str = "credential_key_check";

/// Whether the credential key that everybody knows will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Real devices: it will not.
    Service,
    /// Simulated ones.
    Demo,
}

/// The vault of the configured key; `None` when none is configured, and none is needed.
pub(super) async fn vault(
    config: &DtlsConfig,
    purpose: Purpose,
    store: &dyn Store,
) -> Result<Option<Vault>, StartError> {
    let Some(key) = credential_key(config, purpose)? else {
        return Ok(None);
    };
    let vault = Vault::new(key);
    match store.meta(CHECK).await? {
        Some(sealed) if vault.open(CHECK, &sealed).is_none() => Err(StartError::OtherKey),
        Some(_) => Ok(Some(vault)),
        None => {
            let sealed = vault
                .seal(CHECK, b"")
                .map_err(|error| super::system("seal secrets", &error))?;
            store.set_meta(CHECK, &sealed).await?;
            Ok(Some(vault))
        }
    }
}

/// The configured key; `None` when there is none but the demo's, and none is needed.
fn credential_key(
    config: &DtlsConfig,
    purpose: Purpose,
) -> Result<Option<[u8; KEY_BYTES]>, StartError> {
    let file = &config.credential_key_file;
    let text = if file.as_os_str().is_empty() {
        config.credential_key.0.clone()
    } else {
        kept_from_others(file)?;
        read(file)?.trim_ascii().escape_ascii().to_string()
    };
    if text == DEMO_CREDENTIAL_KEY && purpose == Purpose::Service {
        return if config.enabled {
            Err(StartError::DemoKey)
        } else {
            Ok(None)
        };
    }
    let key = hex::decode(&text).ok();
    let key = key.and_then(|key| key.try_into().ok());
    let key = key.ok_or_else(|| StartError::NoCredentialKey(file.clone()))?;
    Ok(Some(key))
}

/// What of the settings the secured port could not open with, although each may be what it is: keys, files. Nothing is
/// opened.
pub(super) fn unfit(config: &DtlsConfig) -> Vec<StartError> {
    let key = credential_key(config, Purpose::Service).err();
    let certificates = certificates(config).and_then(|files| {
        let Some(files) = files else { return Ok(()) };
        check_certificates(&files).map_err(|error| StartError::Dtls(error.to_string()))
    });
    key.into_iter().chain(certificates.err()).collect()
}

fn certificates(dtls: &DtlsConfig) -> Result<Option<Certificates>, StartError> {
    if dtls.certificate_file.as_os_str().is_empty() {
        return Ok(None);
    }
    Ok(Some(Certificates {
        chain_pem: read(&dtls.certificate_file)?,
        key_pem: read(&dtls.private_key_file)?,
        client_ca_pem: read(&dtls.client_ca_file)?,
    }))
}

/// The key that signs exports of evidence, if one is set.
pub(super) fn signing_key(config: &EvidenceConfig) -> Result<Option<SigningKey>, StartError> {
    let file = &config.signing_key;
    if file.as_os_str().is_empty() {
        return Ok(None);
    }
    kept_from_others(file)?;
    SigningKey::from_pem(&read(file)?)
        .map(Some)
        .map_err(|error| StartError::SigningKey {
            path: file.clone(),
            problem: error.to_string(),
        })
}

/// The log-in by the identity provider of the settings, if they name one.
pub(super) fn oidc(config: &Config, key: [u8; KEY_BYTES]) -> Result<Option<Oidc>, StartError> {
    let settings = &config.oidc;
    let mut files = OidcFiles::default();
    if !settings.issuer.is_empty() {
        if !settings.client_secret_file.as_os_str().is_empty() {
            kept_from_others(&settings.client_secret_file)?;
            files.client_secret = Some(read(&settings.client_secret_file)?);
        }
        if !settings.ca_file.as_os_str().is_empty() {
            files.authorities = Some(read(&settings.ca_file)?);
        }
    }
    Ok(Oidc::of(config, files, key)?)
}

/// Takes away what identity providers have granted that the settings do not name any more, and ends the sessions: nobody tells of a change
/// there.
pub(super) async fn ungrant_others(
    config: &OidcConfig,
    store: &dyn Store,
    now: UtcMillis,
) -> Result<(), StoreError> {
    for identity in store.granted_by_others(&config.issuer).await? {
        let acting = Acting::new(Entry {
            at: now,
            who: "system".to_owned(),
            operation: "ungrant_users".to_owned(),
            why: Some("the settings do not name the identity provider (oidc.issuer)".to_owned()),
            ..Entry::default()
        });
        if let Some(user) = acting.scope(store.ungrant(&identity)).await? {
            let issuer = identity.issuer;
            tracing::warn!(
                user,
                issuer,
                "the user has lost its grants and sessions: the settings do not name its identity provider"
            );
        }
    }
    Ok(())
}

pub(super) fn kept_from_others(file: &Path) -> Result<(), StartError> {
    let metadata = fs::metadata(file).map_err(unusable(file))?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(StartError::Exposed {
            path: file.to_owned(),
            mode,
        });
    }
    Ok(())
}

/// The secured port for so many shards, with the keys of all devices.
pub(super) async fn port(
    config: &Config,
    shards: u8,
    vault: &Vault,
    store: &dyn Store,
) -> Result<(Vec<SecuredSetup>, SecuredPort), StartError> {
    let keys = Arc::new(Keys::new(vault.clone()));
    let mut after: Option<String> = None;
    loop {
        let page = store.restore_keys(after.as_deref(), PAGE).await?;
        let Some((last, _)) = page.last() else {
            break;
        };
        after = Some(last.clone());
        for (endpoint, psk) in &page {
            keys.set(endpoint, Some(psk));
        }
    }
    let dtls = &config.dtls;
    let certificates = certificates(dtls)?;
    let setup = DtlsSetup {
        keys: keys.clone(),
        certificates,
        seed: random()?,
        timing: timing(dtls),
        limits: limits(dtls),
    };
    let dtls =
        Dtls::several(&setup, shards).map_err(|error| StartError::Dtls(error.to_string()))?;
    let sockets = bind_udp(config.dtls.listen, shards, "dtls.listen")?;
    let setups = dtls.into_iter().zip(sockets).map(|(dtls, socket)| {
        let keys = keys.clone();
        SecuredSetup { dtls, socket, keys }
    });
    Ok((
        setups.collect(),
        SecuredPort {
            keys: keys.clone(),
            setup,
        },
    ))
}

/// What the secured ports of all shards have in common.
pub(super) struct SecuredPort {
    /// The keys of devices that encrypt.
    pub(super) keys: Arc<Keys>,
    setup: DtlsSetup,
}

impl SecuredPort {
    /// The files of the settings, read anew; `None` when they hold what is in use already.
    pub(super) fn renewed(
        &mut self,
        config: &DtlsConfig,
    ) -> Result<Option<Arc<DtlsSetup>>, StartError> {
        let found = certificates(config)?;
        if found == self.setup.certificates {
            return Ok(None);
        }
        if let Some(found) = &found {
            let fit = check_certificates(found);
            fit.map_err(|error| StartError::Dtls(error.to_string()))?;
        }
        self.setup.certificates = found;
        Ok(Some(Arc::new(self.setup.clone())))
    }
}

fn timing(dtls: &DtlsConfig) -> Timing {
    use std::time::Duration;
    let usual = Timing::default();
    let initial_timeout = Duration::from_millis(dtls.repeat_flight_ms);
    Timing {
        initial_timeout,
        max_timeout: usual.max_timeout.max(initial_timeout),
        handshake_deadline: Duration::from_secs(dtls.handshake_s),
        ticket_lifetime: Duration::from_secs(dtls.ticket_lifetime_s),
        ..usual
    }
}

fn limits(dtls: &DtlsConfig) -> Limits {
    Limits {
        half_open: dtls.max_half_open as usize,
        half_open_per_source: dtls.max_half_open_per_source as usize,
        ..Limits::default()
    }
    .within_memory(dtls.max_memory_mib as usize * 1024 * 1024)
}

fn read(path: &Path) -> Result<Vec<u8>, StartError> {
    fs::read(path).map_err(unusable(path))
}

fn unusable(path: &Path) -> impl FnOnce(io::Error) -> StartError {
    move |source| StartError::DataDir {
        path: path.to_owned(),
        source,
    }
}

#[cfg(test)]
mod tests;
