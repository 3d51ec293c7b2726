//! What is heard: who is connected, and what devices say.

use std::{collections::BTreeSet, time::Duration};

use pcp::ResultCode;

use super::{
    super::{
        endpoint::{Ack, Event, Release, Uplink},
        iotda, thingspanel,
    },
    Basis, Connection, Effect, Engine, Out, Told,
    early::Message,
};
use crate::{
    clock::Now,
    ledger::{Change, DeviceId, FailedIn, Inbound, Protocol, ReportedFailure, Said, Stage},
    package::Version,
    upgrade::{Credence, Input, Sign, transfer::MqttInput},
};

/// How long after its connection a device of `ThingsPanel` is told something although it has not subscribed.
const UNSUBSCRIBED: Duration = Duration::from_secs(5);
/// A device that tells again what is known has that written once in this time.
const TOLD_AGAIN: Duration = Duration::from_mins(1);

impl Engine {
    /// Takes what has happened at the endpoint.
    #[expect(clippy::too_many_lines, reason = "each event, one after the other")]
    pub fn handle_event(&mut self, now: Now, event: Event) {
        self.now = now;
        match event {
            Event::Connected {
                device,
                conn,
                version,
                peer,
                client_id,
                ..
            } => {
                let connection = Connection {
                    conn,
                    since: now.instant,
                    basis: Basis::Connected,
                    told: Some(Told {
                        peer,
                        version,
                        client_id,
                    }),
                    subscribed: false,
                    deaf: false,
                    release: None,
                    held_for: BTreeSet::new(),
                };
                self.connections.insert(device, connection);
                self.meet(device);
            }
            Event::Heard {
                device,
                conn,
                anew,
                release,
            } => {
                let connection = Connection {
                    conn,
                    since: now.instant,
                    basis: if anew { Basis::Connected } else { Basis::Heard },
                    // to whatever: nobody tells
                    subscribed: true,
                    told: None,
                    deaf: false,
                    release,
                    held_for: BTreeSet::new(),
                };
                self.connections.insert(device, connection);
                self.meet(device);
            }
            Event::Subscribed {
                device, release, ..
            } => self.subscribed(device, release),
            Event::Unsubscribed { device, .. } => {
                self.heard(device);
                if let Some(connection) = self.connections.get_mut(&device) {
                    (connection.subscribed, connection.deaf) = (false, true);
                }
            }
            Event::Message {
                device,
                uplink,
                payload,
                ack,
            } => self.message(
                device,
                Message {
                    uplink,
                    payload,
                    ack,
                },
            ),
            Event::Delivered { device, .. } => {
                self.heard(device);
                self.delivered(device);
            }
            Event::Disconnected { device, conn, .. } => {
                let same = |known: &Connection| known.conn == conn;
                if self.connections.get(&device).is_some_and(same) {
                    self.connections.remove(&device);
                    let unheard = self.early.disconnected(device);
                    self.acknowledge_unheard(unheard);
                    self.tell_presence(device);
                    self.gateway_left(device);
                }
            }
            Event::Refused { .. } => {}
        }
    }

    /// The device has published something. One that is not read yet after a start is heard once it is.
    fn message(&mut self, device: DeviceId, message: Message) {
        let message = if self.devices.contains_key(&device) {
            message
        } else {
            match self.early.keep(device, message) {
                Ok(()) => return,
                Err(lost) => lost,
            }
        };
        self.heard(device);
        self.counters.mqtt_messages += 1;
        match message.uplink {
            Uplink::Events { gzip: false } => self.on_events(device, &message.payload),
            Uplink::Events { gzip: true } => match iotda::inflate(&message.payload) {
                Some(payload) => self.on_events(device, &payload),
                None => self.counters.mqtt_unreadable += 1,
            },
            Uplink::Other => self.counters.mqtt_others += 1,
            Uplink::Inform(release) => self.on_inform(device, release, &message.payload),
            Uplink::Progress(release) => self.on_progress(device, release, &message.payload),
            Uplink::Frames => self.on_frames(device, &message.payload),
        }
        self.acknowledge(device, message.ack);
        self.set_alarm(device);
    }

    /// The device is read: what it has said before is heard now.
    pub(super) fn hear_what_was_early(&mut self, id: DeviceId) {
        for message in self.early.take(id) {
            self.message(id, message);
        }
    }

