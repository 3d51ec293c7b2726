use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Weak},
    time::Duration,
};

use thiserror::Error;
use tokio::sync::watch;

use super::{Exchange, Keys, Pulse, exchange::ShardGone, restore::restore_idle};
use crate::{
    clock::{Instant, SystemClock},
    engine::{Command, UpgradeOrder},
    health::{Health, Part},
    package::Package,
    store::{DeviceChange, PackageFiles, Store, StoreError},
    task::{PackageId, plan},
    upgrade::Failure,
};

/// Rows that are read, and commands that are given, at once.
pub const ROLLOUT_PAGE: u32 = 500;
/// The shortest time between two looks, when something is due.
pub const ROLLOUT_SOON: Duration = Duration::from_millis(10);
/// The longest time between two looks, should nobody poke.
pub const ROLLOUT_IDLE: Duration = Duration::from_secs(10);
const AFTER_ERROR: Duration = Duration::from_secs(2);
/// Between two looks for devices that came by themselves and are gone.
const NEWCOMERS_EVERY: Duration = Duration::from_mins(10);
/// A device that came by itself is forgotten when it has not been registered for so long. The end of a registration is known
/// to the store to the hour.
const NEWCOMERS_STAY: Duration = Duration::from_hours(1);

/// Turns the operator's intent, as it stands in the store, into commands for the shards: devices come and go,
/// tasks start and are stopped, upgrades begin.
///
/// Everything it does can be done again: it forgets nothing when it is stopped in between.
pub struct Rollout {
    store: Arc<dyn Store>,
    exchange: Arc<Exchange>,
    keys: Option<Arc<Keys>>,
    clock: SystemClock,
    pulse: Arc<Pulse>,
    health: Arc<Health>,
    /// Device changes up to here are known to the engine.
    revision: i64,
    packages: PackageCache,
    /// When devices that came by themselves are looked for next.
    newcomers_at: Instant,
}

/// What a rollout is started with.
pub struct RolloutSetup {
    /// Where intent is read.
    pub store: Arc<dyn Store>,
    /// Who obeys.
    pub exchange: Arc<Exchange>,
    /// The keys of devices that encrypt, where there is a port for them.
    pub keys: Option<Arc<Keys>>,
    /// The clock.
    pub clock: SystemClock,
    /// Poked when intent was written.
    pub pulse: Arc<Pulse>,
    /// Told whether the rollout works.
    pub health: Arc<Health>,
    /// Device changes up to here are known to the engine.
    pub revision: i64,
    /// Packages in use.
    pub packages: PackageCache,
}

/// Why a look at the store came to nothing. The next one follows.
#[derive(Debug, Error)]
pub enum RolloutError {
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A shard has stopped.
    #[error(transparent)]
    Shard(#[from] ShardGone),
}

impl Rollout {
    /// A rollout that has not looked yet.
    pub fn new(setup: RolloutSetup) -> Self {
        Self {
            store: setup.store,
            exchange: setup.exchange,
            keys: setup.keys,
            clock: setup.clock,
            pulse: setup.pulse,
            health: setup.health,
            revision: setup.revision,
            packages: setup.packages,
            newcomers_at: Instant::ZERO,
        }
    }

