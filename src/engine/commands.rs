//! The operator's side: devices come and go, upgrades begin and are stopped. And the state of before a
//! restart comes back.

use std::sync::Arc;

use super::{
    ActiveUpgrade, Command, DeviceRecord, Effect, Engine, Location, UpgradeOrder,
    appointed::Appointed,
    device::{Device, HeardIn, HeardOver, Known, Session},
    drive::Asked,
    key::DeviceKey,
    objects::Route,
    profile::Profiles,
    registered::{Registered, Validation},
    told::ObjectSet,
};
use crate::{
    clock::{Instant, Now},
    ledger::{
        Cancellation, Change, Failure, Learnt, Outcome, Stage, StopReason, TakeBack, UpgradeId,
    },
    lwm2m::Objects,
    session::{self, Offers},
    upgrade::{EvidenceList, Input, Negotiation},
};

impl Engine {
    pub(super) fn obey(&mut self, command: Command) {
        match command {
            Command::Restore(devices) => {
                for device in devices {
                    self.restore_device(self.now, &device);
                }
            }
            Command::Restored => self.all_restored(),
            Command::AddDevice {
                endpoint,
                product,
                secure,
                via,
                ..
            } => {
                let key = self.insert_device(&endpoint, &product);
                self.device_mut(key).heard_over = HeardOver::of(secure);
                self.reach_through(key, &via);
                self.check_channel(key);
                self.settle(key);
            }
            Command::RemoveDevice { endpoint } => {
                if let Some(key) = self.find(&endpoint) {
                    self.fire(key, Input::Stopped(StopReason::DeviceRemoved));
                    let removed = self.remove_device(key);
                    self.effects.push_back(Effect::Left(removed.device.id));
                }
            }
            Command::Start { order, offers } => self.start(order, offers),
            Command::Fail { order, failure } => self.refuse_order(&order, failure),
            Command::Stop {
                endpoint,
                upgrade,
                reason,
            } => {
                if let Some(key) = self.find(&endpoint)
                    && self.has_upgrade(key, upgrade)
                    && !(reason == StopReason::TaskWindsDown && self.holds_slot(key))
                {
                    self.fire(key, Input::Stopped(reason));
                    self.settle(key);
                }
            }
            Command::TakeBack {
                endpoint,
                upgrade,
                back,
            } => self.take_back_at(&endpoint, upgrade, back),
            Command::AskVersion { endpoint } => {
                if let Some(key) = self.find(&endpoint) {
                    self.ask_what_it_runs(key);
                    self.settle(key);
                }
            }
            Command::Abandon { upgrade } => self.abandon(upgrade),
            Command::Gate { device, order } => self.obey_gate(device, order),
            Command::StoreAvailable(available) => self.store_available = available,
        }
    }

    /// The upgrade is taken back then from now on, or never: at once, where that time has come.
    fn take_back_at(&mut self, endpoint: &str, upgrade: UpgradeId, back: Option<TakeBack>) {
        if let Some(key) = self.find(endpoint)
            && self.has_upgrade(key, upgrade)
            && let Some(session) = self.device_mut(key).session.as_mut()
        {
            session.order.back = back;
            self.device_timeout(key);
        }
    }

    fn holds_slot(&self, key: DeviceKey) -> bool {
        let session = self.device(key).session.as_ref();
        let stage = session.and_then(|session| session.negotiation().stage());
        stage.is_some_and(Stage::holds_slot)
    }

    fn start(&mut self, order: UpgradeOrder, offers: Arc<Offers>) {
        let Some(key) = self.find(&order.endpoint) else {
            return self.refuse_order(&order, Failure::DeviceRemoved);
        };
        if self.device(key).session.is_some() {
            return; // the order is on its way already; it is given again when there is more to do
        }
        if order.back.is_some_and(|back| back.at <= self.now.utc) {
            return; // its window has ended meanwhile; it is given again in the next one
        }
        let runs = self.device(key).version();
        let refused = order.clone();
        let route = Route::default();
        let begun = Session::begin(self.now, order, offers, runs, &self.config, route);
        let (mut session, change) = match begun {
            Ok(begun) => begun,
            Err(failure) => return self.refuse_order(&refused, failure),
        };
        // An upgrade has one allowance, however many attempts it takes.
        let kept = (self.device(key).known.as_ref()).and_then(|known| known.kept);
        if let Some((_, kept)) = kept.filter(|(upgrade, _)| *upgrade == session.order.upgrade) {
            session.kept = kept; // what is written down may be more
        }
        self.holders.insert(session.order.upgrade, key);
        self.device_mut(key).session = Some(Box::new(session));
        self.persist(key, change);
        self.plan_look(key);
        self.set_alarm(key);
    }

