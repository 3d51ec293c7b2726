//! Wires everything together: [`Server::start`] opens the data directory, brings back the state of
//! before the restart, and starts the device side, the committer, the rollout and the admin API.

mod app;
mod asking;
mod audit_key;
mod automatic;
pub mod backup;
mod broker;
mod certificates;
mod data_dir;
pub mod doctor;
mod downloads;
mod forgetting;
mod mqtt;
mod products;
mod reached;
mod secure;
mod tenant_figures;
mod time;
mod upkeep;

use std::{
    fs::File,
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use broker::BrokerFileError;
use certificates::{CertificateEnds, Listeners};
use metrics_exporter_prometheus::PrometheusHandle;
use mqtt::{Mqtt, MqttParts};
pub use products::stored_products;
use reached::reached;
pub use secure::Purpose;
use secure::SecuredPort;
use tenant_figures::TenantFigures;
use thiserror::Error;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task,
};
use upkeep::Upkeep;

use crate::{
    api::{self, ApiState, Bounds, Cursors, Evidence, OidcError, TokenError, TokenHash},
    app::IssuerError,
    clock::SystemClock,
    config::{AdminConfig, Config, MOST_SHARDS, RegistrationPolicy, Settings},
    console,
    download::{Downloads, DownloadsSetup},
    engine::{Engine, Reached, Setup},
    grants::Grants,
    health::{Health, Part},
    ledger::{Deadline, DeviceIds},
    notify::{Dispatcher, DispatcherSetup, Instance},
    runtime::{
        AuditTrail, Exchange, Forecasts, Machine, Outlet, PackageCache, Rollout, RolloutSetup,
        SecuredSetup, Shards, ShardsSetup, Supervisor, bind, keep_audit, keep_series, restore_busy,
        restore_rules, restore_shares,
    },
    session::Gate,
    signal::Signals,
    store::{
        FileError, ImportProductsError, OpenError, PackageFiles, SqliteStore, Store, StoreError,
    },
    strangers::Strangers,
    telemetry::{self, Metrics, Traces, TracesError},
    tls::{Tls, TlsError, TlsFiles},
    vault::{KEY_BYTES, SecretFileError, Vault},
};

/// Written to the data directory once the server can be reached: where it listens, as JSON.
pub const LISTENING_FILE: &str = "listening.json";
/// A server that is told to stop is gone after this, whatever hangs.
const STOP_WITHIN: Duration = Duration::from_secs(8);

