//! Who is behind which gateway: what the operator says of that, and what gateways say.

use std::time::Duration;

use super::{
    super::iotda::topology::{MAX_TOLD, Refused, Topology},
    Engine,
    behind::Behind,
};
use crate::{
    engine::Report,
    ledger::{Change, DeviceId, Further, Happened, Lane, MAX_CHILDREN, Protocol, Via},
    tenant,
    upgrade::Input,
};

/// A child that was met so lately need not be met again because it is said to be there.
const MET_LATELY: Duration = Duration::from_mins(1);

/// Why a gateway may not speak for a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    NotAllowed,
    Unknown,
    Others,
    Full,
    TooOften,
    NotYet,
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
            Self::NotYet => (
                "TRY_LATER",
                "the server has just started, and has not read all its devices yet",
            ),
        }
    }
}

impl Engine {
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
                self.tell_of_child(gateway, true, id);
            }
        }
        self.meet(id);
    }

    /// The device is not behind that gateway any more, which is told so.
    fn leave(&mut self, id: DeviceId, gateway: DeviceId) {
        if let Some(children) = self.gateways.get_mut(&gateway) {
            children.forget(id);
            if children.all.is_empty() && !self.devices.contains_key(&gateway) {
                self.gateways.remove(&gateway);
            }
        }
        self.tell_of_child(gateway, false, id);
    }

    /// The gateway is no more, or not what it was: no device is behind it, whatever it has said.
    pub(super) fn loses_children(&mut self, gateway: DeviceId) {
        let children = self.gateways.remove(&gateway);
        for child in children.into_iter().flat_map(|children| children.all) {
            self.reach(child, &Via::Gateway(None), true);
        }
    }

    /// The lanes that an upgrade of the device competes in. What a gateway has said last may not be stored yet.
    pub(super) fn further(&self, id: DeviceId, stored: Further) -> Further {
        let site = stored.lanes().find(|lane| matches!(lane, Lane::Site(_)));
        let behind = self.devices.get(&id).and_then(|it| it.behind.as_deref());
        let gateway = behind.and_then(|behind| behind.name.as_deref());
        let own = behind.and_then(|behind| behind.gateway);
        let lane = gateway.map(Lane::gateway);
        let limit = match own.filter(|own| self.devices.contains_key(own)) {
            Some(own) => self.product(own).per_gateway,
            // as long as the gateway is not read, what is stored says it, if that is of this one
            None => (stored.per_gateway())
                .filter(|_| lane.is_some_and(|lane| stored.lanes().any(|it| it == lane))),
        };
        Further::of(site, lane)
            .with_limit(limit.filter(|_| lane.is_some()))
            .known_at(self.now.instant)
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
        let now = self.now;
        let Some(session) = self.session_mut(id) else {
            return;
        };
        let gateway = via.gateway().map(str::to_owned);
        let line = session.note(Happened::GatewayChanged { gateway }.into(), now.utc);
        // after a restart of the server, too, nothing is taken for served that the other gateway was
        let transfers = session.negotiation().transfer().is_some();
        let none = transfers.then(|| session.progress(now, 0, Duration::ZERO));
        let token = session.exchange.next_step();
        self.persist(id, line);
        if let Some(progress) = none.flatten() {
            self.persist(id, progress);
        }
        if let Some(device) = self.devices.get_mut(&id) {
            device.let_go_at = None;
        }
        self.silence(id, token);
        self.fire(id, Input::Moved);
        // it has left the lanes of before
        let before = self.session(id).map(|session| session.order.further);
        let further = before.map(|before| self.further(id, before));
        if let (Some(session), Some(further)) = (self.session_mut(id), further) {
            session.order.further = further;
        }
        self.set_alarm(id);
    }

    /// Says in the timeline that the device waits for its gateway, or cannot be reached there: each once in a stage.
    pub(super) fn note_that_gateway_is_offline(&mut self, id: DeviceId) {
        let at = self.now.utc;
        let Some(stage) = self.stage(id).filter(|_| self.connection(id).is_none()) else {
            return;
        };
        let Some(device) = self.devices.get_mut(&id) else {
            return;
        };
        let (Some(behind), Some(session)) = (&mut device.behind, &device.session) else {
            return;
        };
        let offline = behind.offline;
        let within = (session.order.upgrade, session.order.attempt, stage);
        if !behind.is_news(within, offline) {
            return;
        }
        let gateway = behind.name.as_deref().map(str::to_owned);
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
        if !self.early.are_all_read() {
            // the child may be read in a moment, and is asked then
            return self.early.lose();
        }
        self.counters.mqtt_unexpected += 1;
        let (Some(device), Some(connection)) =
            (self.devices.get(&gateway), self.connections.get(&gateway))
        else {
            return;
        };
        let Some(address) = connection.told.as_ref().map(|told| told.peer) else {
            return; // over somebody else's broker, which does not tell
        };
        let report = Report::ChildRefused {
            gateway: device.endpoint.to_string(),
            child: child.to_owned(),
            address,
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
                // and told once all are read, after a start
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
            .ok_or_else(|| self.unknown())?;
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

    /// Why a device is not known.
    const fn unknown(&self) -> Refusal {
        if self.early.are_all_read() {
            Refusal::Unknown
        } else {
            Refusal::NotYet
        }
    }

    fn removes(&mut self, gateway: DeviceId, names: &[String]) {
        let mut removed = Vec::new();
        let mut refused = Vec::new();
        let now = self.now.instant;
        let allowed = !self.product(gateway).fixed_children;
        for (index, name) in names.iter().enumerate() {
            let why = match self.child_of(gateway, name) {
                None => self.unknown(),
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
        behind.online = online;
        let lately = (behind.met_at).is_some_and(|at| now.since(at) < MET_LATELY);
        if !online {
            self.note_that_gateway_is_offline(child);
            return self.tell_presence(child);
        }
        // one that was told to be offline can be reached again by this word alone
        let children = self.gateways.get_mut(&gateway);
        let may = || children.is_some_and(|children| children.may_write(now));
        if was_offline || ((claims || !lately) && may()) {
            self.meet(child);
        }
    }
}

fn told<'a>((name, why): &(&'a str, Refusal)) -> Refused<'a> {
    let (code, detail) = why.told();
    Refused { name, code, detail }
}
