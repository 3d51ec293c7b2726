//! What the gate is told of a device that waits for a slot, and what it has the engine do.

use std::time::Duration;

use super::{Change, Effect, Engine, asked::Tag, key::DeviceKey};
use crate::{
    clock::Instant,
    ledger::{DeviceId, Happened, Lane, Learnt, Repeated, Stage},
    session::{Comes, GateAsk, GateOrder, GateRequest, Habits, Presence, Standing, StandingAsked},
    upgrade::{Input, Negotiation, Readiness},
};

/// A device whose coverage cannot be measured is considered again after the age that coverage may have, or after this, and
/// after twice as long each further time.
const SHORTEST_PUT_OFF: Duration = Duration::from_mins(1);
const MOST_PUT_OFF: u8 = 4;
/// How long the gate is waited for.
const ANSWERED_WITHIN: Duration = Duration::from_secs(5);

impl Engine {
    pub(super) fn ask(&mut self, key: DeviceKey, lane: Lane, request: GateRequest) {
        let device = self.device(key).id;
        self.ask_about(device, lane, request);
    }

    fn ask_about(&mut self, device: DeviceId, lane: Lane, request: GateRequest) {
        self.effects.push_back(Effect::Ask(GateAsk {
            device,
            lane,
            request,
        }));
    }

    /// The lane in whose queue the device stands.
    fn queue(&self, key: DeviceKey) -> Option<Lane> {
        let session = self.device(key).session.as_ref()?;
        session.negotiation().queued_in()
    }

    /// Has the device wait for a slot, as its upgrade says.
    pub(super) fn queue_up(&mut self, key: DeviceKey) {
        let presence = self.presence(key, self.stage(key));
        let install = self.habits(key).install();
        let adaptive = self.profile(key).adaptive;
        let session = self.device_mut(key).session.as_mut();
        let waits = session.and_then(|session| {
            let waits = session.waits(presence, install, adaptive)?;
            Some((session, waits))
        });
        let Some((session, (lane, wait))) = waits else {
            return;
        };
        session.told = Some(presence);
        self.ask(key, lane, wait);
    }

    /// Tells the gate what is news of a device that waits.
    pub(super) fn tell_presence(&mut self, key: DeviceKey) {
        let device = self.device(key);
        let Some(session) = device.session.as_ref() else {
            return;
        };
        let Some(lane) = session.negotiation().queued_in() else {
            return;
        };
        let presence = self.presence(key, session.negotiation().stage());
        if (session.told.as_ref()).is_some_and(|told| told.is_much_like(&presence)) {
            return;
        }
        if let Some(session) = self.device_mut(key).session.as_mut() {
            session.told = Some(presence);
        }
        self.ask(key, lane, GateRequest::Presence(presence));
    }

    /// Does what the gate says, as far as it still makes sense.
    pub(super) fn obey_gate(&mut self, id: DeviceId, order: GateOrder) {
        let key = self.devices.by_id(id);
        let (lane, order) = match (order, key) {
            (GateOrder::Standing(standing), key) => {
                return self.stands(key, standing);
            }
            (GateOrder::WriteDown(pace), _) => {
                let learnt = Box::new(Learnt::Download(pace));
                return self.persist_lazily(Change::Learnt(learnt));
            }
            (GateOrder::Admit { lane, active }, key) => {
                return match key {
                    Some(key) => self.admitted(key, lane, active),
                    // it is no more
                    None => self.ask_about(id, lane, GateRequest::Release),
                };
            }
            (
                GateOrder::Measure { lane }
                | GateOrder::Ping { lane }
                | GateOrder::KeepAwake { lane, .. }
                | GateOrder::Appoint { lane, .. },
                _,
            ) => (lane, order),
        };
        let Some(key) = key.filter(|key| self.queue(*key) == Some(lane)) else {
            // It is not there any more, and nothing is to be waited for.
            return self.ask_about(id, lane, GateRequest::Withdraw);
        };
        match order {
            GateOrder::Measure { .. } => {
                if self.stage(key) == Some(Stage::WaitingForSlot) {
                    self.fire(key, Input::MeasureAnew);
                }
                self.tell_all(key);
            }
            GateOrder::Ping { .. } => {
                if self.readiness(key) == Readiness::Unheard {
                    self.send_ping(key);
                    let device = self.device_mut(key);
                    // what could not be queued would be asked for for ever
                    device.silent |= !device.link.is_pending(|tag| *tag == Tag::Ping);
                }
                self.tell_all(key);
            }
            GateOrder::KeepAwake { turn, .. } => self.keep_awake(key, turn),
            GateOrder::Appoint { at, turn, .. } => self.appoint(key, at, turn),
            GateOrder::Admit { .. } | GateOrder::Standing(_) | GateOrder::WriteDown(_) => {}
        }
    }

