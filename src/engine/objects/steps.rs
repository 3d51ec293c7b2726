//! What a device is told in its upgrade: to forget what it has, to install, to activate. And how that is answered.

use super::instance::UpdateInstance;
use crate::{
    coap::{Code, ContentFormat, Kind, MessageBuilder, QueuedRequest},
    engine::{
        Engine,
        asked::{Read, Tag},
        key::DeviceKey,
        link::below,
    },
    ledger::{Happened, Stage, UpdateObject, UpdateStep},
    lwm2m::{Container, ResourcePath, Wrapping},
    upgrade::{
        Input,
        transfer::object::{ObjectInput, Reset},
    },
};

/// A write or an execution.
pub(super) struct Deed {
    pub(super) code: Code,
    pub(super) path: ResourcePath,
    /// Text or bytes, with their content format.
    pub(super) payload: Option<(ContentFormat, Vec<u8>)>,
}

impl Deed {
    const fn execute(path: ResourcePath) -> Self {
        Self {
            code: Code::POST,
            path,
            payload: None,
        }
    }

    fn with(self, argument: &str) -> Self {
        Self {
            payload: Some((ContentFormat::TEXT, argument.as_bytes().to_vec())),
            ..self
        }
    }

    pub(super) fn write(path: ResourcePath, text: &str) -> Self {
        Self {
            code: Code::PUT,
            path,
            payload: Some((ContentFormat::TEXT, text.as_bytes().to_vec())),
        }
    }

    /// By which the device forgets what it has.
    fn reset(at: UpdateInstance, way: Reset) -> Self {
        match way {
            Reset::EmptyUri => Self::write(at.uri(), ""),
            Reset::NulPackage => Self {
                code: Code::PUT,
                path: at.package(),
                payload: Some((ContentFormat::OCTET_STREAM, vec![0])),
            },
            Reset::Cancel => Self::execute(at.cancel()),
            // OMA LWM2M-SwMgmt 1.0, resource 6: with the argument 1 it is for an update
            Reset::UninstallForUpdate => Self::execute(at.uninstall()).with("1"),
            Reset::Uninstall => Self::execute(at.uninstall()),
        }
    }
}

impl Engine {
    /// Tells the device that.
    pub(super) fn send_deed(&mut self, key: DeviceKey, tag: Tag, deed: Deed) {
        (self.device_mut(key).link).cancel(|pending| *pending == tag);
        let tlv =
            (self.device(key).session.as_ref()).is_some_and(|session| session.exchange.writes_tlv);
        let token = self.fresh_token();
        let message_id = self.take_message_id(key);
        let message = MessageBuilder::new(Kind::Confirmable, deed.code, message_id, token);
        let mut message = below(self.device(key), message, deed.path);
        if let Some((format, payload)) = deed.payload {
            let text = format == ContentFormat::TEXT && deed.code == Code::PUT;
            let (format, payload) = if text && tlv {
                let wrapping = Wrapping {
                    container: Container::Tlv,
                    multiple: false,
                };
                let format = ContentFormat(wrapping.container.format());
                (format, wrapping.wrap(&deed.path, &payload))
            } else {
                (format, payload)
            };
            message = message.content_format(format).payload(payload);
        }
        let datagram = message.build();
        self.enqueue(key, QueuedRequest::new(tag, message_id, token, datagram));
    }

    /// Has it forget what it has.
    pub(in crate::engine) fn reset_update(&mut self, key: DeviceKey, way: Reset) {
        let Some(at) = self.updated_at(key) else {
            return;
        };
        self.send_deed(key, Tag::Step(UpdateStep::Reset), Deed::reset(at, way));
    }

    /// Has it install what it was served.
    pub(in crate::engine) fn install_update(&mut self, key: DeviceKey) {
        let Some(at) = self.updated_at(key) else {
            return;
        };
        let install = Deed::execute(at.install());
        let install = match at.object() {
            // only this component, whichever others are ready (resource 2)
            UpdateObject::Components => install.with("0"),
            _ => install,
        };
        self.send_deed(key, Tag::Step(UpdateStep::Install), install);
    }

    /// Has it activate what it has installed.
    pub(in crate::engine) fn activate_update(&mut self, key: DeviceKey) {
        let Some(at) = self.updated_at(key) else {
            return;
        };
        let activate = Deed::execute(at.activate());
        self.send_deed(key, Tag::Step(UpdateStep::Activate), activate);
    }

    pub(super) fn updated_at(&self, key: DeviceKey) -> Option<UpdateInstance> {
        let session = self.device(key).session.as_ref()?;
        Some(session.exchange.at())
    }

    /// What it was told was answered with that code, or with a Reset.
    pub(in crate::engine) fn step_answered(
        &mut self,
        key: DeviceKey,
        step: UpdateStep,
        code: Option<Code>,
    ) {
        if code.is_some_and(Code::is_success) {
            return self.carried_out(key, step);
        }
        if code == Some(Code::UNSUPPORTED_CONTENT_FORMAT) && self.writes_in_tlv(key, step) {
            return;
        }
        let code = code.unwrap_or(Code::NOT_FOUND);
        let answer = code.to_string();
        self.note(key, Happened::StepRefused { step, answer }.into());
        let refused = ObjectInput::Refused(step, code.0);
        self.fire(key, Input::Object(refused));
    }

