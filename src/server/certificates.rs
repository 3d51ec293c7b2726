//! When certificates end: as figures, and in the log in good time.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use crate::{
    clock::{SystemClock, UtcMillis},
    config::Config,
    telemetry::{Metrics, Share},
    tls::{Tls, TlsError, TlsFiles, certificate_end},
};

/// Between two lines about a certificate that ends soon.
const EVERY: Duration = Duration::from_hours(24);
/// From now on it is told of: renewal by ACME is due 30 days before the end.
pub(super) const SOON: Duration = Duration::from_hours(21 * 24);

/// The certificates of the listeners for TCP, where they speak TLS.
#[derive(Clone)]
pub(super) struct Listeners {
    pub(super) admin: Option<Tls>,
    pub(super) app: Option<Tls>,
    pub(super) downloads: Option<Tls>,
    pub(super) mqtt: Option<Tls>,
}

/// Tells when certificates end.
#[derive(Clone)]
pub(super) struct CertificateEnds {
    listeners: Listeners,
    /// What the certificate of the secured port is read from.
    config: Arc<Mutex<Config>>,
    metrics: Arc<Metrics>,
    share: Arc<Mutex<Share>>,
    clock: SystemClock,
}

impl CertificateEnds {
    pub(super) fn new(
        listeners: Listeners,
        config: &Config,
        metrics: Arc<Metrics>,
        clock: SystemClock,
    ) -> Self {
        Self {
            listeners,
            config: Arc::new(Mutex::new(config.clone())),
            metrics,
            share: Arc::default(),
            clock,
        }
    }

    /// Takes what the listeners' files hold now. Tells of each whether that is something else.
    pub(super) fn renew(&self, config: &Config) -> [(&'static str, Result<bool, TlsError>); 4] {
        config.clone_into(&mut self.config.lock().unwrap_or_else(PoisonError::into_inner));
        let renew = |tls: &Option<Tls>, files: Option<TlsFiles>| match (tls, files) {
            (Some(tls), Some(files)) => tls.renew(&files, self.clock.now().utc),
            _ => Ok(false),
        };
        let Listeners {
            admin,
            app,
            downloads,
            mqtt,
        } = &self.listeners;
        let admin = renew(admin, TlsFiles::of_admin(&config.admin));
        let app = renew(app, TlsFiles::of_app(&config.app));
        let downloads = renew(downloads, TlsFiles::of_downloads(&config.download));
        let mqtt = renew(mqtt, TlsFiles::of_mqtt(&config.mqtt));
        [
            ("admin listener", admin),
            ("listener for applications", app),
            ("listener for downloads", downloads),
            ("MQTT port", mqtt),
        ]
    }

    /// Until the server stops.
    pub(super) async fn keep_telling(self, mut stop: watch::Receiver<bool>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(EVERY) => self.tell(),
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Publishes the ends, and warns of those that are near.
    pub(super) fn tell(&self) {
        let secured = {
            let config = self.config.lock().unwrap_or_else(PoisonError::into_inner);
            let file = &config.dtls.certificate_file;
            let used = config.dtls.enabled && !file.as_os_str().is_empty();
            used.then(|| certificate_end(file).ok()).flatten()
        };
        let now = self.clock.now().utc;
        let mut share = self.share.lock().unwrap_or_else(PoisonError::into_inner);
        let mut figures = self.metrics.of(&mut share);
        let seconds = |at: UtcMillis| usize::try_from(at.0 / 1_000).unwrap_or(0);
        if let Some(tls) = &self.listeners.admin {
            let at = tls.ends_at();
            figures.gauge(
                "admin_certificate_expiration_timestamp_seconds",
                "When the certificate of the admin listener ends, in seconds since 1970.",
                seconds(at),
            );
            warn("admin listener", at, now);
        }
        if let Some(tls) = &self.listeners.app {
            let at = tls.ends_at();
            figures.gauge(
                "app_certificate_expiration_timestamp_seconds",
                "When the certificate of the listener for applications ends, in seconds since 1970.",
                seconds(at),
            );
            warn("listener for applications", at, now);
        }
        if let Some(tls) = &self.listeners.downloads {
            let at = tls.ends_at();
            figures.gauge(
                "download_certificate_expiration_timestamp_seconds",
                "When the certificate of the listener for downloads ends, in seconds since 1970.",
                seconds(at),
            );
            warn("listener for downloads", at, now);
        }
        if let Some(tls) = &self.listeners.mqtt {
            let at = tls.ends_at();
            figures.gauge(
                "mqtt_certificate_expiration_timestamp_seconds",
                "When the certificate of the MQTT port ends, in seconds since 1970.",
                seconds(at),
            );
            warn("MQTT port", at, now);
        }
        if let Some(at) = secured {
            figures.gauge(
                "dtls_certificate_expiration_timestamp_seconds",
                "When the certificate of the secured port ends, in seconds since 1970.",
                seconds(at),
            );
            warn("secured port", at, now);
        }
    }
}

fn warn(whose: &str, at: UtcMillis, now: UtcMillis) {
    if at <= now {
        tracing::error!(%at, "the certificate of the {whose} has ended; put a new one in its place and send SIGHUP");
    } else if at.since(now) < SOON {
        tracing::warn!(%at, "the certificate of the {whose} ends soon; put a new one in its place and send SIGHUP");
    }
}
