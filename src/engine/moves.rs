//! A device is heard here that another engine may have: it is sought, and its row comes over. Devices move when a
//! network gives them another address, and once when they are heard for the first time.

use super::{
    DeviceId, Effect, Engine, Incoming, Lease, Location, Seq, Speaker, device::Device,
    key::DeviceKey, registered::Excuse,
};
use crate::{
    clock::{Instant, Now},
    coap::{Message, Peer},
    config::{Lwm2mConfig, RegistrationPolicy},
    ledger::PullToken,
};

/// A datagram that seems to come from a device that this engine does not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seek {
    /// The device.
    pub device: DeviceId,
    /// It registers, and may do so though nobody has it, within these limits.
    pub newcomer: Option<Welcome>,
    pub(super) by: By,
    peer: Peer,
    endpoints: Box<[Box<str>]>,
    handshake_at: Option<Instant>,
    /// When it was heard.
    heard_at: Instant,
    bytes: Box<[u8]>,
}

/// How many newcomers are let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Welcome {
    /// While there are fewer devices than this.
    pub most: usize,
    /// In an hour, all together.
    pub per_hour: u32,
    /// In an hour, from an IPv4 /24 or an IPv6 /48.
    pub per_network_per_hour: u32,
}

impl Welcome {
    /// As the settings have it; `None` where nobody may come that was not added.
    pub(super) fn of(config: &Lwm2mConfig) -> Option<Self> {
        (config.registration == RegistrationPolicy::Open).then_some(Self {
            most: config.max_open_devices,
            per_hour: config.newcomers_per_hour,
            per_network_per_hour: config.newcomers_per_network_per_hour,
        })
    }
}

/// What tells which device it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    /// Its name: it registers.
    Name,
    /// Its name, with the first of several blocks of a registration: what follows may never come.
    NameInPart,
    /// Where it updates its registration.
    Location(Location),
    /// The token of its observation.
    Token,
    /// Who has shown to be it, where it is encrypted.
    Identity,
    /// The gateway has gone there through which it was heard. There is no datagram.
    Gateway,
    /// What it fetches its package under: a lease is asked for, and the device stays.
    Pull(PullToken),
}

impl Seek {
    /// Whether the device is to come to whoever has heard it, or is only asked for.
    pub fn brings(&self) -> bool {
        !matches!(self.by, By::NameInPart | By::Pull(_))
    }

    /// From where it was sent.
    pub const fn peer(&self) -> Peer {
        self.peer
    }

    /// As whoever is sought is a gateway: has that device, which is behind it, follow.
    pub(super) fn after(&self, device: DeviceId) -> Self {
        Self {
            device,
            newcomer: None,
            by: By::Gateway,
            bytes: Box::default(),
            ..self.clone()
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Who has sent the datagram.
    pub(super) fn speaker(&self) -> Speaker<'_> {
        Speaker::new(self.peer, &self.endpoints).since(self.handshake_at)
    }
}

/// What came of seeking a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sought {
    /// It was not sought yet.
    NotYet,
    /// Nobody has it.
    Nobody,
    /// Another engine has it, and whoever has sent the datagram may be it. It was not to come.
    Elsewhere,
    /// Nobody has it, and too many have come by themselves lately.
    TooManyCome,
    /// Nobody had it; it is this engine's from now on.
    Newcomer,
    /// Another engine has the device of that name, and whoever has sent the datagram is not it.
    NotTheirs(Box<str>),
    /// A package may be served from this lease.
    Lent(Box<Lease>),
}

/// What an engine knows of a device that is sought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Whose {
    /// It is not here.
    NotHere,
    /// It is here, and not registered as what it says would want.
    NotRegistered,
    /// It is here; whoever has sent the datagram is not it.
    NotTheirs(Box<str>),
    /// It is here, and has said that before: a network has kept or doubled the datagram, and the device has moved since.
    /// It is answered from here.
    Repeated,
    /// It is here, and what it fetches may be served from this lease. It stays.
    Lent(Box<Lease>),
    /// It may go, once this change is committed.
    Theirs(Seq),
}

/// A device on its way from one engine to another, with its upgrade.
#[derive(Debug)]
pub struct MovingDevice {
    pub(super) device: Box<Device>,
    /// Engines have numbers of their own for products.
    product: Box<str>,
    /// Devices that are reached through it are to follow.
    followers: Vec<Seek>,
}

impl MovingDevice {
    pub(super) fn new(device: Device, product: Box<str>) -> Self {
        let device = Box::new(device);
        Self {
            device,
            product,
            followers: Vec::new(),
        }
    }
}

impl Engine {
    /// Asks for the device that seems to have sent a datagram.
    pub(super) fn seek(
        &mut self,
        device: DeviceId,
        by: By,
        newcomer: Option<Welcome>,
        incoming: &Incoming<'_>,
    ) {
        self.effects.push_back(Effect::Seek(Box::new(Seek {
            device,
            newcomer,
            by,
            peer: incoming.peer(),
            endpoints: incoming.speaker.endpoints().into(),
            handshake_at: incoming.speaker.handshake_at(),
            heard_at: self.heard_at,
            bytes: incoming.bytes.into(),
        })));
    }