/// Why a server does not start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The data directory.
    #[error("cannot use {path}: {source}; check its owner, its mode and the space left")]
    DataDir {
        /// The file or directory.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A full disk.
    #[error(
        "{} has {mib} MiB of free space, and the server needs {least_mib} MiB at the least beside what it has stored; make \
         room, or set another data_dir", .path.display()
    )]
    NoRoom {
        /// The data directory.
        path: PathBuf,
        /// What is free, MiB.
        mib: u64,
        /// What is needed, MiB.
        least_mib: u64,
    },
    /// Others on this machine may read a secret.
    #[error("{} may be read or written by others (mode {mode:04o}): run chmod 600 {}", .path.display(), .path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// Another server.
    #[error("another server uses {0}; stop it first, or set another data_dir")]
    InUse(PathBuf),
    /// A restore that broke off.
    #[error("{} holds a part of a backup: a restore broke off; empty it and restore anew (docs/backups.md)", .0.display())]
    HalfRestored(PathBuf),
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// More products than may be.
    #[error(transparent)]
    Products(#[from] ImportProductsError),
    /// The package files.
    #[error(transparent)]
    Files(#[from] FileError),
    /// The operator's token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// A secret in a file of its own.
    #[error(transparent)]
    SecretFile(#[from] SecretFileError),
    /// Everybody knows the demo's key.
    #[error(
        "dtls.credential_key is the demo's, which everybody knows; make one of your own with `openssl rand -hex 32` \
         and give it as CELLWISE_DTLS__CREDENTIAL_KEY, or in dtls.credential_key_file"
    )]
    DemoKey,
    /// No key in the file.
    #[error(
        "dtls.credential_key_file {0} holds no key: 32 bytes in hexadecimal; `openssl rand -hex 32` makes one"
    )]
    NoCredentialKey(PathBuf),
    /// A key that cannot sign.
    #[error("evidence.signing_key {}: {problem}", .path.display())]
    SigningKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The identity provider.
    #[error(transparent)]
    Oidc(#[from] OidcError),
    /// The issuer of applications' tokens.
    #[error(transparent)]
    Issuer(#[from] IssuerError),
    /// The keys in the database were sealed with another one.
    #[error(
        "the devices' keys were stored with another credential key; start with that one, which cannot be recovered \
         from the database"
    )]
    OtherKey,
    /// The collector of traces.
    #[error(transparent)]
    Traces(#[from] TracesError),
    /// Certificates, limits.
    #[error("the secured port cannot be opened: {0}; see the settings under dtls")]
    Dtls(String),
    /// A listener's certificate and key.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// What the broker's client needs.
    #[error(transparent)]
    BrokerFile(#[from] BrokerFileError),
    /// Devices could not use it.
    #[error("download.base_url {url}: {problem}; it is as https://updates.example.com:8443")]
    BaseUrl {
        /// The setting.
        url: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A listening address.
    #[error("cannot listen on {address} ({setting}): {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The setting that names it.
        setting: &'static str,
        /// The system's answer.
        source: io::Error,
    },
    /// Threads, randomness, and the like.
    #[error("the system does not give what is needed to {doing}: {reason}")]
    System {
        /// What it is needed for.
        doing: &'static str,
        /// The system's answer.
        reason: String,
    },
}

/// A running server.
pub struct Server {
    /// Where devices that do not encrypt reach it.
    pub coap_addr: Option<SocketAddr>,
    /// Where devices that do reach it.
    pub dtls_addr: Option<SocketAddr>,
    /// Where devices over MQTT reach it that do not encrypt.
    pub mqtt_addr: Option<SocketAddr>,
    /// Where devices over MQTT reach it that do.
    pub mqtts_addr: Option<SocketAddr>,
    /// Where operators reach it.
    pub admin_addr: SocketAddr,
    /// Where end users' applications reach it.
    pub app_addr: Option<SocketAddr>,
    /// Where devices download over HTTP.
    pub http_addr: Option<SocketAddr>,
    /// Where devices download over HTTPS.
    pub https_addr: Option<SocketAddr>,
    grants: Arc<Grants>,
    downloads: Downloads,
    downloading: task::JoinHandle<()>,
    store: SqliteStore,
    trail: Arc<AuditTrail>,
    clock: SystemClock,
    shards: Shards,
    supervisor: Supervisor,
    deaths: mpsc::UnboundedReceiver<Part>,
    rollout: task::JoinHandle<()>,
    dispatcher: task::JoinHandle<()>,
    api: task::JoinHandle<()>,
    app: Option<task::JoinHandle<()>>,
    /// Those that the operator gave last, as far as they are in effect.
    settings: Settings,
    secured: Option<SecuredPort>,
    mqtt: Option<Mqtt>,
    certificates: CertificateEnds,
    signals: Arc<Signals>,
    metrics: Arc<Metrics>,
    traces: Option<Traces>,
    stop: watch::Sender<bool>,
    _lock: File,
}

impl Server {
    /// Starts a server with its state in `config.data_dir`.
    #[expect(
        clippy::too_many_lines,
        reason = "the parts of a server, in the order in which they start"
    )]
    pub async fn start(config: Config, purpose: Purpose) -> Result<Self, StartError> {
        let kept = Kept::open(&config).await?;
        let config = Arc::new(products::with_stored(config, &*kept.database).await?);
        let clock = SystemClock::start();
        let (database, files) = (kept.database, kept.files);
        let vault = open_vault(&config, purpose, &*database).await?;
        let signing_key = secure::signing_key(&config.evidence)?;
        let oidc = secure::oidc(&config, kept_secret(&*database, "oidc_key").await?)?;
        secure::ungrant_others(&config.oidc, &*database, clock.now().utc).await?;
        let revision = database.restore_revision().await?;
        let count = shard_count(&config);
        let ports = Ports::open(&config, count, vault.as_ref(), &*database).await?;
        let tls = Tls::of(TlsFiles::of_admin(&config.admin).as_ref())?;
        let traces = Traces::start(&config.telemetry)?;
        let (admin, admin_addr) = listen_to_operators(&config.admin).await?;
        let applications = app::listen(&config.app).await?;
        let app_addr = applications.as_ref().map(|it| it.address);
        let app_tls = applications.as_ref().and_then(|it| it.tls.clone());
        let grants = Arc::new(Grants::default());
        let bound = downloads::listen(&config.download, &grants)?;

        let ids = DeviceIds::new(kept_secret(&*database, "token_key").await?);
        let addresses = (ports.coap_addr, ports.dtls_addr);
        let reached = reached(&config.lwm2m, addresses, bound.links.clone());
        let mut engines = new_engines(&config, count, &ids, clock, &reached)?;
        let mqtt_ids = ids.clone();
        let (exchange, ends) = if config.mqtt.is_on() {
            let token_key = kept_secret(&*database, "download_key").await?;
            engines.push(mqtt_engine(&config, &ids, token_key, &grants, clock).into());
            Exchange::with_mqtt(ids, count)
        } else {
            Exchange::new(ids, count)
        };
        let mut packages = PackageCache::new(database.clone(), files.clone());
        let mut gate = Gate::new(&config.admission);
        let learnt = database.restore_learnt().await?;
        gate.restore(&learnt);
        for engine in &mut engines {
            engine.restore_learnt(&learnt);
        }
        restore_busy(&mut engines, &exchange, clock, &*database, &mut packages).await?;

        restore_shares(&mut gate, clock, &*database).await?;
        let lane_revisions = restore_rules(&mut gate, clock, &*database).await?;

        let health = Arc::new(Health::starting());
        let (supervisor, deaths) = Supervisor::new(health.clone());
        let settings = Settings::new(config.clone());
        let metrics = Arc::new(Metrics::new().map_err(|error| system("make metrics", &error))?);
        let strangers = Arc::new(Strangers::new(clock));
        let signals = Arc::new(Signals::default());
        grants.watch(exchange.clone());
        let heard_of = exchange.clone();
        let mqtt = mqtt::start(MqttParts {
            config: &config.mqtt,
            vault: vault.clone(),
            ids: mqtt_ids,
            store: &*database,
            sink: Some(Box::new(move |news| heard_of.hear_of(news))),
            clock,
            strangers: strangers.clone(),
            metrics: metrics.clone(),
        })
        .await?;
        let shards = Shards::start(ShardsSetup {
            engines,
            outlet: Outlet {
                mqtt: mqtt.as_ref().map(|it| it.port.clone()),
                grants: grants.clone(),
            },
            plain: ports.plain,
            secured: ports.secured,
            exchange: exchange.clone(),
            ends,
            gate,
            clock,
            store: database.clone(),
            writer: u64::from_be_bytes(random()?),
            signals: signals.clone(),
            health: health.clone(),
            supervisor: supervisor.clone(),
            strangers: strangers.clone(),
            metrics: metrics.clone(),
        })
        .map_err(|error| system("start the device side", &error))?;
        let device_side = exchange.clone();
        settings.follow(move |config| device_side.configure(config));
        let (stop, told_to_stop) = watch::channel(false);
        let rollout = Rollout::new(RolloutSetup {
            store: database.clone(),
            exchange: exchange.clone(),
            keys: ports.port.as_ref().map(|port| port.keys.clone()),
            mqtt: (mqtt.as_ref()).map(|it| (it.identities.clone(), it.port.clone())),
            clock,
            signals: signals.clone(),
            health: health.clone(),
            open: config.lwm2m.registration == RegistrationPolicy::Open,
            soak_wait: Deadline::DeviceHeard.duration(&config.upgrade),
            revision,
            lane_revisions,
            join_interval: Duration::from_secs(config.tasks.join_interval_s),
            packages,
        });
        let rollout = supervisor.run(Part::Rollout, rollout.run(told_to_stop.clone()));
        let instance = Instance::new(&kept_secret(&*database, "instance").await?);
        let cursors = Cursors::new(kept_secret(&*database, "cursor_key").await?);
        let dispatcher = Dispatcher::new(DispatcherSetup {
            store: database.clone(),
            config: settings.clone(),
            signals: signals.clone(),
            clock,
            instance: instance.clone(),
            vault: vault.clone(),
        })
        .map_err(|error| system("post to webhooks", &error))?;
        let dispatcher = supervisor.run(Part::Webhooks, dispatcher.run(told_to_stop.clone()));
        let forecasts = Forecasts::new(
            database.clone(),
            settings.clone(),
            clock,
            told_to_stop.clone(),
        );
        tokio::spawn(keep_series(
            database.clone(),
            forecasts.clone(),
            clock,
            told_to_stop.clone(),
        ));
        let trail = kept.trail;
        tokio::spawn(keep_audit(
            trail.clone(),
            database.clone(),
            settings.clone(),
            clock,
            told_to_stop.clone(),
        ));
        tokio::spawn(downloads::digest_earlier(
            database.clone(),
            files.clone(),
            told_to_stop.clone(),
        ));
        let (downloads, serve_downloads) = Downloads::start(DownloadsSetup {
            listeners: bound.listeners,
            grants: grants.clone(),
            files: files.clone(),
            settings: settings.clone(),
            clock,
            metrics: metrics.clone(),
            stop: told_to_stop.clone(),
        })
        .map_err(|error| system("serve downloads", &error))?;
        let downloading = supervisor.run(Part::Downloads, serve_downloads);
        let figures = TenantFigures::new(database.clone(), settings.clone(), metrics.clone());
        tokio::spawn(figures.keep_telling(told_to_stop.clone()));
        let of_app = app::Parts {
            store: database.clone(),
            settings: settings.clone(),
            clock,
            signals: signals.clone(),
            heard: exchange.clone(),
            metrics: metrics.clone(),
            stop: told_to_stop.clone(),
        };
        let app = app::serve(applications, of_app, &supervisor, &health);
        tokio::spawn(forgetting::keep_forgetting(
            database.clone(),
            settings.clone(),
            clock,
            told_to_stop.clone(),
        ));
        tokio::spawn(asking::keep_asking(
            database.clone(),
            clock,
            signals.clone(),
            told_to_stop.clone(),
        ));
        tokio::spawn(automatic::keep_starting(
            database.clone(),
            clock,
            signals.clone(),
            told_to_stop.clone(),
        ));
        let of_console = console::Parts {
            settings: settings.clone(),
            clock,
            signals: signals.clone(),
            stop: told_to_stop.clone(),
        };
        let state = ApiState {
            trail: trail.clone(),
            forecasts,
            store: database,
            files,
            config: settings.clone(),
            clock,
            token: kept.token,
            passwords: Arc::default(),
            links: Arc::default(),
            oidc: oidc.map(Arc::new),
            vault,
            cursors,
            products: Arc::default(),
            signals: signals.clone(),
            instance: Arc::new(instance),
            evidence: Arc::new(Evidence::new(signing_key, &config.data_dir)),
            audit_exports: Arc::default(),
            streams: Arc::default(),
            stop: told_to_stop.clone(),
            health,
            heard: exchange.clone(),
            lanes: exchange,
            strangers,
            traces: traces.clone(),
            metrics: metrics.handle(),
        };
        let router = api::router_with(state, |operations| console::router(of_console, operations));
        let listeners = Listeners {
            admin: tls.clone(),
            app: app_tls,
            downloads: bound.tls,
            mqtt: mqtt.as_ref().and_then(|it| it.tls.clone()),
        };
        let certificates = CertificateEnds::new(listeners, &config, metrics.clone(), clock);
        certificates.tell();
        tokio::spawn(certificates.clone().keep_telling(told_to_stop.clone()));
        let upkeep = Upkeep::new(config.data_dir.clone(), metrics.clone());
        tokio::spawn(upkeep.keep_looking(told_to_stop.clone()));
        let api = api::serve(
            admin,
            tls,
            router,
            settings.clone(),
            Bounds::OPERATORS,
            told_to_stop,
        );
        let api = supervisor.run(Part::Api, api);
        let mqtt_addr = mqtt.as_ref().and_then(|it| it.tcp_addr);
        let mqtt_tls_addr = mqtt.as_ref().and_then(|it| it.tls_addr);
        announce(
            &config,
            &Listening {
                coap: ports.coap_addr,
                coaps: ports.dtls_addr,
                mqtt: mqtt_addr,
                mqtts: mqtt_tls_addr,
                admin: admin_addr,
                app: app_addr,
                http: bound.http,
                https: bound.https,
            },
        )?;
        Ok(Self {
            coap_addr: ports.coap_addr,
            dtls_addr: ports.dtls_addr,
            mqtt_addr,
            mqtts_addr: mqtt_tls_addr,
            admin_addr,
            app_addr,
            http_addr: bound.http,
            https_addr: bound.https,
            grants,
            downloads,
            downloading,
            store: kept.store,
            trail,
            clock,
            shards,
            supervisor,
            deaths,
            rollout,
            dispatcher,
            api,
            app,
            settings,
            secured: ports.port,
            mqtt,
            certificates,
            signals,
            metrics,
            traces,
            stop,
            _lock: kept.lock,
        })
    }

    /// Who may download what, and what was served.
    pub const fn grants(&self) -> &Arc<Grants> {
        &self.grants
    }

    /// Renders the server's figures, also once it has stopped.
    pub fn metrics(&self) -> PrometheusHandle {
        self.metrics.handle()
    }

    /// Returns the part that has died, when one has: the server is of no use any more, and is to be started again. Stopping it
    /// in order may not be possible.
    pub async fn failed(&mut self) -> Part {
        match self.deaths.recv().await {
            Some(part) => part,
            None => std::future::pending().await, // the parts hold its other end
        }
    }

    /// Tells whether the server's threads answer.
    pub fn pulse(&self) -> Pulse {
        Pulse(self.shards.exchange().clone())
    }

    /// Puts into effect what of other settings can take effect now: the log's filter, rates, limits of cells, networks of
    /// webhooks, certificates. Logs what has changed, what needs a restart, and what of products is not obeyed.
    pub fn reload(&mut self, new: &Config) {
        // whoever changes products meanwhile comes before or after
        let reload = self.settings.change(|config| {
            let reload = config.reload(new);
            (reload.config.clone(), reload)
        });
        let config = reload.config;
        if let Err(error) = telemetry::filter_log(&config.log.filter) {
            tracing::error!(%error, "log.filter is not understood; it stays as it was");
        }
        self.signals.written();
        products::tell(&reload.not_obeyed);
        let mut changed = reload.changed;
        // what the files hold may have changed where their names have not
        match self.secured.as_mut().map(|port| port.renewed(&config.dtls)) {
            Some(Ok(Some(setup))) => {
                self.shards.exchange().renew_certificates(&setup);
                changed.push("the certificates".to_owned());
            }
            Some(Err(error)) => tracing::error!(%error, "the certificates stay as they were"),
            Some(Ok(None)) | None => {}
        }
        for (whose, renewed) in self.certificates.renew(&config) {
            match renewed {
                Ok(true) => changed.push(format!("the {whose}'s certificate")),
                Ok(false) => {}
                Err(error) => tracing::error!(%error, "the {whose}'s certificate stays as it was"),
            }
        }
        self.certificates.tell();
        let list = |names: &[String]| match names {
            [] => "nothing".to_owned(),
            names => names.join(", "),
        };
        tracing::info!(
            changed = list(&changed),
            needs_restart = list(&reload.needs_restart),
            "settings were read anew"
        );
    }

    #[cfg(test)]
    fn kill(&self, part: Part) {
        self.supervisor.end(part);
    }

    /// Stops: no more slots are granted, what was emitted is committed and sent, and the database is
    /// closed. Returns within 10 s.
    pub async fn stop(self) {
        self.supervisor.stopping();
        let orderly = async {
            let _ = self.stop.send(true); // its receivers may have ended
            if let Some(mqtt) = &self.mqtt {
                mqtt.port.stop().await;
            }
            // What had arrived of the downloads under way is told to the shards, and stored.
            let _ = self.downloading.await;
            // The rollout waits for what it has ordered.
            let ((), _) = tokio::join!(self.shards.stop(), self.rollout);
            let _ = self.api.await;
            if let Some(app) = self.app {
                let _ = app.await;
            }
            if let Some(traces) = self.traces {
                let _ = task::spawn_blocking(move || traces.stop()).await;
            }
            let _ = self.dispatcher.await;
            drop(self.downloads);
            let now = self.clock.now().utc;
            if let Err(error) = self.trail.write(&self.store, now, true).await {
                tracing::warn!(%error, "what was refused last is not in the audit log");
            }
            self.store.close().await;
        };
        if tokio::time::timeout(STOP_WITHIN, orderly).await.is_err() {
            tracing::error!(
                "not everything could be stored before the stop; the next start goes on from what was"
            );
        }
    }
}

