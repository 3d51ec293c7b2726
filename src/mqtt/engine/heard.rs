//! What is heard: who is connected, what devices say, and what they were served.

use std::time::Duration;

use pcp::ResultCode;

use super::{
    super::{
        endpoint::{Ack, Event, Release, Uplink},
        iotda, thingspanel,
    },
    Connection, Engine, Out,
};
use crate::{
    clock::Now,
    grants::Served,
    ledger::{
        Change, DeviceId, FailedIn, Fate, Inbound, Outbound, Protocol, ReportedFailure, Said, Stage,
    },
    package::Version,
    upgrade::{Credence, Input, Sign, transfer::MqttInput},
};

/// How long after its connection a device of `ThingsPanel` is told something although it has not subscribed.
const UNSUBSCRIBED: Duration = Duration::from_secs(5);
/// How long after an offer that could not be sent it is sent again.
const UNSENT: Duration = Duration::from_secs(10);

impl Engine {
    /// Takes what has happened at the endpoint.
    pub fn handle_event(&mut self, now: Now, event: Event) {
        self.now = now;
        match event {
            Event::Connected { device, conn, .. } => {
                let connection = Connection {
                    conn,
                    since: now.instant,
                    subscribed: false,
                    release: None,
                };
                self.connections.insert(device, connection);
                self.meet(device);
            }
            Event::Subscribed {
                device, release, ..
            } => self.subscribed(device, release),
            Event::Message {
                device,
                uplink,
                payload,
                ack,
            } => {
                self.heard(device);
                self.counters.mqtt_messages += 1;
                match uplink {
                    Uplink::Events { gzip: false } => self.on_events(device, &payload),
                    // compressed properties: upgrades' events are not compressed
                    Uplink::Events { gzip: true } | Uplink::Other => {
                        self.counters.mqtt_others += 1;
                    }
                    Uplink::Inform(release) => self.on_inform(device, release, &payload),
                    Uplink::Progress(release) => self.on_progress(device, release, &payload),
                }
                self.acknowledge(device, ack);
                self.set_alarm(device);
            }
            Event::Delivered { device, .. } => {
                self.heard(device);
                if let Some(session) = self.session_mut(device) {
                    for message in [Outbound::VersionRequest, Outbound::PackageOffer] {
                        session.correspondence.fared(&message, Fate::Acknowledged);
                    }
                }
            }
            Event::Disconnected { device, conn, .. } => {
                let same = |known: &Connection| known.conn == conn;
                if self.connections.get(&device).is_some_and(same) {
                    self.connections.remove(&device);
                }
            }
            Event::Refused { .. } => {}
        }
    }

