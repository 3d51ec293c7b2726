//! Devices behind a gateway: they have no connection of their own, and the gateway's is theirs.
//!
//! ```text
//! gateway connects ─▶ its children are met, one after the other as it acknowledges what it is told
//! child ONLINE     ─▶ that child is met
//! gateway adds, removes a child ─▶ within its tenant, and never another gateway's: written down, then answered
//! operator gives a child another gateway ─▶ what the old one was offered is void; the upgrade begins anew through the new one
//! ```
//!
//! What a gateway says of a child is a claim, as what a device says of itself is.

use std::{ops::Bound, time::Duration};

use super::{
    super::{
        endpoint::{Downlink, Qos},
        iotda::{
            self,
            topology::{Child, MAX_TOLD},
        },
    },
    Basis, Connection, Engine, Out,
    behind::Children,
    device::message_id,
};
use crate::{
    clock::Instant,
    ledger::{DeviceId, Inbound, Outbound},
    tenant,
    upgrade::Input,
};

/// Messages about its children that a gateway has not acknowledged, at most: the others wait for that.
const WINDOW: usize = 6;
/// After so long without an acknowledgement none is waited for: it may have subscribed with QoS 0, or have refused what was sent.
const UNANSWERED: Duration = Duration::from_secs(10);
/// The same on somebody else's broker, which acknowledges for itself.
const APART: Duration = Duration::from_secs(1);

impl Engine {
    // ---- who is reached over which connection

    /// The device over whose connection this one is reached, if that is known.
    pub(super) fn link(&self, id: DeviceId) -> Option<DeviceId> {
        match self.devices.get(&id).and_then(|it| it.behind.as_deref()) {
            None => Some(id),
            Some(behind) => (behind.gateway).filter(|it| self.devices.contains_key(it)),
        }
    }

    /// The connection over which the device is reached.
    pub(super) fn connection(&self, id: DeviceId) -> Option<&Connection> {
        let behind = self.devices.get(&id).and_then(|it| it.behind.as_deref());
        if behind.is_some_and(|behind| behind.offline) {
            return None;
        }
        self.connections.get(&self.link(id)?)
    }

    /// Whether the device may be told something now. One behind a gateway that has enough to acknowledge is told later.
    pub(super) fn has_room(&mut self, id: DeviceId) -> bool {
        let Some(gateway) = self.link(id).filter(|link| *link != id) else {
            return true;
        };
        if self.gateway_has_room(gateway) {
            return true;
        }
        let children = self.gateways.entry(gateway).or_default();
        if !children.speaks.contains(&id) {
            children.speaks.push_back(id);
        }
        self.wait_for_room(gateway);
        false
    }

    /// What waits for the gateway's acknowledgements does not wait for ever.
    pub(super) fn wait_for_room(&mut self, gateway: DeviceId) {
        let now = self.now.instant;
        let most = self.unanswered();
        let reached = self.connections.contains_key(&gateway) || self.is_on_a_broker();
        let (Some(children), Some(device)) = (
            self.gateways.get_mut(&gateway),
            self.devices.get_mut(&gateway),
        ) else {
            return;
        };
        if !reached || !children.waits() {
            children.full_since = None;
            return;
        }
        let at = *children.full_since.get_or_insert(now) + most;
        device.tell_at = Some(device.tell_at.map_or(at, |before| before.min(at)));
        self.set_alarm(gateway);
    }

    /// How long an acknowledgement is waited for.
    fn unanswered(&self) -> Duration {
        if self.is_on_a_broker() {
            APART
        } else {
            UNANSWERED
        }
    }

    /// It is time to look at what waits for the gateway's acknowledgements.
    pub(super) fn goes_on(&mut self, gateway: DeviceId) {
        let (now, most) = (self.now.instant, self.unanswered());
        let Some(children) = self.gateways.get_mut(&gateway) else {
            return;
        };
        if children.has_waited(now, most) {
            children.full_since = None;
            if let Some(device) = self.devices.get_mut(&gateway) {
                device.unacknowledged.clear();
            }
        }
        self.pump(gateway);
    }

    /// The gateway does not take what is sent: what waits goes on a little later.
    pub(super) fn goes_on_at(&mut self, gateway: DeviceId, at: Instant) {
        let waits = self.gateways.get(&gateway).is_some_and(Children::waits);
        let device = self.devices.get_mut(&gateway).filter(|_| waits);
        if let Some(device) = device {
            device.tell_at.get_or_insert(at);
            self.set_alarm(gateway);
        }
    }

    fn gateway_has_room(&self, gateway: DeviceId) -> bool {
        let device = self.devices.get(&gateway);
        device.is_some_and(|it| it.unacknowledged.len() < WINDOW)
            && (self.connections.contains_key(&gateway) || self.is_on_a_broker())
    }