/// Tells whether the threads of a server answer. A part that has died ends the process; one that hangs shows here.
#[derive(Clone)]
pub struct Pulse(Arc<Exchange>);

impl Pulse {
    /// Whether every shard answers within this time.
    pub async fn beats(&self, within: Duration) -> bool {
        self.0.all_answer(within).await
    }
}

/// What lies in the data directory.
struct Kept {
    lock: File,
    token: TokenHash,
    trail: Arc<AuditTrail>,
    store: SqliteStore,
    database: Arc<dyn Store>,
    files: PackageFiles,
}

impl Kept {
    async fn open(config: &Config) -> Result<Self, StartError> {
        let lock = data_dir::take(&config.data_dir)?;
        let token = TokenHash::load_or_create(&config.data_dir)?;
        let key = audit_key::load_or_create(&config.data_dir)?;
        let store = SqliteStore::open(&config.data_dir).await?;
        let database: Arc<dyn Store> = Arc::new(store.clone());
        // The lock is ours: what was begun and is not under way here, nobody else is about to end.
        database.end_interrupted().await?;
        database.end_interrupted_acts().await?;
        let files = PackageFiles::open(&config.data_dir).await?;
        remove_unused(&files, &*database).await;
        time::await_clock(&*database).await?;
        take_note_of_a_restore(&config.data_dir, &store).await?;
        Ok(Self {
            lock,
            token,
            trail: Arc::new(AuditTrail::new(key)),
            store,
            database,
            files,
        })
    }
}

