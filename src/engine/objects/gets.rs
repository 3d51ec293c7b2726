//! Reads of single resources of the objects by which devices are upgraded.

use std::time::Duration;

use super::instance::UpdateInstance;
use crate::{
    coap::{Code, Kind, Message, MessageBuilder, QueuedRequest},
    engine::{Engine, asked::Tag, key::DeviceKey, link::below, observation::Purpose},
    ledger::{Happened, Inbound, UpdateObject},
    lwm2m::{ResourcePath, Value, values_of},
    package::Version,
    upgrade::{Claim, Credence, Input, transfer::object::ObjectInput},
};

/// A resource that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Get {
    /// What an instance is called.
    Name(u16),
    /// Whether an instance of object 9 without a name is free: its state.
    Free(u16),
    /// Whether a software is installed, so that its version is that of what runs: its state.
    Installed,
    /// The version that runs.
    Version,
    /// The version of the package that was installed last, where the one that runs is not the target.
    PackageVersion,
    /// The state of the upgrade, where it cannot be observed.
    State,
    /// The result of the upgrade, where it cannot be observed.
    Result,
    /// How it takes packages.
    Delivery,
    /// By which protocols it fetches them.
    Protocols,
    /// How long it may defer an installation.
    Defer,
    /// Which of its components are in the way.
    Conflicts,
}

impl Engine {
    /// The path of what is read. Without an upgrade under way it is the version, where one of the device as a whole would read it.
    pub(super) fn path_of(&self, key: DeviceKey, get: Get) -> ResourcePath {
        let session = self.device(key).session.as_ref();
        let Some(route) = session.map(|session| &session.exchange) else {
            return self.version_path(key);
        };
        match get {
            Get::Name(instance) => UpdateInstance::new(route.object, instance).name(),
            Get::Free(instance) => UpdateInstance::new(route.object, instance).state(),
            Get::Version => route.version_at(),
            Get::PackageVersion => route.at().package_version(),
            Get::State | Get::Installed => route.at().state(),
            Get::Result => route.at().result(),
            Get::Delivery => route.at().delivery_method(),
            Get::Protocols => route.at().protocols(),
            Get::Defer => route.at().max_defer_period(),
            Get::Conflicts => route.at().conflicts(),
        }
    }

    /// Reads it, unless that is under way.
    pub(in crate::engine) fn send_get(&mut self, key: DeviceKey, get: Get) {
        let tag = Tag::Get(get);
        if self.device(key).link.is_pending(|pending| *pending == tag) {
            return;
        }
        let path = self.path_of(key, get);
        let token = self.fresh_token();
        let message_id = self.take_message_id(key);
        let device = self.device(key);
        let get = MessageBuilder::new(Kind::Confirmable, Code::GET, message_id, token);
        let datagram = below(device, get, path).build();
        self.enqueue(key, QueuedRequest::new(tag, message_id, token, datagram));
    }

    /// A read was answered; `None`: with a Reset, or not at all.
    pub(in crate::engine) fn get_answered(
        &mut self,
        key: DeviceKey,
        get: Get,
        message: Option<&Message>,
    ) {
        let path = self.path_of(key, get);
        if let Some(message) = message {
            let answer = message.code().to_string();
            let path = path.to_string();
            self.said(key, Inbound::ReadAnswer { path, answer });
        }
        let values = message
            .filter(|message| message.code().is_success())
            .and_then(|message| {
                let format = message.content_format().map(|format| format.0);
                values_of(format, &path, message.payload()).ok()
            })
            .unwrap_or_default();
        let first = values.first();
        match get {
            Get::Name(instance) => {
                let name = first.and_then(Value::as_text);
                // some have no name before there is a software in them
                let nameless = message.is_some_and(|message| {
                    matches!(message.code(), Code::NOT_FOUND | Code::METHOD_NOT_ALLOWED)
                });
                let name = name.or_else(|| nameless.then(String::new));
                self.name_told(key, instance, name);
            }
            Get::Free(instance) => self.free_told(key, instance, first.and_then(number)),
            Get::Installed => match first.and_then(number) {
                Some(INSTALLED) => self.send_get(key, Get::Version),
                None if message.is_none() => {} // it is asked again within the limit of the stage
                _ => self.version_read(key, None),
            },
            Get::Version => self.version_told(key, first, message.is_some()),
            Get::PackageVersion => {
                let version = first.and_then(version_of);
                self.package_version_told(key, version);
            }
            Get::State => self.looked_at(key, Purpose::State, first.and_then(number)),
            Get::Result => self.looked_at(key, Purpose::Result, first.and_then(number)),
            Get::Conflicts => self.conflicts_told(key, &values),
            Get::Delivery | Get::Protocols | Get::Defer => {
                self.ability_told(key, get, &values);
            }
        }
    }