    /// Chooses when to find out whether the device can be reached: devices that listen are not all
    /// asked in the same second.
    fn plan_look(&mut self, key: DeviceKey) {
        let window = self.listens(key);
        let now = self.now.instant;
        let device = self.device(key);
        if device.peer().is_none() || (device.sleeps() && !device.is_awake(now, window)) {
            return; // it is waited for
        }
        // the other engines look for theirs meanwhile
        let spacing = 1_000_000 * u64::from(self.engines.max(1))
            / u64::from(self.config.admission.per_second.max(1));
        let at = self.next_look_us.max(now.as_millis() * 1_000);
        self.next_look_us = at + spacing;
        if let Some(session) = self.device_mut(key).session.as_mut() {
            session.look_at = Some(Instant::from_millis(at.div_ceil(1_000)));
        }
    }

    /// Records that an attempt cannot begin.
    fn refuse_order(&mut self, order: &UpgradeOrder, failure: Failure) {
        self.counters.upgrades_failed += 1;
        let outcome = Outcome::Failed(failure);
        let facts = outcome.facts();
        self.persist_lazily(session::ended(order, outcome, facts, self.now.utc));
    }

    fn abandon(&mut self, upgrade: UpgradeId) {
        let Some(key) = self.holders.remove(&upgrade) else {
            return;
        };
        self.close_pull(key);
        self.store_traffic(key);
        if let Some(session) = self.device_mut(key).session.take() {
            let ended = Negotiation::Ended(Outcome::Cancelled(Cancellation::TaskStopped));
            self.move_slot(key, session.negotiation(), &ended);
            self.device_mut(key).link.cancel(|_| true);
            // What was emitted before may have had the upgrade run in the store, if somebody had it tried again meanwhile.
            let attempt = session.order.attempt;
            let at = self.now.utc;
            self.persist_lazily(Change::LetGo {
                upgrade,
                attempt,
                at,
            });
            self.ends_by_object(key, session.negotiation(), &session.exchange);
            self.pass_turn_of(key);
        }
    }

    /// Devices from before a restart are still to come: nobody is told meanwhile that it is unknown. Ended by
    /// [`Command::Restored`].
    pub fn expect_devices(&mut self) {
        self.restoring = Some(self.now.instant);
    }

    /// Every device has the address that it had, so that what was held back leaves.
    fn all_restored(&mut self) {
        self.restoring = None;
        let holders: Vec<DeviceKey> = self.holders.values().copied().collect();
        for key in holders {
            self.settle(key);
        }
    }

    /// Goes on with what was learnt of products before a restart. Call before anything is restored.
    pub fn restore_learnt(&mut self, learnt: &[Learnt]) {
        for learnt in learnt {
            if let Learnt::Product { product, habits } = learnt {
                self.profiles.restore(product, habits);
            }
        }
    }

