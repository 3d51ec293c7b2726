//! One shard: its engine, what waits for commits, and what is on its way to others.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use super::{
    committer::Emitted,
    directory::{Directory, Found},
    held::Held,
    machine::Machine,
    message::{Done, Errand, Message, Post},
    outbox::{Outbox, Outgoing},
};
use crate::{
    clock::{Instant, Now, UtcMillis},
    coap::Peer,
    config::Config,
    engine::{
        About, Command, Counters, Effect, Fetched, Report, Seek, Seq, ShardId, Sought, Speaker,
        Tables, Whose,
    },
    grants::Served,
    ledger::{Change, DeviceId, DeviceIds},
    mqtt::{self, endpoint::Event, engine::Out},
    session::GateAsk,
};

/// What a device has said longer ago than this does not tell where it is.
const WORTH_A_MOVE: Duration = Duration::from_secs(10);

/// What is around a shard: whatever it wants done is done here, in order.
pub trait Surroundings {
    /// See [`Done`].
    type Done: Done;

    /// Has the directory and the way to the shards at hand for `what`. Nobody else has them meanwhile.
    fn route<R>(&mut self, what: impl FnOnce(&mut Directory, &mut dyn Post<Self::Done>) -> R) -> R;

    /// Takes a change to the committer.
    fn persist(&mut self, emitted: Emitted);

    /// Sends a datagram.
    fn send(&mut self, outgoing: Outgoing);

    /// Lets out what a device over MQTT is told, or what any device is granted. Whoever serves none of them is never asked.
    fn let_out(&mut self, _out: Out) {}

    /// That is to be let out, once changes up to `after` are committed.
    fn lets_out(&mut self, _from: ShardId, _out: &Out, _after: &mut Seq) {}

    /// Tells the operator.
    fn report(&mut self, report: &Report);

    /// Tells the gate.
    fn ask(&mut self, ask: GateAsk);

    /// A datagram is about to be sent, once changes up to `after` are committed.
    fn transmits(&mut self, _from: ShardId, _outgoing: &mut Outgoing, _after: &mut Seq) {}

    /// A datagram that depends on that change waits for it, or does not although changes up to `committed` only are
    /// committed.
    fn offered(&mut self, _from: ShardId, _after: Seq, _committed: Seq, _held: bool) {}

    /// A datagram that waits for the change never leaves: a change of its upgrade was refused.
    fn dropped(&mut self, _from: ShardId, _after: Seq) {}

    /// So many datagrams leave that have waited for the change.
    fn released(&mut self, _from: ShardId, _seq: Seq, _count: usize) {}
}

/// One shard. It has the devices that are heard on it.
#[derive(Debug)]
pub struct Core<D> {
    id: ShardId,
    ids: DeviceIds,
    machine: Machine,
    outbox: Outbox,
    /// What devices over MQTT are told, and what devices are granted, by the change for which it waits.
    held: Held,
    /// The newest change that the engine emitted.
    newest: Seq,
    committed: Seq,
    /// What waits until the changes up to a number are committed.
    waiting: VecDeque<(Seq, Waiting<D>)>,
    /// What brings each of the devices among it elsewhere, and since when that waits.
    going: HashMap<DeviceId, (Instant, Errand)>,
    figures: Figures,
}

/// What a shard has counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Figures {
    /// Datagrams for which the outbox had no room.
    pub unsent: u64,
    /// Datagrams left alone because too many devices were sought.
    pub unsought: u64,
}

/// What waits for a commit, besides datagrams.
#[derive(Debug)]
enum Waiting<D> {
    Commands(D),
    /// The device goes to whoever has asked for it.
    Device(DeviceId),
}

impl<D: Done> Core<D> {
    /// A shard with this engine, whose effects are not taken yet.
    pub fn new(id: ShardId, ids: DeviceIds, engine: impl Into<Machine>) -> Self {
        Self {
            id,
            ids,
            machine: engine.into(),
            outbox: Outbox::default(),
            held: Held::default(),
            newest: 0,
            committed: 0,
            waiting: VecDeque::new(),
            going: HashMap::new(),
            figures: Figures::default(),
        }
    }

    // ---- what comes in

