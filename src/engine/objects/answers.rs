//! What becomes of requests about an object by which a device is upgraded.

use super::gets::Get;
use crate::{
    coap::Message,
    engine::{Engine, asked::Tag, key::DeviceKey},
    ledger::UpdateStep,
    upgrade::{Input, transfer::object::ObjectInput},
};

impl Engine {
    /// The device has answered.
    pub(in crate::engine) fn object_answered(
        &mut self,
        key: DeviceKey,
        tag: Tag,
        message: &Message,
    ) {
        let code = message.code();
        match tag {
            Tag::Get(get) => self.get_answered(key, get, Some(message)),
            Tag::Watch(purpose) => self.watch_answered(key, purpose, Some(message)),
            Tag::AttributesOf(_) if !code.is_success() => {
                self.attributes_of_refused(key, Some(code));
            }
            Tag::Step(step) => self.step_answered(key, step, Some(code)),
            Tag::Block(_) => self.block_answered(key, Some(message)),
            Tag::Forget(at, again) => self.forget_answered(key, (at, again), Some(code)),
            _ => {}
        }
    }

    /// The device has acknowledged it, and never answered.
    pub(in crate::engine) fn object_left_open(&mut self, key: DeviceKey, tag: Tag) {
        match tag {
            // it may have restarted before it answered
            Tag::Step(UpdateStep::Install) => self.carried_out(key, UpdateStep::Install),
            Tag::Step(step) => self.fire(key, Input::Object(ObjectInput::Unanswered(step))),
            Tag::Block(_) => self.push_on(key),
            tag => self.object_rejected(key, tag),
        }
    }

    /// The device has rejected it with a Reset.
    pub(in crate::engine) fn object_rejected(&mut self, key: DeviceKey, tag: Tag) {
        match tag {
            Tag::Get(get) => self.get_answered(key, get, None),
            Tag::Watch(purpose) => self.watch_answered(key, purpose, None),
            Tag::AttributesOf(_) => self.attributes_of_refused(key, None),
            Tag::Step(step) => self.step_answered(key, step, None),
            Tag::Block(_) => self.block_answered(key, None),
            Tag::Forget(at, again) => self.forget_answered(key, (at, again), None),
            _ => {}
        }
    }

    /// It was repeated as often as allowed, and nothing came back.
    pub(in crate::engine) fn object_unanswered(&mut self, key: DeviceKey, tag: Tag) {
        match tag {
            Tag::Get(get @ (Get::State | Get::Result | Get::Conflicts)) => {
                self.get_answered(key, get, None);
            }
            Tag::Get(get @ (Get::Delivery | Get::Protocols)) => self.get_answered(key, get, None),
            Tag::Watch(purpose) => self.looked_at(key, purpose, None),
            Tag::Forget(at, _) => self.forgets_later(key, at),
            _ => {}
        }
        if self.is_transferring_by_object(key) {
            self.fire(key, Input::Object(ObjectInput::Undelivered));
        }
    }
}
