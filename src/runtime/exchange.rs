use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use super::{gate::GateMessage, home_of, shard::Message};
use crate::{
    clock::Instant,
    config::Config,
    dtls::{DtlsSetup, Identity},
    engine::{
        Ask, Command, DeviceId, DeviceIds, DeviceRecord, Directory, Row, Seek, Seq, ShardId,
        Sought, Turn,
    },
    task::UpgradeId,
};

/// Reaches all shards, and knows which of them has which device.
///
/// Whatever is about a device is sent while the directory is locked, and messages to a shard arrive in their order. So
/// whoever follows the directory finds the device there, or a row that is on its way, behind which to look again.
pub struct Exchange {
    ids: DeviceIds,
    directory: Mutex<Directory>,
    /// Each stands for a datagram whose device is sought.
    errands: Arc<()>,
    shards: Vec<UnboundedSender<Message>>,
    gate: UnboundedSender<GateMessage>,
}

/// The other ends: those of the shards in their order, and that of the gate.
pub struct Ends {
    pub(super) shards: Vec<UnboundedReceiver<Message>>,
    pub(super) gate: UnboundedReceiver<GateMessage>,
}

/// Whoever gave a command waits until each of its clones is told that everything is committed that followed.
pub(super) struct Done {
    failed: UnboundedSender<ShardGone>,
    committed: bool,
}

impl Done {
    fn new() -> (Self, UnboundedReceiver<ShardGone>) {
        let (failed, failures) = mpsc::unbounded_channel();
        let committed = false;
        (Self { failed, committed }, failures)
    }

    pub(super) fn committed(mut self) {
        self.committed = true;
    }
}

impl Clone for Done {
    fn clone(&self) -> Self {
        Self {
            failed: self.failed.clone(),
            committed: false,
        }
    }
}

impl Drop for Done {
    fn drop(&mut self) {
        if !self.committed {
            let _ = self.failed.send(ShardGone); // nobody waits any more
        }
    }
}

/// Returns when all that has `done` is committed.
async fn all(done: Done, mut failures: UnboundedReceiver<ShardGone>) -> Result<(), ShardGone> {
    done.committed();
    match failures.recv().await {
        None => Ok(()),
        Some(gone) => Err(gone),
    }
}

/// A shard has stopped.
#[derive(Debug, thiserror::Error)]
#[error("the device side has stopped")]
pub struct ShardGone;

/// A datagram whose device is sought, from the shard that has heard it, until it is handled or dropped.
pub(super) struct Errand {
    pub(super) seek: Box<Seek>,
    /// Who has heard it.
    pub(super) for_shard: ShardId,
    _counted: Arc<()>,
}

/// What is known at once of a device that a shard seeks.
pub(super) enum Found {
    /// The shard will hear of it.
    Later,
    Now(Box<Seek>, Sought),
    /// Too many are sought. Devices repeat what goes unanswered.
    Never,
}

/// Datagrams whose devices are sought at once: some milliseconds' worth.
const MOST_SOUGHT: usize = 10_000;

impl Exchange {
    /// Between so many shards.
    pub fn new(ids: DeviceIds, shards: u8) -> (Arc<Self>, Ends) {
        let (shards, inboxes) = (0..shards).map(|_| mpsc::unbounded_channel()).unzip();
        let (gate, asks) = mpsc::unbounded_channel();
        let exchange = Self {
            ids,
            directory: Mutex::default(),
            errands: Arc::default(),
            shards,
            gate,
        };
        let ends = Ends {
            shards: inboxes,
            gate: asks,
        };
        (Arc::new(exchange), ends)
    }

    /// Has the engines obey `commands`, and returns when all that follows is committed. Nobody else gives commands about
    /// the same devices meanwhile.
    ///
    /// # Errors
    /// A shard has stopped.
    pub async fn obey(&self, commands: Vec<Command>) -> Result<(), ShardGone> {
        let addressed: Vec<_> = (commands.into_iter())
            .map(|command| (command.endpoint().map(|name| self.ids.of(name)), command))
            .collect();
        let (done, failures) = Done::new();
        {
            let mut directory = self.directory();
            let mut lots: Vec<Vec<Command>> = self.shards.iter().map(|_| Vec::new()).collect();
            for (device, command) in addressed {
                let shard = device.map_or(ShardId(0), |device| {
                    let known = directory.find(device);
                    known.unwrap_or_else(|| {
                        let shard = self.default_of(device);
                        if matches!(command, Command::AddDevice { .. }) {
                            directory.place(device, shard);
                        }
                        shard
                    })
                });
                lots[shard.index()].push(command);
            }
            self.send_lots(lots, &done)?;
        }
        all(done, failures).await
    }

