//! What devices are told: the version query, and the offer of a package with the right to fetch it.

use std::time::Duration;

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::{
    super::{
        endpoint::{Downlink, Qos, Release},
        iotda::{self, Kind},
        thingspanel,
    },
    Engine, Out,
    device::{Device, message_id},
};
use crate::{
    config::{OtaEvents, OtaKind, ProductConfig},
    grants::{Grant, Token, Way, safe_file_name},
    ledger::{Change, DeviceId, Failure, Outbound, Outcome, Protocol, UpgradeId},
    upgrade::{Action, Sign},
};

impl Engine {
    /// Does what the upgrade wants done.
    pub(super) fn act(&mut self, id: DeviceId, action: Action) {
        match action {
            Action::AskVersion => self.say_version_query(id),
            Action::Offer => {
                if let Some(session) = self.session_mut(id) {
                    session.exchange.owes_offer = true;
                }
                self.say_what_is_owed(id);
            }
            Action::TellPackage => self.tell_package(id),
            // there is no cell, and the device installs by itself
            Action::ReadCoverage
            | Action::ReadCell
            | Action::Command
            | Action::Look
            | Action::Reset(_)
            | Action::Activate => {}
        }
    }

    /// Asks the device what it runs, where somebody wants to know and no upgrade asks by itself. One of `ThingsPanel` cannot be asked:
    /// it tells its version when it has connected, or never.
    pub(super) fn ask_what_it_runs(&mut self, id: DeviceId) {
        let settles = Duration::from_secs(self.config.upgrade.repeat_question_s);
        let (now, since) = (self.now, self.connection(id).map(|it| it.since));
        let Some(device) = self.devices.get_mut(&id) else {
            return;
        };
        if !device.asked_what_it_runs || device.session.is_some() {
            return;
        }
        if device.protocol.tells_by_itself() {
            device.tells_by = since.map(|since| now.instant.max(since + settles));
            self.set_alarm(id);
        } else if self.is_on_a_broker() {
            // it may be there
            self.send_version_query(id);
        } else {
            self.say_version_query(id);
        }
    }

    /// A device that cannot be asked what it runs is there, and has told no other version than is known: that one holds. One of
    /// release 0.5 that had started anew with another one would have told it.
    pub(super) fn holds_what_it_told(&mut self, id: DeviceId) {
        let at = self.now.utc;
        if !self.is_connected(id) {
            return; // it is waited for
        }
        let Some(device) = self.devices.get_mut(&id) else {
            return;
        };
        if let Some(version) = device.version
            && device.session.is_none()
            && std::mem::take(&mut device.asked_what_it_runs)
        {
            let endpoint = device.endpoint.to_string();
            self.persist(
                id,
                Change::VersionReported {
                    endpoint,
                    version,
                    at,
                },
            );
        }
    }

    pub(super) fn product(&self, id: DeviceId) -> ProductConfig {
        let device = self.devices.get(&id);
        let product = device.and_then(|device| self.config.products.get(&*device.product));
        product.copied().unwrap_or_default()
    }

    /// What of the device is upgraded.
    pub(super) fn kind(&self, id: DeviceId) -> Kind {
        match self.product(id).ota {
            OtaKind::Firmware => Kind::Firmware,
            OtaKind::Software => Kind::Software,
        }
    }

    /// The part of the device that is upgraded.
    pub(super) fn module(&self, id: DeviceId) -> String {
        let module = self.product(id).module;
        module.map_or_else(|| thingspanel::WHOLE.to_owned(), |it| it.to_string())
    }

    /// Asks for the version, if the device is connected; it is asked after its next connection otherwise. Devices of `ThingsPanel`
    /// cannot be asked. While a query waits to leave there is no need for another one.
    pub(super) fn say_version_query(&mut self, id: DeviceId) {
        if self.is_connected(id) {
            self.send_version_query(id);
        }
    }

    /// The same, whether it is known to be connected or not.
    pub(super) fn send_version_query(&mut self, id: DeviceId) {
        if self.protocol(id) != Some(Protocol::Iotda) {
            return;
        }
        if !self.has_room(id) {
            if let Some(device) = self.devices.get_mut(&id) {
                device.owes_query = true;
            }
            return;
        }
        let committed = self.committed;
        let waits = |device: &mut Device| {
            device.owes_query = false;
            device.query_out = true;
            let waits = device.query_after > committed;
            device.query_after = device.query_after.max(device.pending);
            waits
        };
        if self.devices.get_mut(&id).is_none_or(waits) {
            return;
        }
        self.sent(id, Some(Outbound::VersionRequest));
        let upgrade = self.session(id).map(|session| session.order.upgrade);
        let event_id = self.next_id(id, upgrade);
        let at = self.now.utc;
        let Some(device) = self.devices.get_mut(&id) else {
            return;
        };
        if let Some(session) = &mut device.session {
            session.correspondence.left(Outbound::VersionRequest, at);
        }
        let to = iotda::Addressed {
            device: &device.endpoint,
            at,
            id: &event_id,
        };
        let task = upgrade.map_or_else(String::new, |upgrade| upgrade.0.to_string());
        let payload = to.version_query(&task).into();
        let Some(link) = self.link(id) else {
            return;
        };
        self.publish(
            id,
            Out::Publish {
                device: link,
                downlink: Downlink::Events,
                payload,
                qos: Qos::AtLeastOnce,
                upgrade,
            },
        );
    }

