//! The operator's side: devices come and go, upgrades begin and are stopped. And the state of before a restart comes back.

use std::{collections::hash_map::Entry, sync::Arc};

use super::{
    Effect, Engine, Out,
    device::{Device, Session, Talk},
};
use crate::{
    clock::{Instant, Now},
    engine::Command,
    ledger::{
        ActiveUpgrade, Cancellation, Change, DeviceId, DeviceRecord, Failure, Outcome, Protocol,
        Stage, StopReason, TakeBack, UpgradeId, UpgradeOrder, Via,
    },
    session::{self, Offers},
    tenant,
    upgrade::{Input, Negotiation},
};

impl Engine {
    /// Takes a command from the operator's side.
    pub fn handle_command(&mut self, now: Now, command: Command) {
        self.now = now;
        match command {
            Command::Restore(devices) => {
                for device in devices {
                    self.restore_device(now, &device);
                }
            }
            Command::AddDevice {
                endpoint,
                product,
                protocol,
                via,
                ..
            } => self.add_device(&endpoint, &product, protocol, &via),
            Command::RemoveDevice { endpoint } => self.remove_device(&endpoint),
            Command::Start { order, offers } => self.start(order, offers),
            Command::Fail { order, failure } => self.refuse_order(&order, failure),
            Command::Stop {
                endpoint,
                upgrade,
                reason,
            } => {
                let id = self.ids.of(&endpoint);
                let device = self.devices.get(&id).filter(|it| it.has_upgrade(upgrade));
                let stage = device.and_then(|it| it.session.as_ref()?.negotiation().stage());
                let goes_on =
                    reason == StopReason::TaskWindsDown && stage.is_some_and(Stage::is_transfer);
                if device.is_some() && !goes_on {
                    self.fire(id, Input::Stopped(reason));
                    self.set_alarm(id);
                }
            }
            Command::TakeBack {
                endpoint,
                upgrade,
                back,
            } => self.take_back_at(&endpoint, upgrade, back),
            Command::AskVersion { endpoint } => {
                let id = self.ids.of(&endpoint);
                if let Some(device) = self.devices.get_mut(&id) {
                    device.asked_what_it_runs = true;
                    self.ask_what_it_runs(id);
                }
            }
            Command::Abandon { upgrade } => self.abandon(upgrade),
            Command::Gate { device, order } => self.obey_gate(device, order),
            Command::Restored => self.all_read(),
            Command::StoreAvailable(_) => {}
        }
    }

    fn add_device(&mut self, endpoint: &str, product: &str, protocol: Protocol, via: &Via) {
        let id = self.ids.of(endpoint);
        if let Some(device) = self.devices.get(&id) {
            let same = device.protocol == protocol
                && tenant::owner(&device.product) == tenant::owner(product);
            if !same {
                self.loses_children(id);
            }
            if let Some(device) = self.devices.get_mut(&id) {
                device.product = product.into();
                device.protocol = protocol;
            }
            self.reach(id, via, false);
        } else {
            let device = Device::new(endpoint, product, protocol);
            self.devices.insert(id, device);
            self.settle(id, via, false);
        }
    }

    /// A device that was not there is reached so. `told`: its gateway knows that.
    fn settle(&mut self, id: DeviceId, via: &Via, told: bool) {
        if *via == Via::Itself {
            self.meet(id);
        } else {
            self.reach(id, via, told);
        }
        self.hear_what_was_early(id);
    }

    fn remove_device(&mut self, endpoint: &str) {
        let id = self.ids.of(endpoint);
        if !self.devices.contains_key(&id) {
            return;
        }
        self.fire(id, Input::Stopped(StopReason::DeviceRemoved));
        self.leave_gateway(id);
        self.loses_children(id);
        self.write_late_of_device(id);
        if let Some(alarm) = self.devices.remove(&id).and_then(|device| device.alarm) {
            self.alarms.remove(&(alarm, id));
        }
        self.effects.push_back(Effect::Left(id));
    }

    /// The upgrade is taken back then from now on, or never: at once, where that time has come.
    fn take_back_at(&mut self, endpoint: &str, upgrade: UpgradeId, back: Option<TakeBack>) {
        let id = self.ids.of(endpoint);
        let device = self.devices.get_mut(&id);
        let device = device.filter(|device| device.has_upgrade(upgrade));
        if let Some(session) = device.and_then(|device| device.session.as_mut()) {
            session.order.back = back;
            self.device_timeout(id);
        }
    }

    fn start(&mut self, mut order: UpgradeOrder, offers: Arc<Offers>) {
        let id = self.ids.of(&order.endpoint);
        order.further = self.further(id, order.further);
        let Some(device) = self.devices.get(&id) else {
            return self.refuse_order(&order, Failure::DeviceRemoved);
        };
        if device.session.is_some() {
            return; // the order is on its way already; it is given again when there is more to do
        }
        if order.back.is_some_and(|back| back.at <= self.now.utc) {
            return; // its window has ended meanwhile; it is given again in the next one
        }
        let Some(links) = &self.links else {
            return self.refuse_order(&order, Failure::NotServed);
        };
        let mut talk = Talk::new(device.protocol, links.counted, 0);
        talk.takes_large = self.product(id).iotda_large_downloads;
        let (refused, runs) = (order.clone(), device.version);
        let begun = Session::begin(self.now, order, offers, runs, &self.config, talk);
        let (session, change) = match begun {
            Ok(begun) => begun,
            Err(failure) => return self.refuse_order(&refused, failure),
        };
        self.holders.insert(session.order.upgrade, id);
        if let Some(device) = self.devices.get_mut(&id) {
            device.session = Some(Box::new(session));
        }
        self.persist(id, change);
        self.note_that_gateway_is_offline(id);
        self.plan_look(id);
        self.plan_reminder(id);
        self.set_alarm(id);
    }

