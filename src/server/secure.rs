//! What the secured port needs before it can open: the credential key, the devices' keys, certificates.

use std::{fs, path::Path, sync::Arc};

use super::{StartError, bind_udp, random};
use crate::{
    config::{Config, DEMO_CREDENTIAL_KEY, DtlsConfig},
    dtls::{Certificates, Dtls, DtlsSetup, Limits, Timing},
    runtime::{Keys, SecuredSetup},
    store::Store,
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
    let file = &config.credential_key_file;
    let text = if file.as_os_str().is_empty() {
        config.credential_key.0.clone()
    } else {
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
    let key: [u8; KEY_BYTES] = key
        .and_then(|key| key.try_into().ok())
        .ok_or_else(|| StartError::NoCredentialKey(file.clone()))?;
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

/// The secured port for so many shards, with the keys of all devices.
pub(super) async fn port(
    config: &Config,
    shards: u8,
    vault: &Vault,
    store: &dyn Store,
) -> Result<(Vec<SecuredSetup>, Arc<Keys>), StartError> {
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
    let certificates = if dtls.certificate_file.as_os_str().is_empty() {
        None
    } else {
        Some(Certificates {
            chain_pem: read(&dtls.certificate_file)?,
            key_pem: read(&dtls.private_key_file)?,
            client_ca_pem: read(&dtls.client_ca_file)?,
        })
    };
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
    Ok((setups.collect(), keys))
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
    fs::read(path).map_err(|source| StartError::DataDir {
        path: path.to_owned(),
        source,
    })
}