    /// Gives the shards devices from before a restart, each to the one that will hear it.
    ///
    /// # Errors
    /// A shard has stopped.
    pub(super) async fn restore(&self, devices: Vec<DeviceRecord>) -> Result<(), ShardGone> {
        let named: Vec<_> = (devices.into_iter())
            .map(|device| (self.ids.of(&device.endpoint), device))
            .collect();
        let (done, failures) = Done::new();
        {
            let mut directory = self.directory();
            let mut lots: Vec<Vec<DeviceRecord>> = self.shards.iter().map(|_| Vec::new()).collect();
            for (id, device) in named {
                if directory.find(id).is_none() {
                    let shard = self.home_of(id, &device);
                    directory.place(id, shard);
                    lots[shard.index()].push(device);
                }
            }
            let lots = lots.into_iter().map(|lot| vec![Command::Restore(lot)]);
            self.send_lots(lots.collect(), &done)?;
        }
        all(done, failures).await
    }

    /// Every device from before the restart is there.
    ///
    /// # Errors
    /// A shard has stopped.
    pub(super) async fn restored(&self) -> Result<(), ShardGone> {
        let (done, failures) = Done::new();
        let lots = self.shards.iter().map(|_| vec![Command::Restored]);
        self.send_lots(lots.collect(), &done)?;
        all(done, failures).await
    }

    /// Ends everything that was encrypted for these identities.
    ///
    /// # Errors
    /// A shard has stopped.
    pub(super) fn end_identities(&self, identities: &Arc<[Identity]>) -> Result<(), ShardGone> {
        let mut told = Ok(());
        for shard in &self.shards {
            let message = Message::EndIdentities(identities.clone());
            told = told.and(shard.send(message).map_err(|_| ShardGone));
        }
        told
    }

    /// Other limits and paces apply from now on.
    pub fn configure(&self, config: &Arc<Config>) {
        let _ = self.gate.send(GateMessage::Configure(config.clone())); // it has stopped
        for shard in &self.shards {
            let _ = shard.send(Message::Configure(config.clone())); // it has stopped
        }
    }

    /// Handshakes go on with these certificates.
    pub fn renew_certificates(&self, setup: &Arc<DtlsSetup>) {
        for shard in &self.shards {
            let _ = shard.send(Message::Certificates(setup.clone())); // it has stopped
        }
    }

    /// Lets slots be granted: every slot from before the restart is known.
    pub fn open_gate(&self) {
        let _ = self.gate.send(GateMessage::Open(true)); // it has stopped
    }

    /// Stops admitting, and ends the shards' threads once everything emitted is committed and sent.
    pub fn stop(&self) {
        let _ = self.gate.send(GateMessage::Open(false)); // it has stopped
        for shard in &self.shards {
            let _ = shard.send(Message::Stop); // it is gone already
        }
    }

    pub(super) fn committed(&self, shard: ShardId, seq: Seq) {
        self.send(shard, Message::Committed(seq));
    }

    /// The store holds another truth about these upgrades. One whose device moves this moment is heard of again with its
    /// next change.
    pub(super) fn abandon(&self, upgrades: &[UpgradeId]) {
        for shard in &self.shards {
            for upgrade in upgrades {
                let upgrade = *upgrade;
                let _ = shard.send(Message::Obey(Command::Abandon { upgrade })); // it has stopped
            }
        }
    }

    pub(super) fn store_available(&self, available: bool) {
        let _ = self.gate.send(GateMessage::StoreAvailable(available)); // it has stopped
        for shard in &self.shards {
            let command = Command::StoreAvailable(available);
            let _ = shard.send(Message::Obey(command)); // it has stopped
        }
    }

    pub(super) fn ask(&self, ask: Ask) {
        let _ = self.gate.send(GateMessage::Ask(ask)); // it has stopped
    }

