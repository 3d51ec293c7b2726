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

use std::ops::Bound;

use super::{
    super::{
        endpoint::{Downlink, Qos},
        iotda::{
            self,
            topology::{Child, MAX_TOLD},
        },
    },
    Basis, Connection, Engine, Out,
    device::message_id,
};
use crate::{
    ledger::{DeviceId, Inbound, Outbound},
    tenant,
    upgrade::Input,
};

/// Messages about its children that a gateway has not acknowledged, at most: the others wait for that.
const WINDOW: usize = 6;

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
        false
    }

    fn gateway_has_room(&self, gateway: DeviceId) -> bool {
        let device = self.devices.get(&gateway);
        device.is_some_and(|it| it.unacknowledged.len() < WINDOW)
            && (self.connections.contains_key(&gateway) || self.is_on_a_broker())
    }

    /// The device is sent something that whoever has its connection is to acknowledge.
    pub(super) fn sent(&mut self, id: DeviceId, what: Option<Outbound>) {
        const MOST: usize = 16;
        if self.is_on_a_broker() {
            return; // it acknowledges for itself, and not for the device
        }
        let link = self.link(id).and_then(|link| self.devices.get_mut(&link));
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
        let Some(children) = self.gateways.get_mut(&gateway) else {
            return;
        };
        children.meets = children.all.iter().copied().collect();
        children.speaks.clear();
        children.told_up_to = None;
        let all = children.meets.clone();
        for child in all {
            if let Some(device) = self.devices.get_mut(&child) {
                device.connects();
                if let Some(behind) = device.behind.as_deref_mut() {
                    behind.offline = false;
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
        for child in all {
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
        while self.gateway_has_room(gateway) {
            let Some(children) = self.gateways.get_mut(&gateway) else {
                return;
            };
            if let Some(after) = children.told_up_to.take() {
                let from = after.map_or(Bound::Unbounded, Bound::Excluded);
                let range = children.all.range((from, Bound::Unbounded));
                let page: Vec<DeviceId> = range.copied().take(MAX_TOLD).collect();
                if page.len() == MAX_TOLD {
                    children.told_up_to = Some(page.last().copied());
                }
                if !page.is_empty() || after.is_none() {
                    self.tell_of_children(gateway, true, &page);
                }
            } else if let Some(child) = children.meets.pop_front() {
                self.meet_child(child);
            } else if let Some(child) = children.speaks.pop_front() {
                self.say_what_is_owed(child);
                self.set_alarm(child);
            } else {
                return;
            }
        }
    }

    fn meet_child(&mut self, id: DeviceId) {
        if self.connection(id).is_none() {
            return;
        }
        let now = self.now.instant;
        let device = self.devices.get_mut(&id);
        if let Some(behind) = device.and_then(|it| it.behind.as_deref_mut()) {
            behind.met_at = Some(now);
        }
        self.greet(id);
    }

    /// What a device that is there is told.
    pub(super) fn greet(&mut self, id: DeviceId) {
        let Some(basis) = self.connection(id).map(|it| it.basis) else {
            return;
        };
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

    /// Tells a gateway that is connected of children that are behind it, or are not any more.
    pub(super) fn tell_of_children(
        &mut self,
        gateway: DeviceId,
        there: bool,
        children: &[DeviceId],
    ) {
        if !self.connections.contains_key(&gateway) {
            return;
        }
        let version = self.messages + 1;
        self.answer(gateway, |engine, to| {
            to.children_notify(there, &engine.infos(children), version)
        });
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
            },
        );
    }
}