    /// The device is sent something that whoever has its connection is to acknowledge.
    pub(super) fn sent(&mut self, id: DeviceId, what: Option<Outbound>) {
        const MOST: usize = 16;
        let link = self.link(id);
        if self.is_on_a_broker() && link.is_none_or(|link| !self.gateways.contains_key(&link)) {
            return; // it acknowledges for itself, and not for the device
        }
        let link = link.and_then(|link| self.devices.get_mut(&link));
        if let Some(link) = link.filter(|it| it.unacknowledged.len() < MOST) {
            link.unacknowledged.push_back((id, what));
        }
    }

    /// Whether more may be written because of what is said of the device: of one behind a gateway, the gateway's budget counts too.
    pub(super) fn may_write_for(&mut self, id: DeviceId) -> bool {
        let (now, link) = (self.now.instant, self.link(id));
        let gateway = link.filter(|link| *link != id);
        let children = gateway.and_then(|gateway| self.gateways.get_mut(&gateway));
        if children.is_some_and(|children| !children.may_write(now)) {
            return false;
        }
        let device = self.devices.get_mut(&id);
        device.is_some_and(|device| device.may_write(now))
    }

    // ---- what they are told

    /// The gateway has connected: its children are met over that connection.
    pub(super) fn meet_children(&mut self, gateway: DeviceId) {
        let connection = self.connections.get(&gateway);
        let anew = connection.is_some_and(|it| it.basis == Basis::Connected);
        let Some(children) = self.gateways.get_mut(&gateway) else {
            return;
        };
        children.meets = children.all.iter().copied().collect();
        children.speaks.clear();
        children.told_up_to = None;
        // it asks, if it wants to know
        children.added.clear();
        children.gone.clear();
        children.full_since = None;
        let all = children.meets.clone();
        for child in all {
            if let Some(device) = self.devices.get_mut(&child) {
                device.connects();
                if let Some(behind) = device.behind.as_deref_mut() {
                    // one that was merely silent has not said that it can be reached again
                    behind.offline &= !anew;
                    behind.online = false;
                }
            }
            self.hold_while_offered(child);
        }
        self.pump(gateway);
    }

    /// The gateway is connected no more: those behind it that wait for a slot cannot take one.
    pub(super) fn gateway_left(&mut self, gateway: DeviceId) {
        let Some(children) = self.gateways.get(&gateway) else {
            return;
        };
        let all: Vec<DeviceId> = children.all.iter().copied().collect();
        // on somebody else's broker it may merely be silent
        let is_known = !self.is_on_a_broker();
        for child in all {
            if is_known {
                self.note_that_gateway_is_offline(child);
            }
            self.tell_presence(child);
        }
    }

    /// The device, which is behind a gateway, is met when that has room for it.
    pub(super) fn expect(&mut self, id: DeviceId) {
        let Some(gateway) = self.link(id).filter(|_| self.connection(id).is_some()) else {
            return;
        };
        let children = self.gateways.entry(gateway).or_default();
        if !children.meets.contains(&id) {
            children.meets.push_back(id);
        }
        self.pump(gateway);
    }

    /// Goes on with what waits for the gateway's acknowledgements.
    pub(super) fn pump(&mut self, gateway: DeviceId) {
        while self.gateway_has_room(gateway) && self.pump_one(gateway) {}
        self.wait_for_room(gateway);
    }

    /// One of those that wait has its turn. Tells whether one did.
    fn pump_one(&mut self, gateway: DeviceId) -> bool {
        let all_read = self.early.are_all_read();
        let on_a_broker = self.is_on_a_broker();
        let Some(children) = self.gateways.get_mut(&gateway) else {
            return false;
        };
        if !children.gone.is_empty() {
            let mut page = Vec::new();
            while page.len() < MAX_TOLD
                && let Some((_, child)) = children.gone.pop_first()
            {
                page.push(child);
            }
            let page: Vec<Child<'_>> = (page.iter())
                .map(|(name, product)| Child { name, product })
                .collect();
            self.tell_of_children(gateway, |_, to, version| {
                to.children_notify(false, &page, version)
            });
        } else if !children.added.is_empty() {
            let mut page = Vec::new();
            while page.len() < MAX_TOLD
                && let Some(child) = children.added.pop_first()
            {
                page.push(child);
            }
            self.tell_of_added(gateway, &page);
        } else if let Some(after) = children.told_up_to.take_if(|_| all_read) {
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            let range = children.all.range((from, Bound::Unbounded));
            let page: Vec<DeviceId> = range.copied().take(MAX_TOLD).collect();
            if page.len() == MAX_TOLD {
                children.told_up_to = Some(page.last().copied());
            }
            if !page.is_empty() || after.is_none() {
                self.tell_of_added(gateway, &page);
            }
        } else if let Some(child) = children.meets.pop_front() {
            self.meet_child(child);
        } else if let Some(child) = children.speaks.pop_front() {
            let owes = self.devices.get(&child).is_some_and(|it| it.owes_query);
            if on_a_broker && owes {
                // it may be there
                self.send_version_query(child);
            }
            self.say_what_is_owed(child);
            self.set_alarm(child);
        } else {
            return false;
        }
        true
    }

