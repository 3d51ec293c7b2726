//! The listener for end users' applications.

use std::{net::SocketAddr, sync::Arc};

use tokio::{net::TcpListener, sync::watch, task};

use super::{StartError, listen_error, local_addr};
use crate::{
    api,
    app::{self, AppState, Issuer, Listeners},
    clock::SystemClock,
    config::{AppConfig, Config, Settings},
    health::{Health, Part},
    runtime::{Heard, Supervisor},
    signal::Signals,
    store::Store,
    telemetry::Metrics,
    tls::{Tls, TlsFiles},
};

/// What was bound.
pub(super) struct Bound {
    listener: TcpListener,
    pub(super) address: SocketAddr,
    pub(super) tls: Option<Tls>,
    issuer: Option<Arc<Issuer>>,
}

/// Binds what the settings name; `None` where applications are not served.
pub(super) async fn listen(config: &AppConfig) -> Result<Option<Bound>, StartError> {
    const SETTING: &str = "app.listen";
    if !config.enabled {
        return Ok(None);
    }
    let tls = Tls::of(TlsFiles::of_app(config).as_ref())?;
    let issuer = Issuer::of(config)?.map(Arc::new);
    let asked = config.listen;
    let listener = TcpListener::bind(asked).await;
    let listener = listener.map_err(|source| listen_error(asked, SETTING, source))?;
    let address = local_addr(listener.local_addr(), asked, SETTING)?;
    if !asked.ip().to_canonical().is_loopback() && tls.is_none() {
        tracing::warn!(
            %address,
            "applications reach the server without TLS, and so do their users' tokens; set app.tls_certificate and app.tls_key, or let \
             a proxy with TLS stand before it"
        );
    }
    Ok(Some(Bound {
        listener,
        address,
        tls,
        issuer,
    }))
}

/// Why applications could not be served with these settings.
pub(super) fn unfit(config: &Config) -> Vec<StartError> {
    let tls = Tls::of(TlsFiles::of_app(&config.app).as_ref()).err();
    let issuer = Issuer::of(&config.app).err();
    let tls = tls.map(StartError::from);
    tls.into_iter()
        .chain(issuer.map(StartError::from))
        .collect()
}

/// What applications are served with.
pub(super) struct Parts {
    pub(super) store: Arc<dyn Store>,
    pub(super) settings: Settings,
    pub(super) clock: SystemClock,
    pub(super) signals: Arc<Signals>,
    pub(super) heard: Arc<dyn Heard>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) stop: watch::Receiver<bool>,
}

/// Serves applications until the server stops, where they are served at all.
pub(super) fn serve(
    bound: Option<Bound>,
    parts: Parts,
    supervisor: &Supervisor,
    health: &Health,
) -> Option<task::JoinHandle<()>> {
    let Some(bound) = bound else {
        health.works(Part::App); // nobody needs it
        return None;
    };
    let Parts {
        store,
        settings,
        clock,
        signals,
        heard,
        metrics,
        stop,
    } = parts;
    let router = app::router(AppState {
        store,
        config: settings.clone(),
        clock,
        signals,
        heard,
        issuer: bound.issuer,
        listeners: Arc::new(Listeners::new(settings.clone(), metrics.clone())),
        metrics,
        looks: AppState::looks(),
        stop: stop.clone(),
    });
    let bounds = app::bounds(&settings.get());
    let work = api::serve(bound.listener, bound.tls, router, settings, bounds, stop);
    Some(supervisor.run(Part::App, work))
}