    /// Gives back a device that the store knows, unless it is there. Call for those that have upgrades before
    /// [`restore_upgrade`](Self::restore_upgrade).
    pub fn restore_device(&mut self, now: Now, record: &DeviceRecord) {
        self.now = now;
        if self.find(&record.endpoint).is_some() {
            return;
        }
        let key = self.insert_device(&record.endpoint, &record.product);
        self.device_mut(key).heard_over = HeardOver::of(record.secure);
        let heard_at = record.last_heard_at.map(|at| now.instant_at(at));
        let registration = record.registration.as_ref();
        // A device with a location that is none of ours would be refused there, and registers anew.
        let id = self.device(key).id;
        let location = registration
            .and_then(|known| Location::parse(known.location.as_bytes()))
            .filter(|location| location.device == id);
        if let (Some(registration), Some(location)) = (registration, location) {
            // Of two devices at one address, the one heard later is there.
            let other = self.devices.by_peer(registration.peer);
            let elsewhere = other.is_some_and(|other| self.device(other).heard_at > heard_at);
            // Nor does an association outlive the restart, and the plain port is closed to who encrypts.
            let displaced = elsewhere || registration.peer.secured || record.secure;
            let stored_until = now.instant_at(registration.expires_at);
            let announced = registration.announced.as_deref();
            let links = announced.map_or("", |known| known.objects.as_str());
            let mut registered = Registered {
                nonce: location.registration,
                peer: registration.peer,
                message_id: registration.message_id,
                displaced,
                validation: Validation::Valid, // most were, and an upgrade may wait for an answer
                lifetime_s: registration.lifetime_s,
                since: registration.registered_at,
                expires: stored_until,
                stored_until: Some(stored_until),
                supposed: true,
                queue_mode: registration.queue_mode,
                lwm2m_version: registration.lwm2m_version,
                binding: registration.binding,
                objects: ObjectSet::of_links(links),
            };
            // It may have been renewed since it was written.
            registered.expires = registered.expires + registered.unwritten_at_most();
            let displaced = self.devices.register(key, Some(registered));
            self.has_left_its_address(displaced);
            // The observation lives on in the device.
            self.device_mut(key).observing = true;
        }
        let device: &mut Device = self.device_mut(key);
        device.heard_at = heard_at;
        device.heard_in = HeardIn::EarlierRun;
        device.known = known(now, record).map(Box::new);
        self.reach_through(key, &record.via);
        let device = self.device_mut(key);
        let announced = registration.and_then(|known| known.announced.as_ref());
        device.set_root(announced.and_then(|known| known.root_path.as_deref()));
        let links = announced.map_or("", |known| known.objects.as_str());
        if has_instances(links) {
            device.set_instances(&Objects::parse(links.as_bytes()));
        }
        self.set_alarm(key);
    }

    /// Gives back an upgrade that had begun: it goes on in its stage, with what is left of its limit.
    /// The gate is to be closed until every engine's are there.
    pub fn restore_upgrade(&mut self, now: Now, upgrade: ActiveUpgrade, offers: Arc<Offers>) {
        self.now = now;
        let Some(key) = self.find(&upgrade.order.endpoint) else {
            return self.refuse_order(&upgrade.order, Failure::DeviceRemoved);
        };
        if self.device(key).session.is_some() {
            return;
        }
        let Some(package) = offers.package(upgrade.order.served.package).cloned() else {
            return self.refuse_order(&upgrade.order, Failure::PackageUnavailable);
        };
        let done_bytes = upgrade.progress.map_or(0, |it| it.done_bytes);
        let transfers = upgrade.stage.stage.is_transfer();
        let coverage = self.device(key).coverage();
        let evidence = self.evidence_of(key, package.version);
        let route = self.restored_route(key, &package);
        let of_device = route.tells_of_device(&package);
        let runs = self.device(key).version().filter(|_| of_device);
        let (mut session, actions) = Session::resume(
            now,
            upgrade,
            (offers, package),
            coverage,
            evidence,
            &self.config,
            route,
        );
        session.resumes_on(runs);
        let adaptive = self.profile(key).adaptive;
        if let Some((cell, hold)) = session.holds(self.habits(key).install(), adaptive) {
            self.ask(key, cell, hold);
        }
        self.holders.insert(session.order.upgrade, key);
        self.device_mut(key).session = Some(Box::new(session));
        self.queue_up(key);
        if transfers && self.is_transferring_by_object(key) {
            self.reopen_pull(key, done_bytes);
        }
        for action in actions {
            let asked = self.act(key, action);
            let session = self.device_mut(key).session.as_mut();
            if let (Asked::Now(tag), Some(session)) = (asked, session) {
                let again = session::asked_again(action);
                session.correspondence.announce(tag.message(None), again);
            }
        }
        if self.stage(key) == Some(Stage::WaitingForDevice) {
            self.plan_look(key);
        }
        self.settle(key);
    }
}

/// Whether links may tell of instances by which a device is upgraded: few do, and a million devices come in within seconds.
fn has_instances(links: &str) -> bool {
    links.contains("</9") || links.contains("</33629")
}

/// What is known of a device besides its registration.
fn known(now: Now, record: &DeviceRecord) -> Option<Known> {
    let any = record.coverage.is_some()
        || record.version.is_some()
        || !record.evidence.is_empty()
        || record.wake_ups.is_some()
        || record.appointment.is_some();
    any.then(|| Known {
        product: Some(Profiles::tag(&record.product)),
        coverage: (record.coverage).map(|r| (r.coverage, now.instant_at(r.at))),
        version: record.version,
        evidence: EvidenceList::restored(record.evidence.clone()),
        wake_ups: record.wake_ups,
        appointed: (record.appointment).map(|it| Box::new(Appointed::restored(now, it))),
        ..Known::default()
    })
}
