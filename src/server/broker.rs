//! What the broker's client needs before it connects: certificates, and the password.

use std::path::Path;

use native_tls::{Certificate, Identity, Protocol, TlsConnector};

use super::{StartError, secure};
use crate::config::BrokerConfig;

/// A certificate or key that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{setting} {path}: {problem}", path = .path.display())]
pub struct BrokerFileError {
    setting: &'static str,
    path: std::path::PathBuf,
    problem: String,
}

/// How the connection is encrypted, where it is.
pub(super) fn tls(config: &BrokerConfig) -> Result<Option<TlsConnector>, StartError> {
    if !config.tls {
        return Ok(None);
    }
    let mut builder = TlsConnector::builder();
    builder.min_protocol_version(Some(Protocol::Tlsv12));
    if !config.ca_file.as_os_str().is_empty() {
        let (setting, path) = ("mqtt.broker.ca_file", &*config.ca_file);
        let authorities = Certificate::stack_from_pem(&read(setting, path)?)
            .map_err(|error| unfit(setting, path, &error))?;
        if authorities.is_empty() {
            return Err(unfit(setting, path, &"there is no certificate in it"));
        }
        builder.disable_built_in_roots(true);
        for authority in authorities {
            builder.add_root_certificate(authority);
        }
    }
    if !config.client_certificate.as_os_str().is_empty() {
        let chain = read("mqtt.broker.client_certificate", &config.client_certificate)?;
        let (setting, path) = ("mqtt.broker.client_key", &*config.client_key);
        secure::kept_from_others(path)?;
        let identity = Identity::from_pkcs8(&chain, &read(setting, path)?)
            .map_err(|error| unfit(setting, path, &error))?;
        builder.identity(identity);
    }
    let connector = builder.build();
    let connector =
        connector.map_err(|error| super::system("speak TLS with the broker", &error))?;
    Ok(Some(connector))
}

/// The password, where there is one.
pub(super) fn password(config: &BrokerConfig) -> Result<Option<String>, StartError> {
    let path = &*config.password_file;
    if path.as_os_str().is_empty() {
        return Ok(None);
    }
    secure::kept_from_others(path)?;
    let setting = "mqtt.broker.password_file";
    let text = String::from_utf8(read(setting, path)?)
        .map_err(|_| unfit(setting, path, &"it is no UTF-8"))?;
    let password = text.lines().next().unwrap_or_default();
    if password.is_empty() {
        return Err(unfit(setting, path, &"its first line is empty"));
    }
    Ok(Some(password.to_owned()))
}

fn read(setting: &'static str, path: &Path) -> Result<Vec<u8>, StartError> {
    std::fs::read(path).map_err(|error| unfit(setting, path, &error))
}

fn unfit(setting: &'static str, path: &Path, problem: &dyn std::fmt::Display) -> StartError {
    StartError::BrokerFile(BrokerFileError {
        setting,
        path: path.to_owned(),
        problem: problem.to_string(),
    })
}