/// Has the store know that it was put back to an older state, if it was. A crash in between has it told twice.
async fn take_note_of_a_restore(dir: &Path, store: &SqliteStore) -> Result<(), StartError> {
    if !data_dir::was_restored(dir) {
        return Ok(());
    }
    store.was_put_back(SystemClock::start().now().utc).await?;
    data_dir::restore_is_noted(dir)?;
    tracing::warn!(
        "the data directory was restored: what happened since the backup is not known, and what devices had done by then no \
         longer speaks against what they say"
    );
    Ok(())
}

async fn listen_to_operators(admin: &AdminConfig) -> Result<(TcpListener, SocketAddr), StartError> {
    const SETTING: &str = "admin.listen";
    let address = admin.listen;
    let listener = TcpListener::bind(address).await;
    let listener = listener.map_err(|source| listen_error(address, SETTING, source))?;
    if !address.ip().to_canonical().is_loopback() && !admin.has_tls() {
        tracing::warn!(
            %address,
            "the admin API is reached from other machines without TLS, and so is the token; set admin.tls_certificate and \
             admin.tls_key, or let a proxy with TLS stand before it and set admin.listen to 127.0.0.1"
        );
    }
    let bound = local_addr(listener.local_addr(), address, SETTING)?;
    Ok((listener, bound))
}