    /// A datagram. What follows is done by the next [`drain`](Self::drain), so that several may be taken before.
    pub fn hear(&mut self, now: Now, speaker: &Speaker<'_>, bytes: &[u8]) {
        if let Machine::Coap(engine) = &mut self.machine {
            engine.handle_datagram(now, speaker, bytes);
        }
    }

    /// Something has happened at the MQTT server. The next [`drain`](Self::drain) does what follows.
    pub fn hear_of(&mut self, now: Now, event: Event) {
        let Machine::Mqtt(engine) = &mut self.machine else {
            return;
        };
        let untold = match &event {
            Event::Connected { device, .. } if self.held.connected(*device) => Some(*device),
            Event::Disconnected { conn, .. } => {
                self.held.disconnected(*conn);
                None
            }
            _ => None,
        };
        engine.handle_event(now, event);
        if let Some(device) = untold {
            engine.unsent(now, device);
        }
    }

    /// A message to a device over MQTT could not be sent. The next [`drain`](Self::drain) does what follows.
    pub fn unsent(&mut self, now: Now, device: DeviceId) {
        if let Machine::Mqtt(engine) = &mut self.machine {
            engine.unsent(now, device);
        }
    }

    /// The broker that devices over MQTT are connected to can be reached again. The next [`drain`](Self::drain) does what follows.
    pub fn broker_reached(&mut self, now: Now) {
        if let Machine::Mqtt(engine) = &mut self.machine {
            engine.broker_reached(now);
        }
    }

    /// So much of a package was served to a device over HTTP. The next [`drain`](Self::drain) does what follows.
    pub fn served(&mut self, now: Now, served: &Served) {
        self.machine.served(now, served);
    }

    /// The server stops. The next [`drain`](Self::drain) has written down what is known and was not yet.
    pub fn stopping(&mut self, now: Now) {
        if let Machine::Mqtt(engine) = &mut self.machine {
            engine.stopping(now);
        }
    }

    /// The association with whoever is at that address has ended. The next [`drain`](Self::drain) does what follows.
    pub fn association_ended(&mut self, now: Now, peer: Peer) {
        if let Machine::Coap(engine) = &mut self.machine {
            engine.association_ended(now, peer);
        }
    }

    /// Somebody else has that address now. The next [`drain`](Self::drain) does what follows.
    pub fn association_displaced(&mut self, now: Now, peer: Peer) {
        if let Machine::Coap(engine) = &mut self.machine {
            engine.association_displaced(now, peer);
        }
    }

    /// Whoever was behind the association at `from` is where `speaker` is now. What it says from there is to be told after this.
    pub fn association_moved(&mut self, now: Now, from: Peer, speaker: &Speaker<'_>) {
        if let Machine::Coap(engine) = &mut self.machine {
            engine.association_moved(now, from, speaker);
        }
    }

    /// Other limits apply from now on. The next [`drain`](Self::drain) does what follows.
    pub fn configure(&mut self, now: Now, config: Arc<Config>) {
        self.machine.configure(now, config);
    }