    /// The gate says how the device stands in its queue.
    fn stands(&mut self, key: Option<DeviceKey>, standing: Standing) {
        let Some(key) = key else { return };
        let now = self.now.instant;
        let session = self.device_mut(key).session.as_mut();
        if let Some(closed) = session.and_then(|session| session.stands(now, standing)) {
            self.fire(key, Input::Slept(closed));
        }
        self.device_timeout(key);
    }

    /// The gate has asked, and is answered whatever came of it.
    pub(super) fn tell_all(&mut self, key: DeviceKey) {
        if let Some(session) = self.device_mut(key).session.as_mut() {
            session.told = None;
        }
        self.settle(key);
    }

    fn readiness(&self, key: DeviceKey) -> Readiness {
        let presence = self.presence(key, self.stage(key));
        presence.readiness(self.now.instant)
    }

    /// The device has a slot, if it can still use it. No slot is held for who sleeps.
    fn admitted(&mut self, key: DeviceKey, lane: Lane, active: u32) {
        let waits = self.queue(key) == Some(lane);
        let session = self.device(key).session.as_ref();
        let place = session.and_then(|session| session.negotiation().place());
        // its coverage may have become worse meanwhile
        let fits = place.is_some_and(|place| active <= place.limit);
        let over_time = session.is_some_and(|session| session.is_over_time(self.now.utc));
        let may = waits && fits && !over_time && self.store_available;
        if !may || self.readiness(key) != Readiness::Ready {
            self.ask(key, lane, GateRequest::Release);
            if waits {
                self.queue_up(key);
            }
            return;
        }
        self.counters.admissions += 1;
        self.fire(key, Input::SlotGranted);
        let session = self.device(key).session.as_ref();
        let place = session.and_then(|session| session.negotiation().slot());
        if let Some((place, cell)) = place.and_then(|place| Some((place, place.cell()?))) {
            let change = Change::Admitted {
                cell,
                limit: place.limit,
                active,
                at: self.now.utc,
            };
            self.persist_lazily(change);
        }
        self.settle(key);
    }

    /// Whether the gate is to be heard before the time to wait for a slot is over: the outcome tells how the device
    /// stood.
    pub(super) fn asks_how_it_stands(&mut self, key: DeviceKey) -> bool {
        let until = self.now.instant + ANSWERED_WITHIN;
        let Some(lane) = self.queue(key) else {
            return false;
        };
        let session = self.device_mut(key).session.as_mut();
        let asks = |standing| matches!(standing, StandingAsked::Never | StandingAsked::Closed(_));
        if let Some(session) = session.filter(|session| asks(session.standing)) {
            session.standing = StandingAsked::Until(until);
            self.ask(key, lane, GateRequest::Standing);
            return true;
        }
        false
    }

    /// A slot is in sight for the device: it is sent something before it falls asleep.
    fn keep_awake(&mut self, key: DeviceKey, turn: Instant) {
        let (now, config) = (self.now.instant, self.config.clone());
        let window = self.listens(key);
        let device = self.device_mut(key);
        let Some(heard_at) = device.heard_at.filter(|_| device.is_awake(now, window)) else {
            return; // it is too late
        };
        if device.link.is_pending(|_| true) {
            return self.tell_all(key); // that keeps it awake
        }
        let Some(session) = device.session.as_mut() else {
            return;
        };
        if session.kept.spare(&config.admission) < now.since(heard_at) {
            return; // it has been kept awake for as long as it may be
        }
        session.kept.ping(now, heard_at);
        let (upgrade, standby) = (session.order.upgrade, session.kept.to_write());
        if let Some(standby) = standby {
            self.persist(key, Change::KeptAwake { upgrade, standby });
        }
        let turn = self.now.utc_at(turn);
        self.note_once(key, Repeated::KeptAwake, || Happened::KeptAwake { turn });
        self.send_ping(key);
        self.settle(key);
    }