/// Where a server listens.
struct Listening {
    coap: Option<SocketAddr>,
    coaps: Option<SocketAddr>,
    mqtt: Option<SocketAddr>,
    mqtts: Option<SocketAddr>,
    admin: SocketAddr,
    app: Option<SocketAddr>,
    http: Option<SocketAddr>,
    https: Option<SocketAddr>,
}

fn announce(config: &Config, listening: &Listening) -> Result<(), StartError> {
    data_dir::write_listening(&config.data_dir, listening)?;
    let at = |address: Option<SocketAddr>| {
        address.map_or_else(|| "closed".to_owned(), |address| address.to_string())
    };
    tracing::info!(
        coap = at(listening.coap),
        coaps = at(listening.coaps),
        admin = %listening.admin,
        app = at(listening.app),
        http = at(listening.http),
        https = at(listening.https),
        data_dir = %config.data_dir.display(),
        "listening"
    );
    Ok(())
}

/// The vault of the credential key, in which the secrets of webhooks are too that were added before there was one.
async fn open_vault(
    config: &Config,
    purpose: Purpose,
    store: &dyn Store,
) -> Result<Option<Vault>, StartError> {
    let vault = secure::vault(&config.dtls, purpose, store).await?;
    if let Some(vault) = &vault {
        let sealed = store.seal_webhook_secrets(vault).await?;
        if sealed > 0 {
            tracing::info!(
                sealed,
                "webhooks' secrets were sealed with the credential key"
            );
        }
    }
    Ok(vault)
}

