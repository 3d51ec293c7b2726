//! Drives the reconciler: a task that reads the operator's intent from the store and has the shards follow it.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Weak},
    time::Duration,
};

use thiserror::Error;
use tokio::sync::watch;

use super::{Exchange, Keys, MqttIdentities, MqttPort, message::ShardGone, restore::restore_idle};
use crate::{
    clock::SystemClock,
    engine::Command,
    health::{Health, Part},
    ledger::{Failure, PackageId, TaskId, UpgradeOrder},
    package::{Content, Fits, HttpPackage, Package, SegmentFrames},
    session::{Offer, Offers},
    shard::{Query, Reconciler, Reply, Want, follow},
    signal::Signals,
    store::{
        DeviceChange, LaneChanges, PackageFiles, PackageRecord, ReadError, Store, StoreError,
        TaskPackages,
    },
    task::PackageRule,
};

/// After the store or a shard has failed.
const AFTER_ERROR: Duration = Duration::from_secs(2);

/// Does what the reconciler wants: asks the store, and has the shards obey.
pub struct Rollout {
    store: Arc<dyn Store>,
    exchange: Arc<Exchange>,
    keys: Option<Arc<Keys>>,
    mqtt: Option<(Arc<MqttIdentities>, MqttPort)>,
    clock: SystemClock,
    signals: Arc<Signals>,
    health: Arc<Health>,
    reconciler: Reconciler,
    /// The look at the devices that goes on.
    devices_look: u64,
    packages: PackageCache,
}