    /// No device of before follows. Who is not there is none of ours, or was removed.
    pub(super) fn all_read(&mut self) {
        let unheard = self.early.all_read();
        self.acknowledge_unheard(unheard);
        let asks = self.gateways.iter();
        let mut asks: Vec<DeviceId> = asks
            .filter(|(_, children)| children.told_up_to.is_some())
            .map(|(gateway, _)| *gateway)
            .collect();
        asks.sort_unstable();
        for gateway in asks {
            self.pump(gateway);
        }
    }

    /// Nobody hears these messages, whose devices are not waited for.
    fn acknowledge_unheard(&mut self, messages: impl IntoIterator<Item = Message>) {
        for message in messages {
            if let Some(ack) = message.ack {
                self.effects.push_back(Effect::Out {
                    out: Out::Acknowledge(ack),
                    after: 0,
                });
            }
        }
    }

    /// A message of the device is acknowledged once all is committed that follows from it.
    fn acknowledge(&mut self, id: DeviceId, ack: Option<Ack>) {
        if let Some(ack) = ack {
            self.let_out(id, Out::Acknowledge(ack));
        }
    }

    fn heard(&mut self, id: DeviceId) {
        if let Some(device) = self.devices.get_mut(&id) {
            device.heard_at = Some(self.now.instant);
        }
    }

    /// The device is connected, and known: of the two the later has just come about.
    pub(super) fn meet(&mut self, id: DeviceId) {
        if self.devices.get(&id).is_some_and(|it| it.behind.is_some()) {
            return self.expect(id);
        }
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let (since, basis) = (connection.since, connection.basis);
        let subscribed = connection.subscribed;
        let Some(device) = self.devices.get_mut(&id) else {
            return;
        };
        if basis != Basis::Guessed {
            device.heard_at = Some(since);
        }
        device.connects();
        if device.protocol.tells_by_itself() && !subscribed {
            device.tell_at = Some(since + UNSUBSCRIBED);
        }
        self.greet(id);
        self.meet_children(id);
    }

    fn subscribed(&mut self, id: DeviceId, release: Option<Release>) {
        self.heard(id);
        if let Some(connection) = self.connections.get_mut(&id) {
            (connection.subscribed, connection.deaf) = (true, false);
        }
        // it was told where it did not listen
        let confirmed = (self.session(id)).is_some_and(|it| it.negotiation().is_confirmed());
        if let Some(session) = self.session_mut(id)
            && session.negotiation().transfer().is_some()
            && (session.exchange.offered_blindly.take())
                .is_some_and(|it| release.is_some_and(|now| now != it))
            && session.exchange.offer_out
            && !confirmed
        {
            session.exchange.owes_offer = true;
        }
        self.is_of(id, release);
        self.say_what_is_owed(id);
        self.set_alarm(id);
    }

    /// Its topics tell which edition it is.
    fn is_of(&mut self, id: DeviceId, release: Option<Release>) {
        if let Some(connection) = self.connections.get_mut(&id)
            && release.is_some()
        {
            connection.release = release;
        }
        // it will not tell a version
        let waits = (self.connections.get(&id)).is_some_and(|it| it.release == Some(Release::V05));
        if !waits
            && self.stage(id) == Some(Stage::QueryingVersion)
            && self.protocol(id) == Some(Protocol::ThingsPanel)
            && !self.tells_versions(id)
        {
            let known = self.devices.get(&id).and_then(|device| device.version);
            // what it is known to run it has not told
            self.answers(id, known.filter(|it| self.is_of_use(id, *it)));
        }
    }

    pub(super) fn protocol(&self, id: DeviceId) -> Option<Protocol> {
        self.devices.get(&id).map(|device| device.protocol)
    }

    /// Whether a device of `ThingsPanel` tells its version: those of release 1.x have no topic for that.
    pub(super) fn tells_versions(&self, id: DeviceId) -> bool {
        let release = self.connections.get(&id).and_then(|it| it.release);
        let device = self.devices.get(&id);
        device.is_some_and(|it| match release {
            Some(Release::V1) => it.tells_versions,
            // it may have told it before the server was started
            Some(Release::V05) | None => {
                it.tells_versions || (it.version.is_some() && !it.concluded)
            }
        })
    }

    /// What the device said last, for the facts of a failure.
    pub(super) fn said(&mut self, id: DeviceId, message: Inbound) {
        let at = self.now.utc;
        if let Some(session) = self.session_mut(id) {
            session.correspondence.said = Some(Said { message, at });
        }
    }