/// Why a server could not start with settings of which each may be what it is. Nothing is opened, and nothing is written.
pub fn unfit(config: &Config) -> Vec<StartError> {
    let mut reasons = secure::unfit(&config.dtls);
    reasons.extend(secure::signing_key(&config.evidence).err());
    reasons.extend(secure::oidc(config, [0; KEY_BYTES]).err());
    reasons.extend(mqtt::unfit(&config.mqtt));
    reasons.extend(data_dir::unfit(&config.data_dir));
    reasons.extend(
        Tls::of(TlsFiles::of_admin(&config.admin).as_ref())
            .err()
            .map(StartError::from),
    );
    reasons.extend(app::unfit(config));
    reasons.extend(downloads::unfit(config));
    reasons.extend(TokenHash::unfit(&config.data_dir).map(StartError::from));
    reasons
}

async fn remove_unused(files: &PackageFiles, store: &dyn Store) {
    match files.remove_unused(store).await {
        Ok(0) => {}
        Ok(removed) => tracing::info!(removed, "removed package files that nothing refers to"),
        Err(error) => tracing::warn!(%error, "unused package files could not be removed"),
    }
}

/// As many as are set, or as there are cores. One where the kernel cannot tell them apart.
fn shard_count(config: &Config) -> u8 {
    let cores = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let wanted = match config.shards {
        0 => u8::try_from(cores()).unwrap_or(u8::MAX).min(MOST_SHARDS),
        shards => shards,
    };
    match bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), wanted) {
        Err(error) if wanted > 1 => {
            tracing::warn!(%error, wanted, "the kernel cannot share a port among shards; one serves all devices");
            1
        }
        _ => wanted,
    }
}

