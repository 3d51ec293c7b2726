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

use std::{
    collections::{BTreeSet, VecDeque},
    ops::Bound,
};

use super::{
    super::{
        endpoint::{Downlink, Qos},
        iotda::{
            self,
            topology::{Child, MAX_TOLD, Refused, Topology},
        },
    },
    Connection, Engine, Out,
    device::message_id,
};
use crate::{
    clock::Instant,
    engine::Report,
    ledger::{Change, DeviceId, Happened, Inbound, MAX_CHILDREN, Outbound, Protocol, Via},
    tenant,
    upgrade::Input,
};

/// Messages about its children that a gateway has not acknowledged, at most: the others wait for that.
const WINDOW: usize = 6;
/// What a gateway may have written on behalf of its children: ten times a second on average, and two hundred times at once.
const AT_ONCE: u64 = 200;
const WRITES_EVERY_MS: u64 = 100;
/// A child that was met so lately need not be met again because it is said to be there.
const MET_LATELY: std::time::Duration = std::time::Duration::from_mins(1);

/// How a device is reached that is behind a gateway.
#[derive(Debug, Default)]
pub(super) struct Behind {
    /// Its gateway, where that is known.
    pub(super) gateway: Option<DeviceId>,
    /// What that is called.
    pub(super) name: Option<Box<str>>,
    /// The gateway says that it cannot be reached.
    offline: bool,
    /// When it was met last: the gateway or the child had connected.
    pub(super) met_at: Option<Instant>,
}

/// The devices behind a gateway.
#[derive(Debug, Default)]
pub(super) struct Children {
    all: BTreeSet<DeviceId>,
    /// Those that are to be met over the gateway's connection.
    meets: VecDeque<DeviceId>,
    /// Those that are to be told something.
    speaks: VecDeque<DeviceId>,
    /// The gateway is being told which children it has: those behind this one.
    told_up_to: Option<Option<DeviceId>>,
    /// When the budget of what it may have written is whole again.
    budget_full_at: u64,
}

impl Children {
    fn may_write(&mut self, now: Instant) -> bool {
        let now = now.as_millis() / WRITES_EVERY_MS;
        let full_at = self.budget_full_at.max(now);
        let may = full_at - now < AT_ONCE;
        if may {
            self.budget_full_at = full_at.saturating_add(1);
        }
        may
    }

    fn forget(&mut self, child: DeviceId) {
        self.all.remove(&child);
        self.meets.retain(|it| *it != child);
        self.speaks.retain(|it| *it != child);
    }
}

/// Why a gateway may not speak for a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    NotAllowed,
    Unknown,
    Others,
    Full,
    TooOften,
}