    /// Its upgrade is told what the device runs; `None` where it will not tell.
    pub(super) fn answers(&mut self, id: DeviceId, version: Option<Version>) {
        let credence = version.map_or(Credence::Sound, |version| self.credence(id, version));
        let event = Input::VersionAnswered(ResultCode::SUCCESS, version, credence);
        self.fire(id, event);
    }

    pub(super) fn credence(&self, id: DeviceId, version: Version) -> Credence {
        let now = self.now;
        let link = self.link(id).and_then(|link| self.connections.get(&link));
        let connection = link.filter(|it| it.basis == Basis::Connected);
        let device = self.devices.get(&id);
        let since = match device.and_then(|it| it.behind.as_deref()) {
            Some(behind) => {
                (behind.met_at).filter(|_| connection.is_some() || (behind.came && link.is_some()))
            }
            None => connection.map(|it| it.since),
        };
        let connected_at = since.map(|since| now.utc.before(now.instant.since(since)));
        device.map_or(Credence::Sound, |it| it.credence(version, connected_at))
    }

    /// The device tells its version, and its upgrade is told.
    pub(super) fn tells(&mut self, id: DeviceId, version: Version) {
        self.learns(id, version);
        self.answers(id, Some(version));
    }

    /// The device tells its version.
    pub(super) fn learns(&mut self, id: DeviceId, version: Version) {
        let now = self.now;
        let sound = self.credence(id, version) == Credence::Sound;
        let pressed = self.is_pressed();
        let Some(device) = self.devices.get(&id) else {
            return;
        };
        let lately = (device.told_at).is_some_and(|at| now.instant.since(at) < TOLD_AGAIN);
        let news = device.version != Some(version);
        let writes = sound && (news || !(pressed || lately)) && self.may_write_for(id);
        let Some(device) = self.devices.get_mut(&id) else {
            return;
        };
        device.asked_what_it_runs = false;
        device.query_out = false;
        device.owes_query = false;
        device.concluded &= news || !sound;
        if writes {
            device.version = Some(version);
            device.concluded = false;
            device.told_at = Some(now.instant);
            let change = Change::VersionReported {
                endpoint: device.endpoint.to_string(),
                version,
                at: now.utc,
            };
            self.persist(id, change);
        }
        self.said(id, Inbound::VersionReport { version });
    }

    // ---- devices of IoTDA

    fn on_events(&mut self, id: DeviceId, payload: &[u8]) {
        let Some(device) = self.devices.get(&id) else {
            return;
        };
        let Ok(read) = iotda::read(&device.endpoint, payload) else {
            self.counters.mqtt_unreadable += 1;
            return;
        };
        self.counters.mqtt_others += u64::from(read.others);
        self.counters.mqtt_unreadable += u64::from(read.unreadable);
        let about = match &read.child {
            None => id,
            Some(name) => match self.child_of(id, name) {
                Some(child) => {
                    self.heard(child);
                    child
                }
                None => return self.speaks_for_another(id, name),
            },
        };
        for said in read.said {
            match said {
                iotda::Said::Versions(versions) => {
                    if let Some(version) = versions.of(self.kind(about)) {
                        self.tells(about, version);
                    }
                }
                iotda::Said::Progress(progress) => self.on_iotda_progress(about, progress),
            }
        }
        for said in read.topology {
            self.on_topology(id, said);
        }
        if about != id {
            self.set_alarm(about);
            // it is acknowledged when that is committed which follows for the child
            let newest = self.devices.get(&about).map_or(0, |it| it.pending);
            if let Some(device) = self.devices.get_mut(&id) {
                device.pending = device.pending.max(newest);
            }
        }
    }

    fn on_iotda_progress(&mut self, id: DeviceId, progress: iotda::Progress) {
        let Some(session) = self
            .session(id)
            .filter(|it| it.negotiation().transfer().is_some())
        else {
            self.counters.mqtt_unexpected += 1;
            return;
        };
        let target = session.package.version;
        let iotda::Progress {
            code,
            percent,
            version,
            description,
            through,
        } = progress;
        if code != 0 && !self.is_about_offer(id, version) {
            self.counters.mqtt_unexpected += 1;
            return;
        }
        self.said(
            id,
            Inbound::ProgressReport {
                code,
                percent,
                version,
                description,
            },
        );
        // it runs what it was offered
        let newest = code == iotda::NEWEST && version == Some(target);
        if code != 0 && !newest {
            return self.reports_failure(id, code);
        }
        let through = through || newest;
        self.tell_percent(id, percent);
        self.fire(
            id,
            Input::Mqtt(MqttInput::Progressed {
                percent,
                as_target: through && version == Some(target),
            }),
        );
    }