    /// Does what is due. The next [`drain`](Self::drain) does what follows.
    pub fn handle_timeout(&mut self, now: Now) {
        self.machine.handle_timeout(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.machine.poll_timeout()
    }

    /// Takes a message, and does what follows.
    pub fn take<S: Surroundings<Done = D>>(
        &mut self,
        now: Now,
        message: Message<D>,
        around: &mut S,
    ) {
        match message {
            Message::Commands { commands, done } => {
                for command in commands {
                    self.obey(now, command, Some(&done), around);
                }
                self.drain(now, around);
                let waiting = Waiting::Commands(done);
                self.waiting.push_back((self.newest, waiting));
                self.look_at_waiting(now, around);
            }
            Message::Obey(command) => self.obey(now, command, None, around),
            Message::Committed(seq) => self.committed_up_to(now, seq, around),
            Message::Served(served) if self.machine.has(served.device) => {
                self.machine.served(now, &served);
            }
            Message::Served(served) => {
                let here = self.id;
                around.route(|directory, post| directory.pass_served(here, served, post));
            }
            Message::Seek(errand) => self.sought(now, errand, around),
            Message::Sought(errand, sought) => {
                self.handle_sought(now, &errand.seek, &sought, around);
            }
            Message::Arrived(row, errand) => {
                let (device, here) = (errand.seek.device, self.id);
                // only engines of this kind give devices to each other
                if let Machine::Coap(engine) = &mut self.machine {
                    engine.take_in(now, row);
                    around.route(|directory, _| directory.place(device, here));
                    engine.handle_sought(now, &errand.seek, &Sought::NotYet);
                }
            }
            Message::Fetched(fetched) => self.fetched(now, fetched, around),
            Message::Recall(token) => {
                if let Machine::Coap(engine) = &mut self.machine {
                    engine.recall(now, token);
                }
            }
        }
        self.drain(now, around);
    }

    /// A device was served so much of its package elsewhere. It may have moved on.
    fn fetched<S: Surroundings<Done = D>>(
        &mut self,
        now: Now,
        fetched: Box<Fetched>,
        around: &mut S,
    ) {
        let here = self.id;
        match &mut self.machine {
            Machine::Coap(engine) if engine.has(fetched.token.device()) => {
                engine.fetched(now, &fetched);
            }
            _ => around.route(|directory, post| directory.tell_fetched(here, fetched, post)),
        }
    }

    /// Obeys a command, unless it is about a device that has moved on.
    fn obey<S: Surroundings<Done = D>>(
        &mut self,
        now: Now,
        command: Command,
        done: Option<&D>,
        around: &mut S,
    ) {
        let device = match &command {
            Command::Gate { device, .. } => Some(*device),
            command => command.endpoint().map(|name| self.ids.of(name)),
        };
        let elsewhere = device.filter(|device| !self.machine.has(*device));
        let here = self.id;
        let command = match elsewhere {
            Some(device) => {
                around.route(|directory, post| directory.pass_on(here, device, command, done, post))
            }
            None => Some(command),
        };
        let untold = match &command {
            Some(Command::Abandon { upgrade }) => {
                for dropped in self.outbox.abandoned(*upgrade) {
                    let len = dropped.outgoing.datagram.len();
                    (self.machine).unsent(dropped.about, len, dropped.outgoing.peer.secured);
                    around.dropped(here, dropped.after);
                }
                self.held.abandoned(*upgrade)
            }
            _ => BTreeSet::new(),
        };
        if let Some(command) = command {
            self.machine.handle_command(now, command);
        }
        for device in untold {
            self.unsent(now, device);
        }
    }

    fn committed_up_to<S: Surroundings<Done = D>>(&mut self, now: Now, seq: Seq, around: &mut S) {
        self.committed = self.committed.max(seq);
        self.machine.committed(self.committed);
        let released = self.outbox.committed(seq);
        around.released(self.id, seq, released.len());
        for outgoing in released {
            around.send(outgoing);
        }
        for out in self.held.committed(self.committed) {
            around.let_out(out);
        }
        self.look_at_waiting(now, around);
    }

    fn look_at_waiting<S: Surroundings<Done = D>>(&mut self, now: Now, around: &mut S) {
        // What goes back has waited for a change that was emitted later, and is looked at when that is committed.
        while let Some((_, waiting)) = self.waiting.pop_front_if(|(seq, _)| *seq <= self.committed)
        {
            match waiting {
                Waiting::Commands(done) => done.committed(),
                Waiting::Device(device) => {
                    if let Some((since, errand)) = self.going.remove(&device)
                        && now.instant.since(since) < WORTH_A_MOVE
                    {
                        self.sought(now, errand, around);
                    }
                }
            }
        }
    }

    /// Another shard has heard a device that should be here. It goes there once what it waits for is committed: nothing
    /// is said to it before, whoever says it.
    fn sought<S: Surroundings<Done = D>>(&mut self, now: Now, errand: Errand, around: &mut S) {
        let Machine::Coap(engine) = &mut self.machine else {
            return self.sought_over_mqtt(now, errand, around);
        };
        if errand.for_shard == self.id {
            // The device was on its way here.
            return engine.handle_sought(now, &errand.seek, &Sought::NotYet);
        }
        let answer = match engine.whose(now, &errand.seek) {
            Whose::NotHere => {
                let here = self.id;
                return around
                    .route(|directory, post| directory.seek_on(now.instant, here, errand, post));
            }
            Whose::NotRegistered => Sought::Nobody,
            Whose::NotTheirs(endpoint) => Sought::NotTheirs(endpoint),
            Whose::Lent(lease) => Sought::Lent(lease),
            Whose::Repeated => {
                return engine.handle_sought(now, &errand.seek, &Sought::NotYet);
            }
            Whose::Theirs(_) if !errand.seek.brings() => Sought::Elsewhere,
            Whose::Theirs(after) if after > self.committed => {
                let device = errand.seek.device;
                // It is where it was heard last.
                if (self.going.insert(device, (now.instant, errand))).is_none() {
                    let waiting = Waiting::Device(device);
                    self.waiting.push_back((self.newest, waiting));
                }
                return;
            }
            Whose::Theirs(_) => {
                if let Some(row) = engine.give_away(now, &errand.seek) {
                    around.route(|directory, post| directory.hand_over(row, errand, post));
                }
                return;
            }
        };
        let to = errand.for_shard;
        around.route(|_, post| post.post(to, Message::Sought(errand, answer)));
    }

    /// Somebody speaks `CoAP` in the name of a device that speaks MQTT: there is no such device over `CoAP`.
    fn sought_over_mqtt<S: Surroundings<Done = D>>(
        &self,
        now: Now,
        errand: Errand,
        around: &mut S,
    ) {
        let here = self.id;
        if !self.machine.has(errand.seek.device) {
            return around
                .route(|directory, post| directory.seek_on(now.instant, here, errand, post));
        }
        let to = errand.for_shard;
        around.route(|_, post| post.post(to, Message::Sought(errand, Sought::Nobody)));
    }

    // ---- what goes out

    /// Does what the engine wants done.
    pub fn drain<S: Surroundings<Done = D>>(&mut self, now: Now, around: &mut S) {
        while let Machine::Coap(engine) = &mut self.machine
            && let Some(effect) = engine.poll_effect()
        {
            match effect {
                Effect::Persist { seq, change } => self.persist(seq, change, around),
                Effect::Transmit {
                    peer,
                    datagram,
                    after,
                    about,
                } => self.transmit(Outgoing { peer, datagram }, (after, about), around),
                Effect::Grant { grant, after } => {
                    self.let_out(Out::Grant(grant), after, around);
                }
                Effect::Revoke { token, after } => {
                    self.let_out(Out::Revoke(token), after, around);
                }
                Effect::Report(report) => around.report(&report),
                Effect::Ask(ask) => around.ask(ask),
                Effect::Seek(seek) => {
                    let here = self.id;
                    let found = around
                        .route(|directory, post| directory.seek(now.instant, here, seek, post));
                    match found {
                        Found::Now(seek, sought) => {
                            self.handle_sought(now, &seek, &sought, around);
                        }
                        Found::Later => {}
                        Found::Never => self.figures.unsought += 1,
                    }
                }
                Effect::Fetched(fetched) => {
                    let here = self.id;
                    around.route(|directory, post| directory.tell_fetched(here, fetched, post));
                }
                Effect::Recall(token) => {
                    let here = self.id;
                    around.route(|directory, post| directory.recall(here, token, post));
                }
                Effect::Left(device) => self.left(device, around),
            }
        }
        self.drain_mqtt(now, around);
    }

    /// Does what the engine of devices over MQTT wants done.
    fn drain_mqtt<S: Surroundings<Done = D>>(&mut self, now: Now, around: &mut S) {
        use mqtt::engine::Effect;

        while let Machine::Mqtt(engine) = &mut self.machine
            && let Some(effect) = engine.poll_effect()
        {
            match effect {
                Effect::Persist { seq, change } => self.persist(seq, change, around),
                Effect::Out { out, after } => {
                    let device = match &out {
                        Out::Publish { device, .. } => Some(*device),
                        _ => None,
                    };
                    if self.let_out(out, after, around)
                        && let Some(device) = device
                    {
                        self.unsent(now, device);
                    }
                }
                Effect::Report(report) => around.report(&report),
                Effect::Ask(ask) => around.ask(ask),
                Effect::Left(device) => self.left(device, around),
            }
        }
    }

    /// Lets that out, once changes up to `after` are committed. Tells whether something that was held before has made room for it.
    fn let_out<S: Surroundings<Done = D>>(
        &mut self,
        out: Out,
        mut after: Seq,
        around: &mut S,
    ) -> bool {
        let needed = after;
        around.lets_out(self.id, &out, &mut after);
        if after > self.committed {
            return self.held.hold(after, out);
        }
        around.offered(self.id, needed, self.committed, false);
        self.held.leaves(&out);
        around.let_out(out);
        false
    }

    fn persist<S: Surroundings<Done = D>>(&mut self, seq: Seq, change: Change, around: &mut S) {
        debug_assert_eq!(seq, self.newest + 1, "changes are numbered one by one");
        self.newest = seq;
        let shard = self.id;
        around.persist(Emitted { shard, seq, change });
    }

    /// A device is no more here. It may be elsewhere, where the operator has said that it speaks something else.
    fn left<S: Surroundings<Done = D>>(&self, device: DeviceId, around: &mut S) {
        let here = self.id;
        around.route(|directory, _| directory.remove_from(here, device));
    }

    /// Takes a datagram again whose device was sought. A newcomer's place is given back when it did not come in after all.
    fn handle_sought<S: Surroundings<Done = D>>(
        &mut self,
        now: Now,
        seek: &Seek,
        sought: &Sought,
        around: &mut S,
    ) {
        if let Machine::Coap(engine) = &mut self.machine {
            engine.handle_sought(now, seek, sought);
        }
        if *sought == Sought::Newcomer && !self.machine.has(seek.device) {
            around.route(|directory, _| directory.remove(seek.device));
        }
    }

    fn transmit<S: Surroundings<Done = D>>(
        &mut self,
        mut outgoing: Outgoing,
        (mut after, about): (Seq, Option<About>),
        around: &mut S,
    ) {
        let needed = after;
        around.transmits(self.id, &mut outgoing, &mut after);
        // One that finds the outbox full is dropped: whoever misses it repeats.
        match self.outbox.offer(outgoing, after, about) {
            Ok(Some(outgoing)) => {
                around.offered(self.id, needed, self.committed, false);
                around.send(outgoing);
            }
            Ok(None) => around.offered(self.id, needed, self.committed, true),
            Err(unsent) => {
                self.figures.unsent += 1;
                if let Some(about) = about {
                    (self.machine).unsent(about, unsent.datagram.len(), unsent.peer.secured);
                }
            }
        }
    }

    // ---- what it has

    /// Which one it is.
    pub const fn id(&self) -> ShardId {
        self.id
    }

    /// Whether everything that was emitted is committed.
    pub const fn is_committed(&self) -> bool {
        self.committed >= self.newest
    }

    /// When a device that is here was heard last: by any message.
    pub fn last_heard(&self, now: Now, device: DeviceId) -> Option<UtcMillis> {
        self.machine.last_heard(now, device)
    }

    /// How a device that is here is connected over MQTT.
    pub fn connected(&self, now: Now, device: DeviceId) -> Option<mqtt::engine::Connected> {
        self.machine.connected(now, device)
    }

    /// What the engine has counted.
    pub const fn counters(&self) -> &Counters {
        self.machine.counters()
    }

    /// What the shard has counted besides.
    pub const fn figures(&self) -> Figures {
        self.figures
    }

    /// Devices that may register, and those of them that have an upgrade under way.
    pub fn population(&self) -> (usize, usize) {
        self.machine.population()
    }

    /// How large the engine's tables are.
    pub fn tables(&self) -> Tables {
        self.machine.tables()
    }

    /// Changes that are not committed, as far as it knows.
    pub fn uncommitted(&self) -> usize {
        usize::try_from(self.newest - self.committed).unwrap_or(usize::MAX)
    }

    /// Datagrams and messages that wait for a commit.
    pub fn held(&self) -> usize {
        self.outbox.len() + self.held.len()
    }

    /// Whether a device is to go elsewhere, or somebody is to hear of a command, once something is committed.
    pub fn waits_for_commits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The engine, for a start with the state of before a restart.
    pub const fn engine_mut(&mut self) -> &mut Machine {
        &mut self.machine
    }
}

#[cfg(test)]
mod tests;