    /// A message to the device could not be sent, although it is connected: it does not take what was sent before. What it was offered
    /// leaves again a little later; it is asked again for its version anyway.
    pub fn unsent(&mut self, now: Now, id: DeviceId) {
        self.now = now;
        let connected = self.is_connected(id);
        let Some(device) = self.devices.get_mut(&id).filter(|_| connected) else {
            return; // it is told when it has connected
        };
        let Some(session) = &mut device.session else {
            return;
        };
        let transfer = session.negotiation().transfer();
        if transfer.is_some_and(|transfer| !transfer.is_confirmed()) {
            session.exchange.owes_offer = true;
            device.tell_at = Some(now.instant + UNSENT);
            self.set_alarm(id);
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
        let Some(connection) = self.connections.get(&id) else {
            return;
        };
        let since = connection.since;
        let Some(device) = self.devices.get_mut(&id) else {
            return;
        };
        device.heard_at = Some(since);
        if device.protocol == Protocol::ThingsPanel {
            device.tell_at = Some(since + UNSUBSCRIBED);
        }
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
        self.set_alarm(id);
    }

    fn subscribed(&mut self, id: DeviceId, release: Option<Release>) {
        self.heard(id);
        if let Some(connection) = self.connections.get_mut(&id) {
            connection.subscribed = true;
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
        if self.stage(id) == Some(Stage::QueryingVersion)
            && self.protocol(id) == Some(Protocol::ThingsPanel)
            && !self.tells_versions(id)
        {
            let known = self.devices.get(&id).and_then(|device| device.version);
            self.answers(id, known);
        }
    }

    pub(super) fn protocol(&self, id: DeviceId) -> Option<Protocol> {
        self.devices.get(&id).map(|device| device.protocol)
    }

    /// Whether a device of `ThingsPanel` tells its version: those of release 1.x have no topic for that.
    fn tells_versions(&self, id: DeviceId) -> bool {
        let release = self.connections.get(&id).and_then(|it| it.release);
        let device = self.devices.get(&id);
        device.is_some_and(|it| match release {
            Some(Release::V05) => true,
            Some(Release::V1) => it.tells_versions,
            None => it.tells_versions || it.version.is_some(),
        })
    }

    /// What the device said last, for the facts of a failure.
    fn said(&mut self, id: DeviceId, message: Inbound) {
        let at = self.now.utc;
        if let Some(session) = self.session_mut(id) {
            session.correspondence.said = Some(Said { message, at });
        }
    }

    /// Its upgrade is told what the device runs; `None` where it will not tell.
    fn answers(&mut self, id: DeviceId, version: Option<Version>) {
        let credence = version.map_or(Credence::Sound, |version| self.credence(id, version));
        let event = Input::VersionAnswered(ResultCode::SUCCESS, version, credence);
        self.fire(id, event);
    }

    fn credence(&self, id: DeviceId, version: Version) -> Credence {
        let now = self.now;
        let since = self.connections.get(&id).map(|it| it.since);
        let connected_at = since.map(|since| now.utc.before(now.instant.since(since)));
        let device = self.devices.get(&id);
        device.map_or(Credence::Sound, |it| it.credence(version, connected_at))
    }

    /// The device tells its version.
    pub(super) fn tells(&mut self, id: DeviceId, version: Version) {
        let now = self.now;
        let sound = self.credence(id, version) == Credence::Sound;
        let pressed = self.is_pressed();
        let Some(device) = self.devices.get_mut(&id) else {
            return;
        };
        device.asked_what_it_runs = false;
        let news = device.version != Some(version);
        if sound && (news || !pressed) && device.may_write(now.instant) {
            device.version = Some(version);
            let change = Change::VersionReported {
                endpoint: device.endpoint.to_string(),
                version,
                at: now.utc,
            };
            self.persist(id, change);
        }
        self.said(id, Inbound::VersionReport { version });
        self.answers(id, Some(version));
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
        for said in read.said {
            match said {
                iotda::Said::Versions(versions) => {
                    if let Some(version) = versions.of(self.kind(id)) {
                        self.tells(id, version);
                    }
                }
                iotda::Said::Progress(progress) => self.on_iotda_progress(id, progress),
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
        } = progress;
        self.said(
            id,
            Inbound::ProgressReport {
                code,
                percent,
                version,
                description,
            },
        );
        if code != 0 {
            return self.reports_failure(id, code);
        }
        let through = percent.is_none_or(|percent| percent == 100);
        self.tell_percent(id, percent);
        self.fire(
            id,
            Input::Mqtt(MqttInput::Progressed {
                percent,
                as_target: through && version == Some(target),
            }),
        );
    }

    fn reports_failure(&mut self, id: DeviceId, code: i32) {
        let Some(session) = self.session(id) else {
            return;
        };
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

    fn progress_interval(&self) -> Duration {
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
                self.fire(id, Input::Mqtt(MqttInput::Done { tells_versions }));
            }
        }
    }

    // ---- downloads

    /// So much of a package was served to a device.
    pub fn served(&mut self, now: Now, served: &Served) {
        self.now = now;
        let (id, interval) = (served.device, self.progress_interval());
        let Some(session) = self.session_mut(id).filter(|it| {
            it.order.upgrade == served.upgrade && it.exchange.token.as_ref() == Some(&served.token)
        }) else {
            return;
        };
        let version = session.package.version;
        let more = served.contiguous_bytes > session.exchange.served_bytes;
        session.exchange.served_bytes = session.exchange.served_bytes.max(served.contiguous_bytes);
        let interval = if served.whole {
            Duration::ZERO
        } else {
            interval
        };
        let told = (more || served.whole)
            .then(|| session.progress(now, served.contiguous_bytes, interval));
        let confirmed = session.negotiation().is_confirmed();
        let had_whole = (session.negotiation().transfer()).is_some_and(|it| it.has_whole());
        if had_whole {
            return;
        }
        if !confirmed || !session.takes {
            session.takes = true;
            self.note_sign(id, version, Sign::Takes);
        }
        if let Some(change) = told.flatten() {
            // what the whole is by which a success is believed is written before that is
            self.persist(id, change);
        }
        if served.whole {
            // it installs it by itself from now on
            self.note_sign(id, version, Sign::Holds);
            self.note_sign(id, version, Sign::Commanded);
            self.let_out(
                id,
                Out::Hold {
                    device: id,
                    on: false,
                },
            );
            self.fire(id, Input::Mqtt(MqttInput::FetchedAll));
        } else {
            let fetched = MqttInput::Fetched { further: more };
            self.fire(id, Input::Mqtt(fetched));
        }
        self.set_alarm(id);
    }
}
