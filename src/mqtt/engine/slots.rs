//! What the gate is told of a device that waits for a slot of its site or gateway, and what it has the engine do.

use std::time::Duration;

use super::Engine;
use crate::{
    clock::Instant,
    ledger::{Change, DeviceId, Lane, Learnt},
    session::{self, Comes, GateAsk, GateOrder, GateRequest, Presence},
    upgrade::{Input, Negotiation},
};

impl Engine {
    /// The lane in whose queue the device stands.
    fn queue(&self, id: DeviceId) -> Option<Lane> {
        self.session(id)?.negotiation().queued_in()
    }

    /// Has the device wait for a slot, as its upgrade says.
    pub(super) fn queue_up(&mut self, id: DeviceId) {
        let presence = self.presence(id);
        let session = self.session(id);
        if let Some((lane, wait)) = session.and_then(|it| it.waits(presence, Duration::ZERO, None))
        {
            self.tell_gate(id, lane, wait);
        }
    }

    /// A device that waits has connected, or is connected no more.
    pub(super) fn tell_presence(&mut self, id: DeviceId) {
        if let Some(lane) = self.queue(id) {
            let presence = self.presence(id);
            self.tell_gate(id, lane, GateRequest::Presence(presence));
        }
    }

    /// The slot that an upgrade holds from before a restart.
    pub(super) fn holds_still(&mut self, id: DeviceId) {
        let session = self.session(id);
        if let Some((lane, hold)) = session.and_then(|it| it.holds(Duration::ZERO, None)) {
            self.tell_gate(id, lane, hold);
        }
    }

    /// A device that is connected can take a slot at any time: it is not asked before. One that is not has to come.
    fn presence(&self, id: DeviceId) -> Presence {
        let connected = self.is_connected(id);
        Presence {
            reachable: connected,
            sleeps: false,
            probing: false,
            awake_until: Instant::MAX,
            nods_at: Instant::MAX,
            spare: Duration::ZERO,
            fresh_until: Instant::MAX,
            comes: Comes::AsItDoes,
            expected_at: None,
        }
    }

    /// Does what the gate says, as far as it still makes sense.
    pub(super) fn obey_gate(&mut self, id: DeviceId, order: GateOrder) {
        let (lane, request) = match order {
            GateOrder::Admit { lane, .. } => return self.admitted(id, lane),
            GateOrder::Measure { lane }
            | GateOrder::Ping { lane }
            | GateOrder::KeepAwake { lane, .. }
            | GateOrder::Appoint { lane, .. } => (lane, GateRequest::Withdraw),
            GateOrder::WriteDown(pace) => {
                let learnt = Box::new(Learnt::Download(pace));
                return self.persist_lazily(Change::Learnt(learnt));
            }
            GateOrder::Standing(_) => return,
        };
        // it is said of a device that was another engine's before
        if self.queue(id) != Some(lane) {
            self.tell_gate(id, lane, request);
        }
    }

    /// The device has a slot, if it can still use it.
    fn admitted(&mut self, id: DeviceId, lane: Lane) {
        let waits = self.queue(id) == Some(lane);
        let over_time = self
            .session(id)
            .is_some_and(|it| it.is_over_time(self.now.utc));
        if !waits || over_time || !self.is_connected(id) {
            self.tell_gate(id, lane, GateRequest::Release);
            if waits {
                self.queue_up(id);
            }
            return;
        }
        self.counters.admissions += 1;
        self.fire(id, Input::SlotGranted);
        self.set_alarm(id);
    }

    fn tell_gate(&mut self, device: DeviceId, lane: Lane, request: GateRequest) {
        self.effects.push_back(super::Effect::Ask(GateAsk {
            device,
            lane,
            request,
        }));
    }

    /// Tells the gate what a session leaves that was in a lane.
    pub(super) fn leave_lane(&mut self, id: DeviceId, before: &Negotiation, after: &Negotiation) {
        if let Some((lane, request)) = session::leaves(before, after) {
            self.tell_gate(id, lane, request);
        }
    }
}