    pub(super) fn publish(&mut self, id: DeviceId, out: Out) {
        self.counters.mqtt_publications += 1;
        self.let_out(id, out);
    }

    fn next_id(&mut self, id: DeviceId, upgrade: Option<UpgradeId>) -> String {
        self.messages += 1;
        message_id(upgrade, id, self.messages)
    }

    /// Whether the device has begun to download since it was to be told something, and is left alone until that is over.
    fn puts_off(&mut self, id: DeviceId) -> bool {
        let now = self.now.instant;
        let transfer = self.session(id).and_then(|it| it.negotiation().transfer());
        let until = transfer.and_then(|it| it.downloads_until(now));
        if let (Some(until), Some(device)) = (until, self.devices.get_mut(&id)) {
            device.tell_at = Some(device.tell_at.map_or(until, |at| at.min(until)));
            self.set_alarm(id);
        }
        until.is_some()
    }

    /// Offers what is to be offered, if the device is there to hear it.
    pub(super) fn say_what_is_owed(&mut self, id: DeviceId) {
        let device = self.devices.get(&id);
        let owes = device.is_some_and(|it| {
            it.owes_query || (it.session.as_ref()).is_some_and(|it| it.exchange.owes_offer)
        });
        if owes && self.puts_off(id) {
            return;
        }
        let Some(connection) = self.connection(id) else {
            return;
        };
        let (subscribed, deaf, release) =
            (connection.subscribed, connection.deaf, connection.release);
        let Some(device) = self.devices.get(&id) else {
            return;
        };
        // before that, the topic is not known to which it listens; one that has unsubscribed listens to none
        let waits = device.protocol.tells_by_itself()
            && (deaf || (!subscribed && device.tell_at.is_some()));
        let owes = (device.session.as_ref()).is_some_and(|session| session.exchange.owes_offer);
        if device.owes_query {
            self.say_version_query(id);
        }
        if owes && !waits && self.has_room(id) {
            self.offer(id, release);
        }
    }

    /// The device cannot be offered what it was to be offered.
    pub(super) fn cannot_offer(&mut self, id: DeviceId) {
        if let Some(session) = self.session(id) {
            let before = session.negotiation().clone();
            self.end(id, &before, Outcome::Failed(Failure::NotServed));
        }
    }