    /// Brings back the devices that had no upgrade, then looks whenever it is poked or something is due, until `stop`
    /// turns true.
    pub async fn run(mut self, mut stop: watch::Receiver<bool>) {
        tokio::select! {
            () = restore_idle(&*self.store, &self.exchange, &self.health) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
        loop {
            let looked = tokio::select! {
                looked = self.look() => looked,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            let pause = match looked {
                Ok(pause) => {
                    self.health.works(Part::Rollout);
                    pause
                }
                Err(error) => {
                    if self.health.is_ok(Part::Rollout) {
                        tracing::error!(%error, "upgrades cannot be started or stopped; trying again");
                    }
                    self.health.failed(Part::Rollout, error.to_string());
                    AFTER_ERROR
                }
            };
            tokio::select! {
                () = self.pulse.poked() => {}
                () = tokio::time::sleep(pause) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
        }
    }

    /// Brings the engine up to the store. Returns how long nothing more is due.
    async fn look(&mut self) -> Result<Duration, RolloutError> {
        self.remove_newcomers().await?;
        self.follow_devices().await?;
        self.store.start_due_tasks(self.clock.now().utc).await?;
        self.stop_upgrades().await?;
        self.start_upgrades().await?;
        let now = self.clock.now().utc;
        let due = self.store.next_due(now).await?;
        Ok(due.map_or(ROLLOUT_IDLE, |at| {
            at.since(now).clamp(ROLLOUT_SOON, ROLLOUT_IDLE)
        }))
    }

    /// Gives back the places of those who came by themselves, are gone, and never had an upgrade.
    async fn remove_newcomers(&mut self) -> Result<(), RolloutError> {
        let now = self.clock.now();
        if now.instant < self.newcomers_at {
            return Ok(());
        }
        let before = now.utc.before(NEWCOMERS_STAY);
        let removed = self.store.remove_newcomers(before, ROLLOUT_PAGE).await?;
        if removed > 0 {
            tracing::info!(
                removed,
                "devices that came by themselves, and are registered no more, are forgotten"
            );
        }
        // A whole page may not have been all.
        if removed < ROLLOUT_PAGE.into() {
            self.newcomers_at = now.instant + NEWCOMERS_EVERY;
        }
        Ok(())
    }

    async fn follow_devices(&mut self) -> Result<(), RolloutError> {
        let look = self.pulse.begin();
        loop {
            let changes = self
                .store
                .device_changes_since(self.revision, ROLLOUT_PAGE)
                .await?;
            let Some(last) = changes.last() else {
                self.pulse.devices_known(look);
                return Ok(());
            };
            let revision = last.revision;
            let removed: Vec<String> = changes
                .iter()
                .filter(|change| change.removed)
                .map(|change| change.endpoint.clone())
                .collect();
            let mut void = Vec::new();
            let commands = changes
                .into_iter()
                .map(|change| {
                    let DeviceChange {
                        endpoint,
                        product,
                        psk,
                        ..
                    } = change;
                    if let Some(keys) = &self.keys {
                        void.extend(keys.set(&endpoint, psk.as_ref()));
                    }
                    if change.removed {
                        Command::RemoveDevice { endpoint }
                    } else {
                        let secure = change.secure;
                        Command::AddDevice {
                            endpoint,
                            product,
                            secure,
                        }
                    }
                })
                .collect();
            if !void.is_empty() {
                self.exchange.end_identities(&void.into())?;
            }
            self.exchange.obey(commands).await?;
            for endpoint in removed {
                self.store.forget_removed(&endpoint).await?;
            }
            self.revision = revision;
        }
    }

    async fn stop_upgrades(&mut self) -> Result<(), RolloutError> {
        let mut tried = HashSet::new();
        loop {
            let upgrades = self.store.upgrades_to_stop(ROLLOUT_PAGE).await?;
            let commands: Vec<Command> = upgrades
                .into_iter()
                .filter(|stop| tried.insert(stop.upgrade))
                .map(|stop| Command::Stop {
                    endpoint: stop.endpoint,
                    upgrade: stop.upgrade,
                    reason: stop.reason,
                })
                .collect();
            if commands.is_empty() {
                return Ok(());
            }
            self.exchange.obey(commands).await?;
        }
    }

    async fn start_upgrades(&mut self) -> Result<(), RolloutError> {
        let mut tried = HashSet::new();
        loop {
            let now = self.clock.now().utc;
            let startable = self.store.startable(now, ROLLOUT_PAGE).await?;
            let mut commands = Vec::new();
            for (candidate, order) in startable {
                if plan(&candidate, now).is_ok() && tried.insert(order.upgrade) {
                    commands.push(self.start(order).await?);
                }
            }
            if commands.is_empty() {
                return Ok(());
            }
            self.exchange.obey(commands).await?;
            // A large task does not keep new devices waiting.
            self.follow_devices().await?;
        }
    }

    async fn start(&mut self, order: UpgradeOrder) -> Result<Command, StoreError> {
        let package = self.packages.load(order.package).await?;
        Ok(match package {
            Some(package) => Command::Start { order, package },
            None => Command::Fail {
                order,
                failure: Failure::PackageUnavailable,
            },
        })
    }
}

/// Packages in use: each is in memory once, for as long as an upgrade holds it.
pub struct PackageCache {
    store: Arc<dyn Store>,
    files: PackageFiles,
    packages: HashMap<PackageId, Weak<Package>>,
    /// Those that could not be had. That is told once of each.
    missing: HashSet<PackageId>,
}

impl PackageCache {
    /// No package is in use.
    pub fn new(store: Arc<dyn Store>, files: PackageFiles) -> Self {
        Self {
            store,
            files,
            packages: HashMap::new(),
            missing: HashSet::new(),
        }
    }

    /// The package with its segments; `None`, and a line in the log, when its file is missing or is not what
    /// was uploaded.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn load(&mut self, id: PackageId) -> Result<Option<Arc<Package>>, StoreError> {
        if let Some(package) = self.packages.get(&id).and_then(Weak::upgrade) {
            return Ok(Some(package));
        }
        self.packages
            .retain(|_, package| package.strong_count() > 0);
        let Some(record) = self.store.package(id).await? else {
            tracing::error!(
                package = id.0,
                "an upgrade refers to a package that does not exist"
            );
            return Ok(None);
        };
        let frames = match self.files.frames(&record).await {
            Ok(frames) => frames,
            Err(error) => {
                if self.missing.insert(id) {
                    tracing::error!(package = id.0, %error, "a package cannot be served: its upgrades fail");
                }
                return Ok(None);
            }
        };
        self.missing.remove(&id);
        let identity = record.identity();
        let package = Arc::new(Package { identity, frames });
        self.packages.insert(id, Arc::downgrade(&package));
        Ok(Some(package))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::UtcMillis,
        engine::{Binding, Change, DeviceIds, QueueMode, Registration},
        store::{SqliteStore, conformance::next_batch},
    };

    fn registered(endpoint: &str, at: UtcMillis) -> Change {
        Change::Registered {
            endpoint: endpoint.into(),
            registration: Registration {
                location: endpoint.into(),
                peer: std::net::SocketAddr::from(([127, 0, 0, 1], 1)).into(),
                lifetime_s: 300,
                expires_at: at + Duration::from_mins(5),
                registered_at: at,
                message_id: None,
                queue_mode: QueueMode::Off,
                lwm2m_version: None,
                binding: Binding::default(),
                announced: None,
            },
            at,
        }
    }

    #[tokio::test]
    async fn who_came_by_itself_and_is_gone_gives_its_place_back() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(dir.path()).await.unwrap());
        let clock = SystemClock::start();
        let now = clock.now().utc;
        let old = now.before(Duration::from_hours(2));
        let changes = [registered("gone", old), registered("there", now)];
        store.commit(next_batch(), &changes).await.unwrap();
        let (exchange, _ends) = Exchange::new(DeviceIds::new([7; 32]), 1);
        let files = PackageFiles::open(dir.path()).await.unwrap();
        let mut rollout = Rollout::new(RolloutSetup {
            store: store.clone(),
            exchange,
            keys: None,
            clock,
            pulse: Arc::default(),
            health: Arc::new(Health::starting()),
            revision: 0,
            packages: PackageCache::new(store.clone(), files),
        });
        rollout.remove_newcomers().await.unwrap();
        assert_eq!(store.device("gone").await.unwrap(), None);
        assert!(store.device("there").await.unwrap().is_some());
        // the engine is told as of every device that is removed
        let told = store.device_changes_since(0, 9).await.unwrap();
        assert!(matches!(&told[..], [gone] if gone.removed && gone.endpoint == "gone"));
    }
}