/// What a rollout is started with.
pub struct RolloutSetup {
    /// Where intent is read.
    pub store: Arc<dyn Store>,
    /// Who obeys.
    pub exchange: Arc<Exchange>,
    /// The keys of devices that encrypt, where there is a port for them.
    pub keys: Option<Arc<Keys>>,
    /// Who may connect over MQTT, and the server for them, where there is one.
    pub mqtt: Option<(Arc<MqttIdentities>, MqttPort)>,
    /// The clock.
    pub clock: SystemClock,
    /// Signalled when intent was written.
    pub signals: Arc<Signals>,
    /// Told whether the rollout works.
    pub health: Arc<Health>,
    /// Device changes up to here are known to the engine.
    pub revision: i64,
    /// Changes of cells, and of sites, up to here are known to the gate.
    pub lane_revisions: (i64, i64),
    /// Whether anybody may register, so that those who are gone are forgotten.
    pub open: bool,
    /// How often it is looked for devices that join tasks.
    pub join_interval: Duration,
    /// So long a device is waited for after its soak.
    pub soak_wait: Duration,
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
            mqtt: setup.mqtt,
            clock: setup.clock,
            signals: setup.signals,
            health: setup.health,
            reconciler: Reconciler::new(setup.clock.now(), setup.revision, setup.open)
                .knowing_lanes(setup.lane_revisions)
                .joining_every(setup.join_interval)
                .waiting_for_soaks(setup.soak_wait),
            devices_look: 0,
            packages: setup.packages,
        }
    }

    /// Brings back the devices that had no upgrade, then looks whenever intent was written or something is due, until `stop`
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
                () = self.signals.intent.changed() => {}
                () = tokio::time::sleep(pause) => {}
                _ = stop.wait_for(|stop| *stop) => return,
            }
            if self.signals.members.take() {
                self.reconciler.members_changed();
            }
            self.reconciler.look();
        }
    }

    /// Brings the shards up to the store. Returns how long nothing more is due.
    async fn look(&mut self) -> Result<Duration, RolloutError> {
        loop {
            match self.reconciler.want(self.clock.now()) {
                Want::Ask(query) => {
                    let reply = self.ask(query).await?;
                    self.reconciler.reply(self.clock.now(), reply);
                }
                Want::Rule(changes) => {
                    self.exchange.rule(changes)?;
                    self.reconciler.obeyed();
                }
                Want::Share(shares) => {
                    self.exchange.share(shares)?;
                    self.reconciler.obeyed();
                }
                Want::Follow(changes) => {
                    self.renew_keys(&changes)?;
                    self.obey(follow(changes)).await?;
                }
                Want::Obey(commands) => self.obey(commands).await?,
                Want::Start(orders) => {
                    let mut commands = Vec::with_capacity(orders.len());
                    for order in orders {
                        commands.push(self.start(order).await?);
                    }
                    self.obey(commands).await?;
                }
                Want::Wait(pause) => return Ok(pause),
            }
        }
    }

    async fn obey(&mut self, commands: Vec<Command>) -> Result<(), RolloutError> {
        self.exchange.obey(commands).await?;
        self.reconciler.obeyed();
        Ok(())
    }

    #[expect(clippy::too_many_lines, reason = "one match over all queries")]
    async fn ask(&mut self, query: Query) -> Result<Reply, StoreError> {
        let store = &self.store;
        Ok(match query {
            Query::RemoveNewcomers { ended, limit } => {
                let removed = store.remove_newcomers(ended, limit).await?;
                if removed > 0 {
                    tracing::info!(
                        removed,
                        "devices that came by themselves, and are registered no more, are forgotten"
                    );
                }
                Reply::NewcomersRemoved(removed)
            }
            Query::LaneChanges {
                after: (after, limits_after),
                limit,
            } => Reply::Lanes(LaneChanges {
                cells: store.cell_changes_since(after, limit).await?,
                limits: store.lane_limits_since(limits_after, limit).await?,
            }),
            Query::DeviceChanges {
                after,
                limit,
                begins,
            } => {
                if begins {
                    self.devices_look = self.signals.devices.begin();
                }
                let changes = store.device_changes_since(after, limit).await?;
                if changes.is_empty() {
                    self.signals.devices.through(self.devices_look);
                }
                Reply::Devices(changes)
            }
            Query::ForgetRemoved(endpoint) => {
                store.forget_removed(&endpoint).await?;
                Reply::Done
            }
            Query::Soaks { now, wait, limit } => {
                Reply::Soaks(store.soaks_due(now, wait, limit).await?)
            }
            Query::Heads(now) => Reply::Heads(store.task_heads(now).await?),
            Query::Move(moves) => {
                store.make_moves(&moves, self.clock.now().utc).await?;
                Reply::Done
            }
            Query::Join { task, after } => {
                let now = self.clock.now().utc;
                let joined = store.join(task, after.as_deref(), now).await?;
                if joined.devices > 0 {
                    tracing::info!(
                        task = task.0,
                        devices = joined.devices,
                        "devices have joined a task"
                    );
                }
                Reply::Joined(joined.next)
            }
            Query::Running { task, after, limit } => {
                Reply::Running(store.running_upgrades(task, after, limit).await?)
            }
            Query::ToStop(limit) => Reply::ToStop(store.upgrades_to_stop(limit).await?),
            Query::Due {
                sources,
                now,
                limit,
            } => Reply::Due(store.due_upgrades(&sources, now, limit).await?),
            Query::PutOff(put_off) => {
                store.put_off(&put_off, self.clock.now().utc).await?;
                Reply::Done
            }
            Query::NextTime(now) => Reply::NextTime(store.next_due(now).await?),
        })
    }

    /// Takes up the keys of devices, and ends what the old ones began.
    fn renew_keys(&self, changes: &[DeviceChange]) -> Result<(), ShardGone> {
        if let Some((identities, port)) = &self.mqtt {
            for change in changes {
                for device in identities.set(&change.endpoint, change.mqtt.as_ref()) {
                    port.kick(device);
                }
            }
        }
        let Some(keys) = &self.keys else {
            return Ok(());
        };
        let void: Vec<_> = (changes.iter())
            .flat_map(|change| keys.set(&change.endpoint, change.psk.as_ref()))
            .collect();
        if void.is_empty() {
            return Ok(());
        }
        self.exchange.end_identities(&void.into())
    }

    async fn start(&mut self, order: UpgradeOrder) -> Result<Command, StoreError> {
        let offers = self.packages.offers(order.task).await?;
        Ok(match offers {
            Some(offers) => Command::Start { order, offers },
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
    /// What tasks have for their devices, for as long as one of them holds it: that does not change.
    offers: HashMap<TaskId, Weak<Offers>>,
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
            offers: HashMap::new(),
            missing: HashSet::new(),
        }
    }

    /// What a task has for its devices; `None` when none of its packages can be had.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn offers(&mut self, task: TaskId) -> Result<Option<Arc<Offers>>, StoreError> {
        if let Some(offers) = self.offers.get(&task).and_then(Weak::upgrade) {
            return Ok(Some(offers));
        }
        self.offers.retain(|_, offers| offers.strong_count() > 0);
        let Some(TaskPackages { first, rules }) = self.store.task_packages(task).await? else {
            tracing::error!(
                task = task.0,
                "an upgrade refers to a task that does not exist"
            );
            return Ok(None);
        };
        let alone = rules.packages.is_empty().then_some(PackageRule {
            package_id: first,
            from: Fits::default(),
        });
        let mut list = Vec::with_capacity(rules.packages.len().max(1));
        for PackageRule { package_id, from } in rules.packages.into_iter().chain(alone) {
            let package = self.load(package_id).await?;
            let version = match &package {
                Some(package) => Some(package.version),
                None => (self.store.package(package_id).await?).map(|it| it.package.version),
            };
            let Some(version) = version else { continue };
            list.push(Offer {
                id: package_id,
                version,
                from,
                package,
            });
        }
        let offers = Offers::new(list, rules.steps, rules.allow_downgrade);
        let offers = offers.map(|offers| Arc::new(offers.under(rules.conditions)));
        if let Some(offers) = &offers {
            // what is missing is looked for anew with the next attempt
            if offers.is_whole() {
                self.offers.insert(task, Arc::downgrade(offers));
            }
        }
        Ok(offers)
    }

    /// The package with its segments; `None`, and a line in the log, when its file is missing or is not what
    /// was uploaded.
    ///
    /// # Errors
    /// The database cannot be read.
    async fn load(&mut self, id: PackageId) -> Result<Option<Arc<Package>>, StoreError> {
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
        let (frames, content) = match served(&self.files, &record).await {
            Ok(served) => served,
            Err(error) => {
                if self.missing.insert(id) {
                    tracing::error!(package = id.0, %error, "a package cannot be served: its upgrades fail");
                }
                return Ok(None);
            }
        };
        self.missing.remove(&id);
        let stored = record.package;
        let http = HttpPackage {
            sha256: stored.sha256,
        };
        let package = match stored.pcp.zip(frames) {
            Some((offer, frames)) => Package::over_pcp(offer, frames).and_over_http(http),
            None => Package::over_http(stored.version, stored.size_bytes, http),
        };
        let package = package.for_component(stored.component.as_deref());
        let package = Arc::new(match content {
            Some(content) => package.and_in_blocks(content),
            None => package,
        });
        self.packages.insert(id, Arc::downgrade(&package));
        Ok(Some(package))
    }
}

