//! Devices with `QuecThing`: what they say, and what they are told besides the offer.

use std::time::Duration;

use super::{
    super::{
        endpoint::{Downlink, Qos},
        quecthing::{self, Message, Package, Part, Plan, Status, What},
    },
    Engine, Out,
    device::Session,
};
use crate::{
    config::{OtaKind, QuecChecksum},
    ledger::{Conditions, DeviceId, Inbound, Outbound, Protocol, Stage},
    package::Version,
    upgrade::{
        Credence, Input, Sign,
        transfer::{
            MqttInput,
            quecthing::{FAILED, REFUSED},
        },
    },
};

/// A device that asks for its plan again and again is told it once in this time.
const TOLD_AGAIN: Duration = Duration::from_secs(2);

/// The plan for a device, without what it is a part of.
pub(super) struct Planned {
    part: Part,
    component: Option<String>,
    from: Option<Version>,
    to: Option<Version>,
    conditions: Conditions,
    number: u64,
    checksum: QuecChecksum,
}

impl Planned {
    /// As it is sent.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let plan = Plan {
            part: self.part,
            component: self.component.as_deref(),
            from: self.from.as_ref().map(Version::as_str),
            to: self.to.as_ref().map_or("", Version::as_str),
            conditions: self.conditions,
        };
        plan.to_bytes(self.number, self.checksum)
    }
}

impl Engine {
    /// What of the device is upgraded: its module, or the controller beside it.
    fn part(&self, id: DeviceId) -> Part {
        match self.product(id).ota {
            OtaKind::Firmware => Part::Module,
            OtaKind::Software => Part::Mcu,
        }
    }

    fn component(&self, id: DeviceId) -> Option<String> {
        self.product(id).module.map(|module| module.to_string())
    }

    /// The plan of the upgrade that the device has.
    pub(super) fn plan(&self, id: DeviceId) -> Planned {
        let device = self.devices.get(&id);
        let from = device.and_then(|it| it.version.filter(|_| !it.concluded));
        Planned {
            part: self.part(id),
            component: self.component(id),
            from,
            to: self.session(id).map(|session| session.package.version),
            conditions: (self.session(id)).map_or_else(Conditions::default, Session::conditions),
            number: self.messages,
            checksum: self.config.mqtt.quecthing_checksum,
        }
    }

    /// The device has published frames.
    pub(super) fn on_frames(&mut self, id: DeviceId, payload: &[u8]) {
        if self.protocol(id) != Some(Protocol::QuecThing) {
            self.counters.mqtt_unexpected += 1;
            return;
        }
        let Ok(messages) = quecthing::read(payload, self.config.mqtt.quecthing_checksum) else {
            self.counters.mqtt_unreadable += 1;
            return;
        };
        for message in messages {
            self.on_message(id, message);
        }
    }

    fn on_message(&mut self, id: DeviceId, message: Message) {
        let component = self.component(id);
        let named = message.component.as_deref();
        // of another part of it
        if (named.zip(component.as_deref())).is_some_and(|(named, own)| named != own) {
            self.counters.mqtt_unexpected += 1;
            return;
        }
        let version = message.version_of(self.part(id));
        if version.is_some()
            && let Some(device) = self.devices.get_mut(&id)
        {
            device.tells_versions = true;
        }
        match message.what {
            What::AsksForPlan => self.asks_for_plan(id, version),
            What::Status(status) => self.on_status(id, status, version, message.words),
            What::Other(_) => self.counters.mqtt_others += 1,
        }
    }

    /// It asks for its plan, and tells what it runs: what is to be offered is offered then. One that has the plan, and has not confirmed
    /// it, is told it again; that there is none is told too.
    fn asks_for_plan(&mut self, id: DeviceId, version: Option<Version>) {
        let before = self.offers_now(id);
        let confirmed = (self.session(id)).is_some_and(|it| it.negotiation().is_confirmed());
        let target = self.session(id).map(|session| session.package.version);
        match version {
            // it has not taken it, and cannot have installed it
            Some(version) if before && !confirmed && Some(version) != target => {
                self.learns(id, version);
            }
            Some(version) => self.tells(id, version),
            None if self.stage(id) == Some(Stage::QueryingVersion) => {
                let known = self.devices.get(&id).and_then(|device| device.version);
                // what it is known to run it has not told
                self.answers(id, known.filter(|it| self.is_of_use(id, *it)));
            }
            None => {}
        }
        let has_offer = self.offers_now(id);
        if has_offer && !before {
            return; // this has led to it
        }
        let now = self.now.instant;
        let counted = confirmed && version.is_some();
        let on_a_broker = self.is_on_a_broker();
        let Some(device) = self.devices.get_mut(&id) else {
            return;
        };
        let lately = (device.plan_told_at).is_some_and(|at| now.since(at) < TOLD_AGAIN);
        // a broker does not tell whether the device has got it
        let is_out =
            !on_a_broker && (device.session.as_ref()).is_some_and(|it| it.exchange.offer_out);
        if lately || (has_offer && (counted || is_out)) {
            return; // with the other version it was offered again, or that is on its way
        }
        device.plan_told_at = Some(now);
        if has_offer {
            if let Some(session) = self.session_mut(id) {
                session.exchange.owes_offer = true;
            }
            self.say_what_is_owed(id);
        } else {
            self.tell_that_there_is_no_plan(id);
        }
    }