    /// It was asked for the version that runs, and answers, or rejects the question.
    fn version_told(&mut self, key: DeviceKey, told: Option<&Value>, answered: bool) {
        let version = told.and_then(version_of);
        let Some(session) = self.device(key).session.as_ref() else {
            if let Some(version) = version {
                self.learn_version(key, version);
            }
            return;
        };
        if !answered {
            return; // it is asked again within the limit of the stage
        }
        let (route, target) = (&session.exchange, session.package.version);
        // where it says that it is through, the package's own version may say more than the firmware's
        let asks_besides = session.negotiation().is_claimed()
            && route.object == UpdateObject::Firmware
            && !route.version_decides
            && version != Some(target);
        if asks_besides {
            if let Some(session) = self.device_mut(key).session.as_mut() {
                session.exchange.told_there = version;
            }
            return self.send_get(key, Get::PackageVersion);
        }
        self.version_read(key, version);
    }

    fn package_version_told(&mut self, key: DeviceKey, version: Option<Version>) {
        let Some(session) = self.device_mut(key).session.as_mut() else {
            return;
        };
        let there = session.exchange.told_there.take();
        let target = session.package.version;
        self.version_read(key, version.filter(|version| *version == target).or(there));
    }

    /// The version of what is upgraded, as the device is known to run it: nothing is kept of components.
    pub(in crate::engine) fn known_to_run(&self, key: DeviceKey) -> Option<Version> {
        let device = self.device(key);
        let session = device.session.as_ref()?;
        let of_device = session.exchange.tells_of_device(&session.package);
        device.version().filter(|_| of_device)
    }

    /// What runs is known, or that it is not told.
    pub(super) fn version_read(&mut self, key: DeviceKey, version: Option<Version>) {
        let credence = version.map_or(Credence::Sound, |version| {
            self.credence(key, version, Claim::Answer)
        });
        if let Some(version) = version {
            self.doubts(key, version, credence);
        }
        let session = self.device(key).session.as_ref();
        let of_device = session.is_none_or(|it| it.exchange.tells_of_device(&it.package));
        let success = pcp::ResultCode::SUCCESS;
        self.fire(key, Input::VersionAnswered(success, version, credence));
        self.remember_claim(key);
        if let Some(version) = version.filter(|_| of_device) {
            self.learn_version(key, version);
        }
    }

    /// It tells which components are in the way, or does not: its result counts now.
    fn conflicts_told(&mut self, key: DeviceKey, values: &[Value]) {
        let of_object = UpdateObject::Components.number();
        let links = values.iter().filter_map(Value::as_link);
        let instances: Vec<u16> = links
            .filter(|(object, _)| *object == of_object)
            .map(|(_, instance)| instance)
            .take(MAX_CONFLICTS)
            .collect();
        if !instances.is_empty() {
            self.note(key, Happened::InConflict { instances }.into());
        }
        let session = self.device_mut(key).session.as_mut();
        if let Some(result) = session.and_then(|session| session.exchange.conflict.take()) {
            self.fire(key, Input::Object(ObjectInput::ResultTold(result)));
        }
    }

    /// How it takes packages, as far as it tells: what it does not is left open.
    fn ability_told(&mut self, key: DeviceKey, get: Get, values: &[Value]) {
        let Some(session) = self.device_mut(key).session.as_mut() else {
            return;
        };
        let abilities = &mut session.exchange.abilities;
        match get {
            Get::Protocols => {
                abilities.protocols = values.iter().filter_map(number).take(8).collect();
            }
            Get::Defer => {
                let seconds = values.first().and_then(Value::as_unsigned);
                abilities.defer =
                    seconds.map(|seconds| Duration::from_secs(seconds.min(MAX_DEFER_S)));
                if let Some(most) = abilities.defer {
                    self.fire(key, Input::Object(ObjectInput::Deferrable(most)));
                }
                return;
            }
            _ => abilities.delivery = values.first().and_then(number),
        }
        let asked = |tag: &Tag| matches!(tag, Tag::Get(Get::Delivery | Get::Protocols));
        if self.device(key).link.is_pending(asked) {
            return;
        }
        if let Some(session) = self.device_mut(key).session.as_mut() {
            session.exchange.abilities.known = true;
        }
        self.offers_now(key);
        self.resume_push(key);
    }
}

/// Components that are named at most.
const MAX_CONFLICTS: usize = 16;
/// The state of object 9 in which a software is installed.
const INSTALLED: u8 = 4;
/// A month: no installation is waited for longer.
const MAX_DEFER_S: u64 = 30 * 86_400;

/// A state, a result, or the like.
pub(super) fn number(value: &Value) -> Option<u8> {
    value
        .as_unsigned()
        .and_then(|number| u8::try_from(number).ok())
}

fn version_of(value: &Value) -> Option<Version> {
    let text = value.as_text().filter(|text| !text.is_empty())?;
    Some(Version::told(text.as_bytes()))
}