/// Where devices are heard, with a socket for every shard.
struct Ports {
    plain: Vec<UdpSocket>,
    coap_addr: Option<SocketAddr>,
    secured: Vec<SecuredSetup>,
    dtls_addr: Option<SocketAddr>,
    /// What the secured sockets have in common, where there are any.
    port: Option<SecuredPort>,
}

impl Ports {
    async fn open(
        config: &Config,
        shards: u8,
        vault: Option<&Vault>,
        store: &dyn Store,
    ) -> Result<Self, StartError> {
        let address = |socket: &UdpSocket| socket.local_addr().ok();
        let plain = if config.coap.enabled {
            bind_udp(config.coap.listen, shards, "coap.listen")?
        } else {
            Vec::new()
        };
        let (secured, port) = match vault {
            Some(vault) if config.dtls.enabled => {
                let (setups, port) = secure::port(config, shards, vault, store).await?;
                (setups, Some(port))
            }
            _ => (Vec::new(), None),
        };
        Ok(Self {
            coap_addr: plain.first().and_then(address),
            plain,
            dtls_addr: (secured.first()).and_then(|setup| address(&setup.socket)),
            secured,
            port,
        })
    }
}

fn new_engines(
    config: &Arc<Config>,
    count: u8,
    ids: &DeviceIds,
    clock: SystemClock,
    reached: &Reached,
) -> Result<Vec<Machine>, StartError> {
    let engine = |_| {
        let setup = Setup {
            config: config.clone(),
            seed: random()?,
            ids: ids.clone(),
            engines: count,
        };
        let mut engine = Engine::new(setup, clock.now());
        engine.reached_at(reached.clone());
        Ok(engine.into())
    };
    (0..count).map(engine).collect()
}