    /// Chooses when a device that is connected is asked: not all in the same second.
    fn plan_look(&mut self, id: DeviceId) {
        if !self.is_connected(id) {
            return; // it is waited for
        }
        let at = self.next_turn();
        let device = self.devices.get_mut(&id);
        if let Some(session) = device.and_then(|device| device.session.as_mut()) {
            session.look_at = Some(at);
        }
    }

    /// When another device may be asked.
    pub(super) fn next_turn(&mut self) -> Instant {
        let at = self.next_look_us.max(self.now.instant.as_millis() * 1_000);
        self.next_look_us = at + self.spacing_us();
        Instant::from_millis(at.div_ceil(1_000))
    }

    /// From one turn to the next.
    pub(super) fn spacing_us(&self) -> u64 {
        1_000_000 / u64::from(self.config.admission.per_second.max(1))
    }

    /// Records that an attempt cannot begin.
    fn refuse_order(&mut self, order: &UpgradeOrder, failure: Failure) {
        self.counters.upgrades_failed += 1;
        let outcome = Outcome::Failed(failure);
        let facts = outcome.facts();
        self.persist_lazily(session::ended(order, outcome, facts, self.now.utc));
    }

    fn abandon(&mut self, upgrade: UpgradeId) {
        let Some(id) = self.holders.remove(&upgrade) else {
            return;
        };
        let device = self.devices.get_mut(&id);
        let Some(session) = device.and_then(|device| device.session.take()) else {
            return;
        };
        let ended = Negotiation::Ended(Outcome::Cancelled(Cancellation::TaskStopped));
        self.leave_lane(id, session.negotiation(), &ended);
        self.silence(id, session.exchange.token);
        // What was emitted before may have had the upgrade run in the store, if somebody had it tried again meanwhile.
        let attempt = session.order.attempt;
        let at = self.now.utc;
        self.persist_lazily(Change::LetGo {
            upgrade,
            attempt,
            at,
        });
        self.set_alarm(id);
    }

    /// Nothing of an offer goes on: what it is fetched with is void, and the connection needs no holding.
    pub(super) fn silence(&mut self, id: DeviceId, token: Option<crate::grants::Token>) {
        if let Some(token) = token {
            self.let_out(id, Out::Revoke(token));
            self.hold(id, false);
        }
    }

    /// Gives back a device that the store knows, unless it is there.
    pub fn restore_device(&mut self, now: Now, record: &DeviceRecord) {
        self.now = now;
        let id = self.ids.of(&record.endpoint);
        if let Entry::Vacant(place) = self.devices.entry(id) {
            let device = place.insert(Device::restored(record));
            // what it has said before may be lost
            device.asked_what_it_runs |= self.early.is_lossy();
            self.settle(id, &record.via, true);
        }
    }

    /// Gives back an upgrade that had begun: it goes on in its stage, with what is left of its limit. What its device was asked, it
    /// is asked again when it connects.
    pub fn restore_upgrade(&mut self, now: Now, mut upgrade: ActiveUpgrade, offers: Arc<Offers>) {
        self.now = now;
        let id = self.ids.of(&upgrade.order.endpoint);
        upgrade.order.further = self.further(id, upgrade.order.further);
        let Some(device) = self.devices.get(&id) else {
            return self.refuse_order(&upgrade.order, Failure::DeviceRemoved);
        };
        if device.session.is_some() {
            return;
        }
        let Some(package) = offers.package(upgrade.order.served.package).cloned() else {
            return self.refuse_order(&upgrade.order, Failure::PackageUnavailable);
        };
        let Some(links) = &self.links else {
            return self.refuse_order(&upgrade.order, Failure::NotServed);
        };
        let served_bytes = upgrade.progress.map_or(0, |progress| progress.done_bytes);
        let mut talk = Talk::new(device.protocol, links.counted, served_bytes);
        talk.takes_large = self.product(id).iotda_large_downloads;
        // it may have left
        talk.first_offer_after = Some(0);
        let evidence = device.evidence.of(package.version).copied();
        talk.begun |= session::has_begun(&upgrade, evidence.as_ref(), &self.config);
        let offers = (offers, package);
        let (session, actions) =
            Session::resume(now, upgrade, offers, None, evidence, &self.config, talk);
        let offered = session.negotiation().transfer().is_some();
        self.holders.insert(session.order.upgrade, id);
        if let Some(device) = self.devices.get_mut(&id) {
            device.session = Some(Box::new(session));
        }
        self.holds_still(id);
        self.queue_up(id);
        self.plan_reminder(id);
        if offered {
            self.grant(id);
        }
        if offered && self.is_connected(id) {
            // it has connected before this was read
            self.fire(id, Input::Connected);
            self.hold_while_offered(id);
            return self.set_alarm(id);
        }
        for action in actions {
            self.act(id, action);
        }
        self.set_alarm(id);
    }
}