    /// Whether a failure may be one of what the device was offered: a late report of an upgrade before is none. `version` is what it
    /// names: the target, or what it runs.
    pub(super) fn is_about_offer(&self, id: DeviceId, version: Option<Version>) -> bool {
        let Some(session) = self.session(id) else {
            return false;
        };
        let runs = self.devices.get(&id).and_then(|device| device.version);
        let named = version.is_none_or(|it| it == session.package.version || Some(it) == runs);
        let left = session.exchange.first_offer_after;
        named && left.is_some_and(|after| after <= self.committed)
    }

    pub(super) fn reports_failure(&mut self, id: DeviceId, code: i32) {
        let Some(session) = self.session_mut(id) else {
            return;
        };
        session.exchange.has_offer();
        let transfer = session.negotiation().transfer();
        if !transfer.is_some_and(|it| it.fails_with(code)) {
            return self.fire(id, Input::Mqtt(MqttInput::FailureReported(code)));
        }
        let version = session.package.version;
        let failure = ReportedFailure {
            failed_in: FailedIn::Installation,
            // codes of vendors are told with the outcome
            code: ResultCode(u8::try_from(code).unwrap_or(u8::MAX)),
        };
        self.note_sign(id, version, Sign::Fails(failure));
        self.fire(id, Input::Mqtt(MqttInput::FailureReported(code)));
    }

    /// How far it says to be, where nobody counts what it was served. That is never taken for the whole.
    fn tell_percent(&mut self, id: DeviceId, percent: Option<u8>) {
        let (now, interval) = (self.now, self.progress_interval());
        let Some(session) = self.session_mut(id).filter(|it| !it.exchange.counted) else {
            return;
        };
        let total = session.package.size_bytes;
        let done = percent.map(|percent| total / 100 * u64::from(percent));
        let change = done
            .and_then(|done| session.progress(now, done.min(total.saturating_sub(1)), interval));
        if let Some(change) = change {
            self.persist_lazily(change);
        }
    }

    pub(super) fn progress_interval(&self) -> Duration {
        Duration::from_secs(self.config.upgrade.progress_interval_s)
    }

    // ---- devices of ThingsPanel

    fn on_inform(&mut self, id: DeviceId, release: Release, payload: &[u8]) {
        let Ok(inform) = thingspanel::Inform::read(payload) else {
            self.counters.mqtt_unreadable += 1;
            return;
        };
        if inform.module != self.module(id) {
            self.counters.mqtt_others += 1;
            return;
        }
        if let Some(device) = self.devices.get_mut(&id) {
            device.tells_versions = true;
        }
        self.is_of(id, Some(release));
        self.tells(id, inform.version);
    }

    fn on_progress(&mut self, id: DeviceId, release: Release, payload: &[u8]) {
        self.is_of(id, Some(release));
        let Ok(progress) = thingspanel::Progress::read(payload) else {
            self.counters.mqtt_unreadable += 1;
            return;
        };
        let offered = (self.session(id)).is_some_and(|it| it.negotiation().transfer().is_some());
        if progress.module != self.module(id) || !offered {
            self.counters.mqtt_unexpected += 1;
            return;
        }
        let (code, percent) = match progress.step {
            thingspanel::Step::Failed(code) => (code, None),
            thingspanel::Step::Percent(percent) => (0, Some(percent)),
            thingspanel::Step::Through => (0, Some(100)),
        };
        self.said(
            id,
            Inbound::ProgressReport {
                code,
                percent,
                version: None,
                description: progress.description,
            },
        );
        if let Some(session) = self.session_mut(id) {
            session.exchange.has_offer();
        }
        match progress.step {
            thingspanel::Step::Failed(code) => self.reports_failure(id, code),
            thingspanel::Step::Percent(_) => {
                self.tell_percent(id, percent);
                self.fire(
                    id,
                    Input::Mqtt(MqttInput::Progressed {
                        percent,
                        as_target: false,
                    }),
                );
            }
            thingspanel::Step::Through => {
                let tells_versions = self.tells_versions(id);
                let target = self.session(id).map(|session| session.package.version);
                if let Some(version) = target {
                    // so that it is known after a restart of the server
                    self.note_sign(id, version, Sign::Claims);
                }
                self.fire(id, Input::Mqtt(MqttInput::Done { tells_versions }));
            }
        }
    }
}