    /// What the gate expects of the slot is measured now and then: when the download begins, after an eighth of it, after
    /// a half, and at its end.
    pub(super) fn tell_progress(
        &mut self,
        key: DeviceKey,
        before: &Negotiation,
        after: &Negotiation,
    ) {
        let Some(lane) = after.slot().map(|place| place.lane) else {
            return;
        };
        let request = if after.stage() == Some(Stage::Executing) {
            if before.stage() != Some(Stage::Downloading) {
                return;
            }
            let install = self.habits(key).install();
            GateRequest::Downloaded { install }
        } else {
            let (at, was) = (after.segment(), before.segment());
            if at == was {
                return;
            }
            let Some(session) = self.device(key).session.as_ref() else {
                return;
            };
            let Some(offer) = session.package.pcp_offer() else {
                return;
            };
            let segments = offer.segmentation.segment_count();
            let reaches = |mark| at >= Some(mark) && was < Some(mark);
            if was.is_some() && !reaches(segments / 8) && !reaches(segments / 2) {
                return;
            }
            let work = session.work(self.habits(key).install());
            GateRequest::Progress { work }
        };
        self.ask(key, lane, request);
    }

    /// The coverage of a device that waits could not be measured anew. It is not asked again at once, since nobody else has the
    /// slot that is kept for it meanwhile.
    pub(super) fn put_off(&mut self, key: DeviceKey) {
        let max_age = Duration::from_secs(self.config.admission.coverage_max_age_s);
        let now = self.now.instant;
        if let Some(session) = self.device_mut(key).session.as_mut() {
            let times = session.put_off.map_or(0, |(_, times)| times);
            let until = now + max_age.max(SHORTEST_PUT_OFF) * (1 << times);
            session.put_off = Some((until, (times + 1).min(MOST_PUT_OFF)));
            session.look_at = Some(until);
        }
    }

    /// What the devices of its product do, as far as that is learnt.
    pub(super) fn habits(&self, key: DeviceKey) -> Habits {
        *self.profiles.habits(self.device(key).product)
    }

    /// Something shows what the devices of its product do. What is learnt of it is written down, now and then.
    pub(super) fn learn(&mut self, key: DeviceKey, what: impl FnOnce(&mut Habits)) {
        let product = self.device(key).product;
        let now = self.now.instant;
        if let Some(learnt) = self.profiles.learn(product, now, what) {
            self.persist_lazily(Change::Learnt(Box::new(learnt)));
        }
    }

    /// How long the device listens after a message.
    pub(super) fn listens(&self, key: DeviceKey) -> Duration {
        self.habits(key).listening.window()
    }

    fn presence(&self, key: DeviceKey, stage: Option<Stage>) -> Presence {
        let listening = self.habits(key).listening;
        let window = listening.window();
        let max_age = Duration::from_secs(self.config.admission.coverage_max_age_s);
        let device = self.device(key);
        let heard_at = device.heard_at;
        let measured_at = device.coverage().map(|(_, at)| at);
        let put_off = (device.session.as_ref()).and_then(|session| session.put_off);
        let put_off = put_off.is_some_and(|(until, _)| self.now.instant < until);
        Presence {
            reachable: device.peer().is_some() && !device.silent && !put_off,
            sleeps: device.sleeps(),
            probing: stage != Some(Stage::WaitingForSlot)
                || device.link.is_pending(|tag| *tag == Tag::Ping),
            awake_until: heard_at.map_or(Instant::ZERO, |at| at + window),
            nods_at: heard_at.map_or(Instant::ZERO, |at| {
                at + listening.ping_after(device.id.number())
            }),
            spare: (device.session.as_ref()).map_or(Duration::ZERO, |session| {
                session.kept.spare(&self.config.admission)
            }),
            fresh_until: measured_at.map_or(Instant::ZERO, |at| at + max_age),
            comes: if self.may_appoint(key) {
                Comes::WhenTold
            } else {
                Comes::AsItDoes
            },
            expected_at: self.expected_at(key),
        }
    }
}
