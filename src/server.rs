//! Wires everything together: [`Server::start`] opens the data directory, brings back the state of
//! before the restart, and starts the device side, the committer, the rollout and the admin API.

mod secure;

use std::{
    fs::{File, TryLockError},
    io::{self, Write as _},
    net::{SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use metrics_exporter_prometheus::PrometheusHandle;
pub use secure::Purpose;
use thiserror::Error;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
    task,
};

use crate::{
    api::{self, ApiState, TokenError, TokenHash},
    clock::SystemClock,
    config::Config,
    engine::{Engine, Setup},
    health::{Health, Part},
    notify::{Dispatcher, DispatcherSetup, Instance},
    runtime::{
        PackageCache, Pulse, Rollout, RolloutSetup, SecuredSetup, Shard, ShardHandle, ShardSetup,
        bind, commit_changes, restore_busy,
    },
    store::{FileError, OpenError, PackageFiles, SqliteStore, Store, StoreError},
    telemetry::Metrics,
    vault::Vault,
};

/// Written to the data directory once the server can be reached: where it listens, as JSON.
pub const LISTENING_FILE: &str = "listening.json";
const LOCK_FILE: &str = "cellwise.lock";
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
    /// Another server.
    #[error("another server uses {0}; stop it first, or set another data_dir")]
    InUse(PathBuf),
    /// The database cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The database cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The package files.
    #[error(transparent)]
    Files(#[from] FileError),
    /// The operator's token.
    #[error(transparent)]
    Token(#[from] TokenError),
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
    /// The keys in the database were sealed with another one.
    #[error(
        "the devices' keys were stored with another credential key; start with that one, which cannot be recovered \
         from the database"
    )]
    OtherKey,
    /// Certificates, limits.
    #[error("the secured port cannot be opened: {0}; see the settings under dtls")]
    Dtls(String),
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
    /// Where operators reach it.
    pub admin_addr: SocketAddr,
    store: SqliteStore,
    shard: ShardHandle,
    shard_ended: oneshot::Receiver<()>,
    committer: task::JoinHandle<()>,
    rollout: task::JoinHandle<()>,
    dispatcher: task::JoinHandle<()>,
    api: task::JoinHandle<()>,
    metrics: Arc<Metrics>,
    stop: watch::Sender<bool>,
    _lock: File,
}

impl Server {
    /// Starts a server with its state in `config.data_dir`.
    pub async fn start(config: Config, purpose: Purpose) -> Result<Self, StartError> {
        let config = Arc::new(config);
        let clock = SystemClock::start();
        let lock = lock_data_dir(&config.data_dir)?;
        let token = TokenHash::load_or_create(&config.data_dir)?;
        let store = SqliteStore::open(&config.data_dir).await?;
        let database: Arc<dyn Store> = Arc::new(store.clone());
        let files = PackageFiles::open(&config.data_dir).await?;
        remove_unused(&files, &*database).await;

        let vault = secure::vault(&config.dtls, purpose, &*database).await?;
        let revision = database.restore_revision().await?;
        let (plain, secured) = open_ports(&config, vault.as_ref(), &*database).await?;
        let bound = |socket: &UdpSocket| socket.local_addr().ok();
        let coap_addr = plain.as_ref().and_then(bound);
        let dtls_addr = secured.as_ref().and_then(|secured| bound(&secured.socket));
        let admin = TcpListener::bind(config.admin.listen)
            .await
            .map_err(|source| listen_error(config.admin.listen, "admin.listen", source))?;
        let admin_addr = local_addr(admin.local_addr(), config.admin.listen, "admin.listen")?;

        let mut packages = PackageCache::default();
        let mut engine = new_engine(&config, clock, &*database).await?;
        restore_busy(&mut engine, clock, &*database, &files, &mut packages).await?;

        let health = Arc::new(Health::starting());
        health.works(Part::Store);
        let metrics = Arc::new(Metrics::new().map_err(|error| system("make metrics", &error))?);
        let pulse = Arc::new(Pulse::default());
        let (changes, emitted) = mpsc::unbounded_channel();
        let (shard, shard_ended) = Shard::start(ShardSetup {
            engine,
            plain,
            secured,
            clock,
            changes,
            health: health.clone(),
            metrics: metrics.clone(),
        })
        .map_err(|error| system("start the device side", &error))?;
        let committer = task::spawn(commit_changes(
            database.clone(),
            health.clone(),
            shard.clone(),
            pulse.clone(),
            emitted,
        ));
        let (stop, told_to_stop) = watch::channel(false);
        let rollout = Rollout::new(RolloutSetup {
            store: database.clone(),
            files: files.clone(),
            shard: shard.clone(),
            clock,
            pulse: pulse.clone(),
            health: health.clone(),
            revision,
            packages,
        });
        let rollout = task::spawn(rollout.run(told_to_stop.clone()));
        let instance = Instance::new(&kept_secret(&*database, "instance").await?);
        let dispatcher = Dispatcher::new(DispatcherSetup {
            store: database.clone(),
            config: config.webhooks.clone(),
            pulse: pulse.clone(),
            clock,
            instance: instance.clone(),
        })
        .map_err(|error| system("post to webhooks", &error))?;
        let dispatcher = task::spawn(dispatcher.run(told_to_stop.clone()));
        let router = api::router(ApiState {
            store: database,
            files,
            config: config.clone(),
            clock,
            token,
            vault,
            pulse,
            instance: Arc::new(instance),
            streams: ApiState::stream_places(),
            stop: told_to_stop.clone(),
            health,
            metrics: metrics.handle(),
        });
        let api = task::spawn(api::serve(admin, router, told_to_stop));
        write_listening(&config.data_dir, coap_addr, dtls_addr, admin_addr)?;
        tracing::info!(?coap_addr, ?dtls_addr, %admin_addr, data_dir = %config.data_dir.display(), "listening");
        Ok(Self {
            coap_addr,
            dtls_addr,
            admin_addr,
            store,
            shard,
            shard_ended,
            committer,
            rollout,
            dispatcher,
            api,
            metrics,
            stop,
            _lock: lock,
        })
    }