    #[expect(
        clippy::too_many_lines,
        reason = "one field after the other, for each protocol"
    )]
    fn offer(&mut self, id: DeviceId, release: Option<Release>) {
        let Some(session) = self.session(id) else {
            return;
        };
        self.note_sign(id, session.package.version, Sign::Offered);
        let grant = self.grant(id);
        let url = (grant.as_ref()).and_then(|it| Some(self.links.as_ref()?.url(it)));
        let (Some(grant), Some(url)) = (grant, url) else {
            return self.cannot_offer(id);
        };
        let subscribed = self.connection(id).is_some_and(|it| it.subscribed);
        let committed = self.committed;
        let (kind, module, now) = (self.kind(id), self.module(id), self.now);
        let event_id = self.next_id(id, Some(grant.upgrade));
        let number = self.messages;
        let plan = self.plan(id);
        let Some(device) = self.devices.get_mut(&id) else {
            return;
        };
        let Some(session) = &mut device.session else {
            return;
        };
        let talk = &mut session.exchange;
        talk.owes_offer = false;
        talk.offer_out = true;
        talk.offered_blindly = (!subscribed).then_some(release.unwrap_or(Release::V1));
        // one that waits to leave is enough
        let waits = talk.offer_after > committed;
        talk.offer_after = talk.offer_after.max(device.pending);
        talk.first_offer_after = talk.first_offer_after.or(Some(device.pending));
        session.correspondence.left(Outbound::PackageOffer, now.utc);
        let version = session.package.version;
        let conditions = session.conditions().to_json();
        let on_a_broker = self.config.mqtt.is_by_broker();
        let said = match device.protocol {
            Protocol::Iotda | Protocol::Lwm2m => {
                let to = iotda::Addressed {
                    device: &device.endpoint,
                    at: now.utc,
                    id: &event_id,
                };
                let token = (grant.way == Way::Bearer).then(|| grant.token.as_str());
                let offer = iotda::Offer {
                    version: version.as_str(),
                    url: &url,
                    token,
                    size_bytes: grant.size_bytes,
                    file_name: &grant.file_name,
                    expires_s: grant.expires_at.since(now.utc).as_secs(),
                    sha256: &grant.sha256,
                    task: &grant.upgrade.0.to_string(),
                    custom_info: &conditions,
                };
                vec![(to.upgrade(kind, &offer), Downlink::Events, Qos::AtLeastOnce)]
            }
            Protocol::ThingsPanel => {
                let push = thingspanel::Push {
                    id: u32::try_from(number % 1_000_000_000).unwrap_or(0), // below it
                    version: version.as_str(),
                    size_bytes: grant.size_bytes,
                    url: &url,
                    sha256: &grant.sha256,
                    module: &module,
                };
                let pushed = |release: &Release| {
                    let (downlink, qos) = match release {
                        Release::V05 => (Downlink::PushV05, Qos::AtMostOnce),
                        Release::V1 => (Downlink::Push, Qos::AtLeastOnce),
                    };
                    (push.to_bytes(*release), downlink, qos)
                };
                editions(release, on_a_broker).iter().map(pushed).collect()
            }
            Protocol::QuecThing => vec![(plan.to_bytes(), Downlink::Push, Qos::AtLeastOnce)],
        };
        let Some(link) = self.link(id).filter(|_| !waits) else {
            // one that waits to leave is enough
            return self.hold(id, true);
        };
        if on_a_broker && let Some(device) = self.devices.get_mut(&id) {
            // one that has asked for it meanwhile is not told it twice
            device.plan_told_at = Some(now.instant);
        }
        if said.iter().any(|(.., qos)| *qos == Qos::AtLeastOnce) {
            self.sent(id, Some(Outbound::PackageOffer));
        }
        for (payload, downlink, qos) in said {
            let out = Out::Publish {
                device: link,
                downlink,
                payload: payload.into(),
                qos,
                upgrade: Some(grant.upgrade),
            };
            self.publish(id, out);
        }
        // many devices download on the thread that speaks MQTT
        self.hold(id, true);
    }

    /// Lets the device fetch the package of its upgrade. `None` where that cannot be fetched.
    pub(super) fn grant(&mut self, id: DeviceId) -> Option<Grant> {
        let way = match (self.protocol(id)?, self.product(id).ota_events) {
            (Protocol::Iotda, OtaEvents::V1) => Way::Bearer,
            _ => Way::Path,
        };
        let now = self.now;
        let key = self.token_key;
        let behind = self.devices.get(&id).and_then(|it| it.behind.as_deref());
        let gateway = behind.and_then(|behind| behind.gateway);
        let session = self.session_mut(id)?;
        let package = session.serves().package;
        let http = session.package.http.as_ref()?;
        let (_, until) = session.negotiation().until()?;
        let (upgrade, attempt) = (session.order.upgrade, session.order.attempt);
        let token = token(&key, [upgrade.0, i64::from(attempt), package.0], gateway)?;
        let grant = Grant {
            token: token.clone(),
            way,
            device: id,
            upgrade,
            task: session.order.task,
            package,
            sha256: http.sha256.clone(),
            size_bytes: session.package.size_bytes,
            file_name: safe_file_name(&format!("{}.bin", session.package.version)),
            expires_at: now.utc_at(until),
            already_contiguous: session.exchange.served_bytes,
            begun: session.exchange.begun,
        };
        session.exchange.token = Some(token);
        self.let_out(id, Out::Grant(Box::new(grant.clone())));
        Some(grant)
    }
}

/// As devices of which editions of `ThingsPanel` it is pushed to. On somebody else's broker nobody knows to what one has subscribed
/// that has said nothing lately: it hears one of them.
const fn editions(release: Option<Release>, on_a_broker: bool) -> &'static [Release] {
    match release {
        Some(Release::V05) => &[Release::V05],
        None if on_a_broker => &[Release::V05, Release::V1],
        Some(Release::V1) | None => &[Release::V1],
    }
}

/// A token that nobody else can make, and that stays the same for an attempt, a package, and a gateway.
fn token(key: &[u8; 32], of: [i64; 3], gateway: Option<DeviceId>) -> Option<Token> {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).ok()?; // takes keys of any length
    for number in of {
        mac.update(&number.to_be_bytes());
    }
    if let Some(gateway) = gateway {
        mac.update(&gateway.to_bytes());
    }
    let text = BASE64_URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
    Token::new(&text).ok() // 43 characters of its alphabet
}
