//! Looks a server over, beside it or in its place: what is well, what is not, and what to do.
//!
//! Nothing is changed. A port is tried by binding it, which fails where a server has it. The database is read; where a server was
//! killed, SQLite may rebuild its index of the log (`cellwise.db-shm`), which holds no data.

mod broker;
mod data;
mod ports;
mod readable;
mod system;

use std::path::Path;

use serde::Serialize;

use super::{
    data_dir,
    reached::{SET_PUBLIC_HOST, guessed},
    stored_products, unfit,
};
use crate::{
    clock::{SystemClock, UtcMillis},
    config::{Config, not_obeyed},
    server::certificates::SOON,
    tls::certificate_end,
};

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// It is well.
    Ok,
    /// The server works, and something should be looked at.
    Warning,
    /// The server does not work so, or will not.
    Error,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at, a stable word for programs.
    pub check: &'static str,
    /// How bad it is.
    pub level: Level,
    /// What it is.
    pub told: String,
    /// What to do about it; nothing where it is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Finding {
    fn ok(check: &'static str, told: impl Into<String>) -> Self {
        Self {
            check,
            level: Level::Ok,
            told: told.into(),
            advice: None,
        }
    }

    fn warning(check: &'static str, told: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            level: Level::Warning,
            advice: Some(advice.into()),
            ..Self::ok(check, told)
        }
    }

    fn error(check: &'static str, told: impl Into<String>, advice: impl Into<String>) -> Self {
        Self {
            level: Level::Error,
            ..Self::warning(check, told, advice)
        }
    }
}

/// How thoroughly it is looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thoroughness {
    /// Whether the database is checked as a whole, also whether indexes have what tables have.
    pub whole: bool,
}

/// Looks over what these settings name.
pub async fn look(config: &Config, thoroughness: Thoroughness) -> Vec<Finding> {
    let clock = SystemClock::start();
    let began = clock.now();
    let mut findings = settings(config);
    findings.extend(products(config).await);
    let server = data::server_of(&config.data_dir);
    findings.extend(data::directory(&config.data_dir, server));
    findings.extend(data::room(&config.data_dir));
    findings.extend(data::backup(&config.data_dir, began.utc));
    findings.extend(ports::all(config, server));
    findings.extend(public_host(config));
    findings.extend(broker::all(&config.mqtt).await);
    findings.extend(certificates(config, began.utc));
    findings.extend(readable::all(config, server));
    findings.extend(system::kernel(config, server));
    let (stored, newest) = data::stored(&config.data_dir, server, thoroughness).await;
    findings.extend(stored);
    findings.extend(system::clock(began, clock.now(), newest));
    findings
}

fn settings(config: &Config) -> Vec<Finding> {
    let unfit = unfit(config);
    if unfit.is_empty() {
        return vec![Finding::ok("settings", "a server may start with them")];
    }
    let advice = "change the settings, or what they name, as it says";
    unfit
        .iter()
        .map(|reason| Finding::error("settings", reason.to_string(), advice))
        .collect()
}

/// What the settings say of products and does not count. A database that cannot be read is told of by itself.
async fn products(config: &Config) -> Vec<Finding> {
    const CHECK: &str = "products";
    let Ok(Some(stored)) = stored_products(&config.data_dir).await else {
        return Vec::new();
    };
    let advice = "change the product with `cellwise product set`, or take it out of the settings";
    let findings: Vec<Finding> = not_obeyed(&config.products, &stored)
        .into_iter()
        .map(|told| Finding::warning(CHECK, told, advice))
        .collect();
    if findings.is_empty() {
        return vec![Finding::ok(
            CHECK,
            "the settings do not contradict the database",
        )];
    }
    findings
}

/// Where devices are told to fetch packages over `CoAP`.
fn public_host(config: &Config) -> Option<Finding> {
    let coap = config.coap.enabled.then_some(config.coap.listen);
    let coaps = config.dtls.enabled.then_some(config.dtls.listen);
    let told = guessed(&config.lwm2m, coap.into_iter().chain(coaps))?;
    Some(Finding::warning("public host", told, SET_PUBLIC_HOST))
}

fn certificates(config: &Config, now: UtcMillis) -> Vec<Finding> {
    let mut findings = Vec::new();
    let admin = (config.admin.has_tls())
        .then_some(("admin.tls_certificate", &*config.admin.tls_certificate));
    let app =
        (config.app.has_tls()).then_some(("app.tls_certificate", &*config.app.tls_certificate));
    let dtls = &config.dtls;
    let secured = dtls.enabled && !dtls.certificate_file.as_os_str().is_empty();
    let secured = secured.then_some(("dtls.certificate_file", &*dtls.certificate_file));
    let downloads = (config.download.https).then_some((
        "download.tls_certificate",
        &*config.download.tls_certificate,
    ));
    let mqtt = (config.mqtt.tls).then_some(("mqtt.tls_certificate", &*config.mqtt.tls_certificate));
    let broker = &config.mqtt.broker;
    let shown = config.mqtt.is_by_broker() && !broker.client_certificate.as_os_str().is_empty();
    let broker = shown.then_some((
        "mqtt.broker.client_certificate",
        &*broker.client_certificate,
    ));
    let shown = [admin, app, downloads, mqtt, broker, secured];
    for (setting, file) in shown.into_iter().flatten() {
        findings.push(certificate(setting, file, now));
    }
    if admin.is_none() && !config.admin.listen.ip().to_canonical().is_loopback() {
        findings.push(Finding::warning(
            "certificates",
            format!("the admin API is reached at {} without TLS, and so is the token", config.admin.listen),
            "set admin.tls_certificate and admin.tls_key, or let a proxy with TLS stand before it and set admin.listen to 127.0.0.1",
        ));
    }
    findings
}

fn certificate(setting: &str, file: &Path, now: UtcMillis) -> Finding {
    const CHECK: &str = "certificates";
    const RENEW: &str = "put a new one in its place, and send SIGHUP to the server";
    let at = match certificate_end(file) {
        Ok(at) => at,
        Err(problem) => {
            let told = format!("{setting} {}: {problem}", file.display());
            return Finding::error(CHECK, told, "name a certificate in PEM");
        }
    };
    let told = |verb: &str| format!("{setting} {} {verb} at {at}", file.display());
    if at <= now {
        Finding::error(CHECK, told("has ended"), RENEW)
    } else if at.since(now) < SOON {
        Finding::warning(CHECK, told("ends soon,"), RENEW)
    } else {
        Finding::ok(CHECK, told("ends"))
    }
}

#[cfg(test)]
mod tests;