    /// Takes a datagram again whose device was sought, or has come.
    pub fn handle_sought(&mut self, now: Now, seek: &Seek, sought: &Sought) {
        self.now = now;
        if matches!(seek.by, By::Pull(_)) {
            return self.handle_lent(seek, sought);
        }
        if let Ok(message) = Message::parse(&seek.bytes) {
            self.heard_at = seek.heard_at;
            self.receive(&Incoming {
                speaker: seek.speaker(),
                bytes: &seek.bytes,
                message: &message,
                sought,
            });
        }
        let key = self.devices.by_id(seek.device);
        if let Some(key) = key {
            self.follow(key, seek);
        }
        if let Some(key) = key.filter(|key| self.device(*key).peer().is_none()) {
            // It came for nothing.
            self.has_left_its_address(Some(key));
        }
    }

    /// Whether the device is here.
    pub fn has(&self, id: DeviceId) -> bool {
        self.devices.by_id(id).is_some()
    }

    /// Whether a device that is sought is here and may go.
    ///
    /// One that is not registered where it says is told so (4.04), which explains its next registration.
    pub fn whose(&mut self, now: Now, seek: &Seek) -> Whose {
        let Some(key) = self.devices.by_id(seek.device) else {
            return Whose::NotHere;
        };
        if let By::Pull(token) = seek.by {
            let lease = self.lend(token).map(Box::new);
            return lease.map_or(Whose::NotRegistered, Whose::Lent);
        }
        let whose = self.whose_row(key, now, seek);
        if whose == Whose::NotRegistered && seek.by != By::Gateway {
            self.device_mut(key).excuse = Some(Excuse::Refused);
        }
        whose
    }

    fn whose_row(&self, key: DeviceKey, now: Now, seek: &Seek) -> Whose {
        let device = self.device(key);
        let registered = match seek.by {
            By::Name | By::NameInPart => true,
            By::Location(location) => device.location() == Some(location),
            By::Token | By::Identity => device.registration.is_some(),
            By::Gateway => device.through().is_some(),
            By::Pull(_) => false, // it does not go
        };
        if !seek.speaker().may_be(device) {
            Whose::NotTheirs(device.endpoint.clone())
        } else if !registered {
            Whose::NotRegistered
        } else if !matches!(seek.by, By::Name | By::NameInPart)
            && has_said(device, now.instant, &seek.bytes)
        {
            Whose::Repeated
        } else {
            Whose::Theirs(device.pending)
        }
    }

    /// Gives a device to another engine. The change that it waits for must be committed.
    ///
    /// `None` when it has moved so often lately that it is left alone: a move counts as one of its writes, and causes some.
    pub fn give_away(&mut self, now: Now, seek: &Seek) -> Option<MovingDevice> {
        self.now = now;
        let key = self.devices.by_id(seek.device)?;
        // Anybody may know its name, where nothing is encrypted.
        let claimed = seek.by == By::Name && !seek.peer.secured;
        let shown = !claimed || self.is_valid_at(key, seek.peer);
        if !self.device_mut(key).may_write_as(now.instant, shown) {
            self.counters.requests_ignored += 1;
            return None;
        }
        let followers = self.followers(seek.device, seek);
        let mut moving = self.remove_device(key);
        moving.followers = followers;
        if let Some(session) = &moving.device.session {
            self.holders.remove(&session.order.upgrade);
        }
        Some(moving)
    }

    /// Takes a device from another engine. It is not spoken to before what it has said is handled, which tells where
    /// it is.
    pub fn take_in(&mut self, now: Now, row: MovingDevice) {
        self.now = now;
        let mut device = *row.device;
        device.product = self.profiles.enter(&row.product);
        device.pending = 0;
        if let Some(session) = &mut device.session {
            session.commanded_after = 0;
        }
        let known = device.known.as_mut();
        if let Some(behind) = known.and_then(|known| known.behind.as_mut()) {
            behind.through = false; // before it is heard here
        }
        let followers = row.followers.into_iter().map(Box::new);
        self.effects.extend(followers.map(Effect::Seek));
        self.counters.devices_moved += 1;
        let upgrade = device.session.as_ref().map(|session| session.order.upgrade);
        debug_assert!(!self.has(device.id), "a device is here twice");
        let key = self.devices.insert(device);
        if let Some(upgrade) = upgrade {
            self.holders.insert(upgrade, key);
        }
        self.set_alarm(key);
    }
}

fn has_said(device: &Device, now: Instant, bytes: &[u8]) -> bool {
    let message = Message::parse(bytes);
    message.is_ok_and(|message| device.answered_before(now, bytes, &message).is_some())
}