    /// It has done what it was told.
    pub(in crate::engine) fn carried_out(&mut self, key: DeviceKey, step: UpdateStep) {
        self.fire(key, Input::Object(ObjectInput::CarriedOut(step)));
    }

    /// Where it takes no text, it is written to in TLV, from now on.
    fn writes_in_tlv(&mut self, key: DeviceKey, step: UpdateStep) -> bool {
        let Some(session) = self.device_mut(key).session.as_mut() else {
            return false;
        };
        if std::mem::replace(&mut session.exchange.writes_tlv, true) {
            return false;
        }
        match step {
            UpdateStep::Package => {
                self.offers_now(key);
                true
            }
            UpdateStep::Reset if session.exchange.object != UpdateObject::Software => {
                self.reset_update(key, Reset::EmptyUri);
                true
            }
            UpdateStep::Reset | UpdateStep::Install | UpdateStep::Activate => false,
        }
    }

    /// The upgrade has ended for us while the device may still be downloading: it is told to forget it, when it listens.
    pub(in crate::engine) fn cancel_on_device(&mut self, key: DeviceKey, at: UpdateInstance) {
        let way = match at.object() {
            UpdateObject::Pcp => return,
            UpdateObject::Software => Reset::Uninstall,
            UpdateObject::Firmware | UpdateObject::Components => Reset::EmptyUri,
        };
        // until it has answered
        self.forgets_later(key, at);
        self.send_deed(key, Tag::Forget(at, Again::Not), Deed::reset(at, way));
    }

    /// It was told to forget it; where it refuses, by its resource Cancel.
    pub(in crate::engine) fn forget_answered(
        &mut self,
        key: DeviceKey,
        (at, again): (UpdateInstance, Again),
        code: Option<Code>,
    ) {
        let refused = !code.is_some_and(Code::is_success);
        if refused && again == Again::Not && at.object() != UpdateObject::Software {
            let cancel = Deed::reset(at, Reset::Cancel);
            self.send_deed(key, Tag::Forget(at, Again::Yes), cancel);
        } else if let Some(known) = self.device_mut(key).known.as_mut() {
            known.forgets.take_if(|forgets| *forgets == at);
        }
    }

    /// It is not there: it is told when it is heard.
    pub(super) fn forgets_later(&mut self, key: DeviceKey, at: UpdateInstance) {
        if at.object() == UpdateObject::Software {
            return; // by then it may have installed it
        }
        let known = self.device_mut(key).known.get_or_insert_default();
        known.forgets = Some(at);
    }

    /// It is there again, unless that is queued. In an upgrade by one of these objects it is made to forget what it has anyway.
    pub(in crate::engine) fn forgets_now(&mut self, key: DeviceKey) {
        let transfers = self.is_transferring_by_object(key);
        let device = self.device_mut(key);
        let Some(known) = device.known.as_mut() else {
            return;
        };
        if transfers {
            known.forgets = None;
        } else if let Some(at) = known.forgets
            && !(device.link).is_pending(|tag| matches!(tag, Tag::Forget(..)))
        {
            self.cancel_on_device(key, at);
        }
    }

    /// The device has registered anew: what it was told before did not reach it, and its notifications count from the beginning.
    pub(in crate::engine) fn begins_anew_by_object(&mut self, key: DeviceKey) {
        if let Some(session) = self.device_mut(key).session.as_mut() {
            session.exchange.newest = [None; 2];
        }
        self.forgets_now(key);
    }

    /// What a request reads, observes, writes or executes, for the facts of an attempt.
    pub(in crate::engine) fn path_of_tag(&self, key: DeviceKey, tag: Tag) -> Option<ResourcePath> {
        let session = self.device(key).session.as_ref()?;
        let route = &session.exchange;
        match tag {
            Tag::Read => route.read.as_ref().map(Read::path),
            Tag::Get(get) => Some(self.path_of(key, get)),
            Tag::Watch(purpose) => Some(route.observed(purpose)),
            Tag::Step(UpdateStep::Reset | UpdateStep::Package) => Some(route.at().uri()),
            Tag::Step(UpdateStep::Install) => Some(route.at().install()),
            Tag::Step(UpdateStep::Activate) => Some(route.at().activate()),
            _ => None,
        }
    }

    /// Whether it is in the transfer by one of the standard's objects.
    pub(in crate::engine) fn is_transferring_by_object(&self, key: DeviceKey) -> bool {
        let session = self.device(key).session.as_ref();
        session.is_some_and(|session| {
            session.exchange.is_by_object()
                && session
                    .negotiation()
                    .stage()
                    .is_some_and(Stage::is_transfer)
        })
    }
}

/// Whether something is tried in the second way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::engine) enum Again {
    Not,
    Yes,
}