impl Refusal {
    const fn told(self) -> (&'static str, &'static str) {
        match self {
            Self::NotAllowed => (
                "NOT_ALLOWED",
                "gateways of this product do not say which devices are behind them",
            ),
            Self::Unknown => (
                "UNKNOWN_DEVICE",
                "there is no such device that is reached through gateways",
            ),
            Self::Others => (
                "OTHERS_CHILD",
                "the device is reached through another gateway",
            ),
            Self::Full => (
                "TOO_MANY",
                "as many devices are reached through the gateway as can be",
            ),
            Self::TooOften => (
                "TRY_LATER",
                "the gateway has changed its devices too often lately",
            ),
        }
    }
}

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
            && self.connections.contains_key(&gateway)
    }

    /// The device is sent something that whoever has its connection is to acknowledge.
    pub(super) fn sent(&mut self, id: DeviceId, what: Option<Outbound>) {
        const MOST: usize = 16;
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

    // ---- topology

    /// The device is reached so from now on. `told`: its new gateway knows that.
    pub(super) fn reach(&mut self, id: DeviceId, via: &Via, told: bool) {
        let Some(device) = self.devices.get(&id) else {
            return;
        };
        let behind = device.behind.as_deref();
        let before = behind.and_then(|behind| behind.gateway);
        let same = behind.and_then(|behind| behind.name.as_deref()) == via.gateway();
        if same && behind.is_some() == (*via != Via::Itself) {
            return;
        }
        self.hold(id, false);
        if let Some(before) = before {
            self.leave(id, before);
        }
        let gateway = via.gateway().map(|name| self.ids.of(name));
        let behind = (*via != Via::Itself).then(|| {
            Box::new(Behind {
                gateway,
                name: via.gateway().map(Into::into),
                ..Behind::default()
            })
        });
        if let Some(device) = self.devices.get_mut(&id) {
            device.behind = behind;
            device.connects();
        }
        self.begins_anew(id, via);
        if let Some(gateway) = gateway {
            self.gateways.entry(gateway).or_default().all.insert(id);
            if !told {
                self.tell_of_children(gateway, true, &[id]);
            }
        }
        self.meet(id);
    }

    /// The device is not behind that gateway any more, which is told so.
    fn leave(&mut self, id: DeviceId, gateway: DeviceId) {
        if let Some(children) = self.gateways.get_mut(&gateway) {
            children.forget(id);
            if children.all.is_empty() {
                self.gateways.remove(&gateway);
            }
        }
        self.tell_of_children(gateway, false, &[id]);
    }

    /// The device is no more.
    pub(super) fn leave_gateway(&mut self, id: DeviceId) {
        let behind = self.devices.get(&id).and_then(|it| it.behind.as_deref());
        if let Some(gateway) = behind.and_then(|behind| behind.gateway) {
            self.hold(id, false);
            self.leave(id, gateway);
        }
    }

    /// What was offered through another gateway is void, and what that reports counts no more.
    fn begins_anew(&mut self, id: DeviceId, via: &Via) {
        let at = self.now.utc;
        let Some(session) = self.session_mut(id) else {
            return;
        };
        let gateway = via.gateway().map(str::to_owned);
        let line = session.note(Happened::GatewayChanged { gateway }.into(), at);
        let token = session.exchange.next_step();
        self.persist(id, line);
        if let Some(device) = self.devices.get_mut(&id) {
            device.let_go_at = None;
        }
        self.silence(id, token);
        self.fire(id, Input::Moved);
        self.set_alarm(id);
    }

    /// Says in the timeline that the device waits for its gateway.
    pub(super) fn note_that_gateway_is_offline(&mut self, id: DeviceId) {
        let at = self.now.utc;
        if self.connection(id).is_some() {
            return;
        }
        let Some(device) = self.devices.get(&id) else {
            return;
        };
        let (Some(behind), Some(session)) = (&device.behind, &device.session) else {
            return;
        };
        let gateway = behind.name.as_deref().map(str::to_owned);
        let offline = behind.offline;
        let line = if offline {
            Happened::ChildOffline { gateway }
        } else {
            Happened::GatewayOffline { gateway }
        };
        let note = session.note(line.into(), at);
        self.persist(id, note);
    }

    /// The device of that name, if it is behind the gateway.
    pub(super) fn child_of(&self, gateway: DeviceId, name: &str) -> Option<DeviceId> {
        let id = self.ids.of(name);
        let behind = self.devices.get(&id)?.behind.as_deref()?;
        (behind.gateway == Some(gateway)).then_some(id)
    }

    /// A gateway speaks for a device that is not behind it.
    pub(super) fn speaks_for_another(&mut self, gateway: DeviceId, child: &str) {
        self.counters.mqtt_unexpected += 1;
        let (Some(device), Some(connection)) =
            (self.devices.get(&gateway), self.connections.get(&gateway))
        else {
            return;
        };
        let report = Report::ChildRefused {
            gateway: device.endpoint.to_string(),
            child: child.to_owned(),
            address: connection.address,
        };
        self.effects.push_back(super::Effect::Report(report));
    }

    // ---- what gateways say of their children

    pub(super) fn on_topology(&mut self, gateway: DeviceId, said: Topology) {
        let Some(device) = self.devices.get(&gateway) else {
            return;
        };
        if device.behind.is_some() || device.protocol != Protocol::Iotda {
            self.counters.mqtt_unexpected += 1;
            return;
        }
        match said {
            Topology::Asks => {
                self.gateways.entry(gateway).or_default().told_up_to = Some(None);
                self.pump(gateway);
            }
            Topology::Adds(names) => self.adds(gateway, &names),
            Topology::Removes(names) => self.removes(gateway, &names),
            Topology::Status(told) => {
                for (name, online) in told {
                    self.is_there(gateway, &name, online);
                }
            }
        }
    }

    fn adds(&mut self, gateway: DeviceId, names: &[String]) {
        let mut added = Vec::new();
        let mut refused = Vec::new();
        for name in names.iter().take(MAX_TOLD) {
            match self.add_child(gateway, name) {
                Ok(child) => added.push(child),
                Err(why) => refused.push((name.as_str(), why)),
            }
        }
        for name in names.iter().skip(MAX_TOLD) {
            refused.push((name, Refusal::TooOften));
        }
        for (name, why) in &refused {
            if matches!(why, Refusal::Others | Refusal::Unknown) {
                self.speaks_for_another(gateway, name);
            }
        }
        let refused: Vec<Refused<'_>> = refused.iter().map(told).collect();
        self.answer(gateway, |engine, to| {
            to.add_response(&engine.infos(&added), &refused)
        });
    }

    fn add_child(&mut self, gateway: DeviceId, name: &str) -> Result<DeviceId, Refusal> {
        let child = self.ids.of(name);
        let owner = |id: DeviceId| {
            let device = self.devices.get(&id);
            device.map(|device| tenant::owner(&device.product))
        };
        let same_owner = owner(child) == owner(gateway);
        let behind = (self.devices.get(&child))
            .filter(|_| same_owner)
            .and_then(|it| it.behind.as_deref())
            .ok_or(Refusal::Unknown)?;
        if behind.gateway == Some(gateway) {
            return Ok(child);
        }
        if self.product(gateway).fixed_children {
            return Err(Refusal::NotAllowed);
        }
        if behind.gateway.is_some() {
            return Err(Refusal::Others);
        }
        let now = self.now.instant;
        let children = self.gateways.entry(gateway).or_default();
        if children.all.len() as u64 >= MAX_CHILDREN {
            return Err(Refusal::Full);
        }
        if !children.may_write(now) {
            return Err(Refusal::TooOften);
        }
        self.moves(child, None, Some(gateway));
        Ok(child)
    }

    fn removes(&mut self, gateway: DeviceId, names: &[String]) {
        let mut removed = Vec::new();
        let mut refused = Vec::new();
        let now = self.now.instant;
        let allowed = !self.product(gateway).fixed_children;
        for (index, name) in names.iter().enumerate() {
            let why = match self.child_of(gateway, name) {
                None => Refusal::Unknown,
                Some(_) if !allowed => Refusal::NotAllowed,
                Some(_) if index >= MAX_TOLD => Refusal::TooOften,
                Some(child) => {
                    let children = self.gateways.get_mut(&gateway);
                    if children.is_some_and(|it| it.may_write(now)) {
                        self.moves(child, Some(gateway), None);
                        removed.push(name.as_str());
                        continue;
                    }
                    Refusal::TooOften
                }
            };
            refused.push((name.as_str(), why));
        }
        let refused: Vec<Refused<'_>> = refused.iter().map(told).collect();
        self.answer(gateway, |_, to| to.delete_response(&removed, &refused));
    }

    /// The gateway has said that the child is behind it from now on, or not any more.
    fn moves(&mut self, child: DeviceId, before: Option<DeviceId>, gateway: Option<DeviceId>) {
        let name = |id: Option<DeviceId>| {
            let device = id.and_then(|id| self.devices.get(&id));
            device.map(|device| device.endpoint.to_string())
        };
        let (before, via) = (name(before), name(gateway));
        let Some(endpoint) = name(Some(child)) else {
            return;
        };
        let at = self.now.utc;
        let change = Change::Via {
            endpoint,
            before,
            via: via.clone(),
            at,
        };
        self.persist(child, change);
        self.reach(child, &Via::Gateway(via), true);
    }

    /// The gateway says whether a child can be reached. It has connected when it can be again.
    fn is_there(&mut self, gateway: DeviceId, name: &str, online: bool) {
        let Some(child) = self.child_of(gateway, name) else {
            return self.speaks_for_another(gateway, name);
        };
        let now = self.now.instant;
        let claims = (self.session(child)).is_some_and(|it| it.negotiation().is_claimed());
        let Some(behind) = (self.devices.get_mut(&child)).and_then(|it| it.behind.as_deref_mut())
        else {
            return;
        };
        let was_offline = std::mem::replace(&mut behind.offline, !online);
        let lately = (behind.met_at).is_some_and(|at| now.since(at) < MET_LATELY);
        if online && (was_offline || claims || !lately) {
            let children = self.gateways.get_mut(&gateway);
            if children.is_some_and(|children| children.may_write(now)) {
                self.meet(child);
            }
        }
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
        self.said(id, Inbound::Connection);
        self.fire(id, Input::Connected);
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
    fn tell_of_children(&mut self, gateway: DeviceId, there: bool, children: &[DeviceId]) {
        if !self.connections.contains_key(&gateway) {
            return;
        }
        let version = self.messages + 1;
        self.answer(gateway, |engine, to| {
            to.children_notify(there, &engine.infos(children), version)
        });
    }

    fn infos(&self, children: &[DeviceId]) -> Vec<Child<'_>> {
        let devices = children.iter().filter_map(|id| self.devices.get(id));
        devices
            .map(|device| Child {
                name: &device.endpoint,
                product: tenant::product_name(&device.product),
            })
            .collect()
    }

    /// Tells a gateway something of its children, once what was written of them is committed.
    fn answer(
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

fn told<'a>((name, why): &(&'a str, Refusal)) -> Refused<'a> {
    let (code, detail) = why.told();
    Refused { name, code, detail }
}