    /// Renders the server's figures, also once it has stopped.
    pub fn metrics(&self) -> PrometheusHandle {
        self.metrics.handle()
    }

    /// Stops: no more slots are granted, what was emitted is committed and sent, and the database is
    /// closed. Returns within 10 s.
    pub async fn stop(self) {
        let orderly = async {
            let _ = self.stop.send(true); // its receivers may have ended
            self.shard.stop();
            let _ = self.rollout.await;
            let _ = self.shard_ended.await;
            drop(self.shard);
            let _ = self.committer.await;
            let _ = self.api.await;
            let _ = self.dispatcher.await;
            self.store.close().await;
        };
        if tokio::time::timeout(STOP_WITHIN, orderly).await.is_err() {
            tracing::error!(
                "not everything could be stored before the stop; the next start goes on from what was"
            );
        }
    }
}

async fn remove_unused(files: &PackageFiles, store: &dyn Store) {
    match files.remove_unused(store).await {
        Ok(0) => {}
        Ok(removed) => tracing::info!(removed, "removed package files that nothing refers to"),
        Err(error) => tracing::warn!(%error, "unused package files could not be removed"),
    }
}

/// Where devices are heard: the plain port, the secured one.
async fn open_ports(
    config: &Config,
    vault: Option<&Vault>,
    store: &dyn Store,
) -> Result<(Option<UdpSocket>, Option<SecuredSetup>), StartError> {
    let plain = (config.coap.enabled)
        .then(|| bind_udp(config.coap.listen, "coap.listen"))
        .transpose()?;
    let secured = match vault {
        Some(vault) if config.dtls.enabled => Some(secure::port(config, vault, store).await?),
        _ => None,
    };
    Ok((plain, secured))
}

async fn new_engine(
    config: &Arc<Config>,
    clock: SystemClock,
    store: &dyn Store,
) -> Result<Engine, StartError> {
    let setup = Setup {
        config: config.clone(),
        seed: random()?,
        token_key: kept_secret(store, "token_key").await?,
    };
    Ok(Engine::new(setup, clock.now()))
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

fn lock_data_dir(dir: &Path) -> Result<File, StartError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| StartError::DataDir { path, source }
    };
    std::fs::create_dir_all(dir).map_err(failed(dir))?;
    let path = dir.join(LOCK_FILE);
    let lock = File::create(&path).map_err(failed(&path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StartError::InUse(dir.to_owned())),
        Err(TryLockError::Error(source)) => Err(failed(&path)(source)),
    }
}

/// Whoever started the server on free ports finds them here.
fn write_listening(
    dir: &Path,
    coap: Option<SocketAddr>,
    dtls: Option<SocketAddr>,
    admin: SocketAddr,
) -> Result<(), StartError> {
    let path = dir.join(LISTENING_FILE);
    let write = || {
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        let pid = std::process::id();
        let text = serde_json::json!({ "coap": coap, "coaps": dtls, "admin": admin, "pid": pid });
        writeln!(file, "{text}")?;
        file.persist(&path)?;
        Ok(())
    };
    write().map_err(|source: io::Error| StartError::DataDir {
        path: path.clone(),
        source,
    })
}

fn random() -> Result<[u8; 32], StartError> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|error| system("make secrets", &error))?;
    Ok(bytes)
}

fn system(doing: &'static str, reason: &dyn std::fmt::Display) -> StartError {
    StartError::System {
        doing,
        reason: reason.to_string(),
    }
}

fn bind_udp(address: SocketAddr, setting: &'static str) -> Result<UdpSocket, StartError> {
    bind(address).map_err(|source| listen_error(address, setting, source))
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