/// What of a package's file is served: segments over PCP, and its content in CoAP blocks. It is seen first that it is still what was
/// uploaded.
async fn served(
    files: &PackageFiles,
    record: &PackageRecord,
) -> Result<(Option<SegmentFrames>, Option<Content>), ReadError> {
    let frames = if record.package.pcp.is_some() {
        files.frames(record).await?
    } else {
        files.verify(record).await?;
        None
    };
    Ok((frames, files.content(record).await?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::UtcMillis,
        ledger::{AttributesChange, Binding, Change, DeviceIds, QueueMode, Registration},
        store::{
            Agenda as _, Catalog as _, Inventory as _, Ledger as _, NewDevice, Selection,
            SqliteStore, TaskChange,
            conformance::{new_package, new_task, next_batch},
        },
        task::{JOIN_INTERVAL, Membership},
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
            wake_ups: None,
            at,
        }
    }

    #[tokio::test]
    async fn devices_that_are_added_join_with_the_next_look() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(SqliteStore::open(dir.path()).await.unwrap());
        let clock = SystemClock::start();
        let now = clock.now().utc;
        let package = store.insert_package(&new_package("p", "V2", 1)).await;
        let mut new = new_task(&package.unwrap().record, Selection::All);
        new.created_at = now;
        new.rules.membership = Membership::Joining;
        let task = store.create_task(&new).await.unwrap().id;
        // no shard is there that could begin anything
        let pause = TaskChange::Pause { note: None };
        store.change_task(task, &pause, now).await.unwrap();
        let (exchange, _ends) = Exchange::new(DeviceIds::new([7; 32]), 1);
        let files = PackageFiles::open(dir.path()).await.unwrap();
        let signals = Arc::new(Signals::default());
        let mut rollout = Rollout::new(RolloutSetup {
            store: store.clone(),
            exchange,
            keys: None,
            mqtt: None,
            clock,
            signals: signals.clone(),
            health: Arc::new(Health::starting()),
            revision: i64::MAX,
            lane_revisions: (0, 0),
            open: false,
            join_interval: Duration::from_hours(1),
            soak_wait: Duration::from_hours(24),
            packages: PackageCache::new(store.clone(), files),
        });
        rollout.look().await.unwrap();
        let total = async || store.task(task).await.unwrap().unwrap().total();
        assert_eq!(total().await, 0);
        let device = NewDevice {
            endpoint: "d".to_owned(),
            product: "p".to_owned(),
            psk: None,
            mqtt: None,
            attributes: AttributesChange::default(),
            via: None,
        };
        store.add_devices(&[device], now).await.unwrap();
        signals.members.changed();
        let deadline = clock.now().instant + Duration::from_secs(20);
        while total().await == 0 && clock.now().instant < deadline {
            if signals.members.take() {
                rollout.reconciler.members_changed();
            }
            rollout.reconciler.look();
            let pause = rollout.look().await.unwrap();
            tokio::time::sleep(pause.min(Duration::from_millis(100))).await;
        }
        assert_eq!(total().await, 1);
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
            mqtt: None,
            clock,
            signals: Arc::default(),
            health: Arc::new(Health::starting()),
            revision: 0,
            lane_revisions: (0, 0),
            open: true,
            join_interval: JOIN_INTERVAL,
            soak_wait: Duration::from_hours(24),
            packages: PackageCache::new(store.clone(), files),
        });
        let query = Query::RemoveNewcomers {
            ended: UtcMillis(0)..now.before(Duration::from_hours(1)),
            limit: 9,
        };
        let removed = rollout.ask(query).await.unwrap();
        assert!(matches!(removed, Reply::NewcomersRemoved(1)));
        assert_eq!(store.device("gone").await.unwrap(), None);
        assert!(store.device("there").await.unwrap().is_some());
        // the engine is told as of every device that is removed
        let told = store.device_changes_since(0, 9).await.unwrap();
        assert!(matches!(&told[..], [gone] if gone.removed && gone.endpoint == "gone"));
    }
}