/// The engine of devices over MQTT.
fn mqtt_engine(
    config: &Arc<Config>,
    ids: &DeviceIds,
    token_key: [u8; 32],
    grants: &Grants,
    clock: SystemClock,
) -> crate::mqtt::engine::Engine {
    let setup = crate::mqtt::engine::Setup {
        config: config.clone(),
        ids: ids.clone(),
        token_key,
    };
    let mut engine = crate::mqtt::engine::Engine::new(setup, clock.now());
    if let Some(links) = grants.links() {
        engine.serve_at(links.clone());
    }
    engine
}

/// Random bytes that are made once for a database.
async fn kept_secret(store: &dyn Store, key: &str) -> Result<[u8; 32], StartError> {
    let kept = store.meta(key).await?;
    if let Some(bytes) = kept.and_then(|kept| kept.try_into().ok()) {
        return Ok(bytes);
    }
    let bytes = random()?;
    store.set_meta(key, &bytes).await?;
    Ok(bytes)
}

fn random<const N: usize>() -> Result<[u8; N], StartError> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).map_err(|error| system("make secrets", &error))?;
    Ok(bytes)
}

fn system(doing: &'static str, reason: &dyn std::fmt::Display) -> StartError {
    StartError::System {
        doing,
        reason: reason.to_string(),
    }
}

fn bind_udp(
    address: SocketAddr,
    count: u8,
    setting: &'static str,
) -> Result<Vec<UdpSocket>, StartError> {
    bind(address, count).map_err(|source| listen_error(address, setting, source))
}

fn local_addr(
    bound: io::Result<SocketAddr>,
    address: SocketAddr,
    setting: &'static str,
) -> Result<SocketAddr, StartError> {
    bound.map_err(|source| listen_error(address, setting, source))
}

const fn listen_error(address: SocketAddr, setting: &'static str, source: io::Error) -> StartError {
    StartError::Listen {
        address,
        setting,
        source,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whatever_dies_ends_the_server() {
        for part in [
            Part::Gate,
            Part::Committer,
            Part::Rollout,
            Part::Webhooks,
            Part::Api,
            Part::Downloads,
            Part::App,
        ] {
            let dir = tempfile::tempdir().unwrap();
            let mut config = Config {
                data_dir: dir.path().to_owned(),
                shards: 1,
                ..Config::default()
            };
            config.coap.listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            config.admin.listen = config.coap.listen;
            config.app.listen = config.coap.listen;
            config.app.enabled = true;
            let mut server = Server::start(config, Purpose::Demo).await.unwrap();
            server.kill(part);
            assert_eq!(server.failed().await, part);
            server.stop().await;
        }
    }
}