    /// Whether the device has a plan.
    fn offers_now(&self, id: DeviceId) -> bool {
        (self.session(id)).is_some_and(|it| it.negotiation().transfer().is_some())
    }

    fn on_status(
        &mut self,
        id: DeviceId,
        status: Status,
        version: Option<Version>,
        words: Option<String>,
    ) {
        if !self.offers_now(id) {
            if let (Status::Succeeded, Some(version)) = (status, version)
                && self.is_shown(id, version)
            {
                self.tells(id, version);
            } else {
                self.counters.mqtt_unexpected += 1;
            }
            return;
        }
        let code = match status {
            Status::Refused => REFUSED,
            Status::Failed => FAILED,
            _ => 0,
        };
        if code != 0 && !self.is_about_offer(id, None) {
            self.counters.mqtt_unexpected += 1;
            return;
        }
        self.said(
            id,
            Inbound::ProgressReport {
                code,
                percent: None,
                version: None,
                description: words,
            },
        );
        if let Some(session) = self.session_mut(id) {
            session.exchange.has_offer();
        }
        match status {
            Status::PlanReceived | Status::None => {}
            Status::Unknown(_) => self.counters.mqtt_unexpected += 1,
            Status::Refused | Status::Failed => self.reports_failure(id, code),
            Status::Confirmed => self.fire(id, Input::Mqtt(MqttInput::Confirmed)),
            Status::DownloadError => self.fire(id, Input::Mqtt(MqttInput::DownloadError)),
            Status::DownloadBegins
            | Status::Downloading
            | Status::Downloaded
            | Status::Updating => self.fire(
                id,
                Input::Mqtt(MqttInput::Progressed {
                    percent: None,
                    as_target: false,
                }),
            ),
            Status::Succeeded => self.says_that_it_has_succeeded(id, version),
        }
    }

    /// A claim, which what it was served or a later connection shows.
    fn says_that_it_has_succeeded(&mut self, id: DeviceId, version: Option<Version>) {
        let shown = version.is_some_and(|version| self.is_shown(id, version));
        let target = self.session(id).map(|session| session.package.version);
        if let Some(target) = target.filter(|target| version.is_none_or(|it| it == *target)) {
            // so that it is known after a restart of the server
            self.note_sign(id, target, Sign::Claims);
        }
        match version {
            Some(version) if shown || Some(version) != target => self.tells(id, version),
            // it is not known to run that before something shows it
            Some(version) => self.answers(id, Some(version)),
            None => {
                let tells_versions = self.tells_versions(id);
                self.fire(id, Input::Mqtt(MqttInput::Done { tells_versions }));
            }
        }
    }

    /// Whether a report of success shows that the device runs the version: one that was offered it has fetched it, and has connected
    /// anew since.
    fn is_shown(&self, id: DeviceId, version: Version) -> bool {
        let device = self.devices.get(&id);
        let evidence = device.and_then(|device| device.evidence.of(version));
        evidence.is_none_or(|it| it.taken && self.credence(id, version) == Credence::Sound)
    }

    /// Tells a device that has confirmed its plan where the package is.
    pub(super) fn tell_package(&mut self, id: DeviceId) {
        let grant = self.grant(id);
        let url = (grant.as_ref()).and_then(|it| Some(self.links.as_ref()?.url(it)));
        let (Some(grant), Some(url)) = (grant, url) else {
            return self.cannot_offer(id);
        };
        let Some(version) = self.session(id).map(|session| session.package.version) else {
            return;
        };
        self.messages += 1;
        let component = self.component(id);
        let package = Package {
            component: component.as_deref(),
            version: version.as_str(),
            url: &url,
            size_bytes: grant.size_bytes,
            sha256: &grant.sha256,
        };
        let payload = package.to_bytes(self.messages, self.config.mqtt.quecthing_checksum);
        if let Some(session) = self.session_mut(id) {
            // should it not leave, the plan leaves again, and is confirmed again
            session.exchange.offer_out = true;
        }
        self.tell(id, payload, Some(Outbound::PackageOffer));
        self.hold(id, true);
    }

    fn tell_that_there_is_no_plan(&mut self, id: DeviceId) {
        self.messages += 1;
        let payload = quecthing::no_plan(self.messages, self.config.mqtt.quecthing_checksum);
        self.tell(id, payload, None);
    }

    fn tell(&mut self, id: DeviceId, payload: Vec<u8>, what: Option<Outbound>) {
        let Some(device) = self.link(id).filter(|_| self.is_connected(id)) else {
            return; // it asks again when it has connected
        };
        let upgrade = self.session(id).map(|session| session.order.upgrade);
        self.sent(id, what);
        self.publish(
            id,
            Out::Publish {
                device,
                downlink: Downlink::Push,
                payload: payload.into(),
                qos: Qos::AtLeastOnce,
                upgrade,
            },
        );
    }
}