    /// Tells a device's engine what the gate says.
    pub(super) fn tell(&self, device: DeviceId, turn: Turn) {
        let directory = self.directory();
        let shard = directory.find(device);
        let shard = shard.unwrap_or_else(|| self.default_of(device));
        let command = Command::Turn { device, turn };
        self.send(shard, Message::Obey(command));
    }

    /// A command came to `here`, which does not have its device (any more). It is sent after it; `None` then.
    pub(super) fn pass_on(
        &self,
        here: ShardId,
        device: DeviceId,
        command: Command,
        done: Option<&Done>,
    ) -> Option<Command> {
        let directory = self.directory();
        let Some(shard) = directory.where_to(here, device) else {
            return Some(command);
        };
        let message = match done {
            Some(done) => Message::Commands {
                commands: vec![command],
                done: done.clone(),
            },
            None => Message::Obey(command),
        };
        self.send(shard, message);
        None
    }

    /// `here` has heard a device that it does not have.
    pub(super) fn seek(&self, now: Instant, here: ShardId, seek: Box<Seek>) -> Found {
        let mut directory = self.directory();
        let Some(shard) = directory.where_to(here, seek.device) else {
            let sought = directory.welcome(now, here, &seek);
            return Found::Now(seek, sought);
        };
        // the exchange itself has one
        if Arc::strong_count(&self.errands) > MOST_SOUGHT {
            return Found::Never;
        }
        let errand = Errand {
            seek,
            for_shard: here,
            _counted: self.errands.clone(),
        };
        self.send(shard, Message::Seek(errand));
        Found::Later
    }

    /// A device that was sought at `here` is not there (any more).
    pub(super) fn seek_on(&self, here: ShardId, errand: Errand) {
        let directory = self.directory();
        match directory.where_to(here, errand.seek.device) {
            // It came there meanwhile, and is found when it is looked for again.
            Some(shard) if shard == errand.for_shard => self.answer(errand, Sought::NotYet),
            Some(shard) => self.send(shard, Message::Seek(errand)),
            None => self.answer(errand, Sought::Nobody),
        }
    }

    /// What came of a device that was sought, without the device.
    pub(super) fn answer(&self, errand: Errand, sought: Sought) {
        let to = errand.for_shard;
        self.send(to, Message::Sought(errand, sought));
    }

    /// Gives a device to the shard that sought it.
    pub(super) fn hand_over(&self, row: Row, errand: Errand) {
        let mut directory = self.directory();
        let (device, to) = (errand.seek.device, errand.for_shard);
        directory.send(device, to);
        self.send(to, Message::Arrived(row, errand));
    }

    pub(super) fn send(&self, to: ShardId, message: Message) {
        let _ = self.shards[to.index()].send(message); // it has stopped
    }

    /// The device is there.
    pub(super) fn place(&self, device: DeviceId, shard: ShardId) {
        self.directory().place(device, shard);
    }

    /// Which shard has the device.
    pub(super) fn find(&self, endpoint: &str) -> Option<ShardId> {
        self.directory().find(self.ids.of(endpoint))
    }

    /// The device is no more.
    pub(super) fn forget(&self, device: DeviceId) {
        self.directory().remove(device);
    }

    pub(super) const fn ids(&self) -> &DeviceIds {
        &self.ids
    }

    /// The shard that will hear a device from before a restart.
    pub(super) fn home_of(&self, id: DeviceId, device: &DeviceRecord) -> ShardId {
        home_of(id, device, self.count())
    }

    /// Where a device is that was never heard.
    fn default_of(&self, device: DeviceId) -> ShardId {
        device.among(self.count())
    }

    fn count(&self) -> u8 {
        u8::try_from(self.shards.len()).unwrap_or(u8::MAX) // it was made for so many
    }

    fn send_lots(&self, lots: Vec<Vec<Command>>, done: &Done) -> Result<(), ShardGone> {
        for (shard, commands) in self.shards.iter().zip(lots) {
            if !commands.is_empty() {
                let done = done.clone();
                let message = Message::Commands { commands, done };
                shard.send(message).map_err(|_| ShardGone)?;
            }
        }
        Ok(())
    }

    pub(super) fn directory(&self) -> MutexGuard<'_, Directory> {
        // No change to it can stop half-way.
        self.directory
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