    fn meet_child(&mut self, id: DeviceId) {
        if self.connection(id).is_none() {
            return;
        }
        let now = self.now.instant;
        let device = self.devices.get_mut(&id);
        if let Some(behind) = device.and_then(|it| it.behind.as_deref_mut()) {
            behind.met_at = Some(now);
            behind.came = std::mem::take(&mut behind.online);
        }
        self.greet(id);
    }

    /// What a device that is there is told.
    pub(super) fn greet(&mut self, id: DeviceId) {
        let Some(basis) = self.connection(id).map(|it| it.basis) else {
            return;
        };
        let behind = self.devices.get(&id).and_then(|it| it.behind.as_deref());
        let came = behind.is_some_and(|behind| behind.came);
        let basis = if came { Basis::Connected } else { basis };
        let lossy = self.early.is_lossy();
        if let Some(device) = self.devices.get_mut(&id) {
            device.asked_what_it_runs |= lossy;
        }
        match basis {
            Basis::Connected => {
                self.said(id, Inbound::Connection);
                self.fire(id, Input::Connected);
            }
            Basis::Heard => self.fire(id, Input::HeardAgain),
            Basis::Guessed => self.fire(id, Input::MayBeThere),
        }
        self.tell_presence(id);
        let device = self.devices.get(&id);
        let idle = device.is_some_and(|it| it.session.is_none() && it.version.is_none());
        if idle {
            self.say_version_query(id);
        } else {
            self.ask_what_it_runs(id);
        }
        self.say_what_is_owed(id);
        self.hold_while_offered(id);
        self.set_alarm(id);
    }

    /// Has a gateway that is connected told that a child is behind it, or is not any more.
    pub(super) fn tell_of_child(&mut self, gateway: DeviceId, there: bool, child: DeviceId) {
        if !self.connections.contains_key(&gateway) {
            return;
        }
        let (Some(children), Some(device)) =
            (self.gateways.get_mut(&gateway), self.devices.get(&child))
        else {
            return;
        };
        if there {
            children.gone.remove(&child);
            children.added.insert(child);
        } else {
            children.added.remove(&child);
            let product = tenant::product_name(&device.product);
            let told = (device.endpoint.clone(), product.into());
            children.gone.insert(child, told);
        }
        self.pump(gateway);
    }

    fn tell_of_added(&mut self, gateway: DeviceId, children: &[DeviceId]) {
        self.tell_of_children(gateway, |engine, to, version| {
            to.children_notify(true, &engine.infos(children), version)
        });
    }

    /// Tells a gateway that is connected of children that are behind it, or are not any more. The payload is made with the number
    /// of the notification.
    fn tell_of_children(
        &mut self,
        gateway: DeviceId,
        payload: impl FnOnce(&Self, &iotda::Addressed<'_>, u64) -> Vec<u8>,
    ) {
        if !self.connections.contains_key(&gateway) {
            return;
        }
        // it rises over restarts of the server, too
        let seconds = u64::try_from(self.now.utc.0 / 1_000).unwrap_or(0);
        self.topology_version = seconds.max(self.topology_version + 1);
        let version = self.topology_version;
        self.answer(gateway, |engine, to| payload(engine, to, version));
    }

    pub(super) fn infos(&self, children: &[DeviceId]) -> Vec<Child<'_>> {
        let devices = children.iter().filter_map(|id| self.devices.get(id));
        devices
            .map(|device| Child {
                name: &device.endpoint,
                product: tenant::product_name(&device.product),
            })
            .collect()
    }

    /// Tells a gateway something of its children, once what was written of them is committed.
    pub(super) fn answer(
        &mut self,
        gateway: DeviceId,
        payload: impl FnOnce(&Self, &iotda::Addressed<'_>) -> Vec<u8>,
    ) {
        self.messages += 1;
        let id = message_id(None, gateway, self.messages);
        let (at, newest) = (self.now.utc, self.seq);
        let Some(device) = self.devices.get_mut(&gateway) else {
            return;
        };
        device.pending = device.pending.max(newest);
        let name = device.endpoint.clone();
        let to = iotda::Addressed {
            device: &name,
            at,
            id: &id,
        };
        let payload = payload(self, &to).into();
        self.sent(gateway, None);
        self.publish(
            gateway,
            Out::Publish {
                device: gateway,
                downlink: Downlink::Events,
                payload,
                qos: Qos::AtLeastOnce,
                upgrade: None,
            },
        );
    }
}
