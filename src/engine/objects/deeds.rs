//! What an upgrade by one of the standard's objects wants done, and what is left to do when it ends.

use super::{gets::Get, route::Route};
use crate::{
    engine::{Engine, asked::Tag, drive::Asked, key::DeviceKey, observation::Purpose},
    ledger::{Stage, UpdateStep},
    upgrade::{Action, Input, Negotiation, transfer::Transfer},
};

impl Engine {
    /// Before a device that was waited for is asked anything, it is chosen by which object it is upgraded.
    pub(in crate::engine) fn choose_first(&mut self, key: DeviceKey, event: Input) {
        let heard = matches!(
            event,
            Input::Registered { .. } | Input::Restarted | Input::Heard
        );
        if heard && self.stage(key) == Some(Stage::WaitingForDevice) {
            self.choose_object(key);
        }
    }

    /// Does what the upgrade wants done, where that is by one of the standard's objects; `None` where it is not.
    pub(in crate::engine) fn act_by_object(
        &mut self,
        key: DeviceKey,
        action: Action,
    ) -> Option<Asked> {
        let stage = self.stage(key);
        // the next step of several may be for another object
        if action == Action::AskVersion
            && stage == Some(Stage::QueryingVersion)
            && !self.choose_object(key)
        {
            return Some(Asked::Nothing);
        }
        let session = self.device(key).session.as_ref()?;
        if !session.exchange.is_by_object() {
            return None;
        }
        Some(match action {
            Action::ReadCoverage | Action::ReadCell => return None,
            Action::AskVersion => {
                let pending = |tag: &Tag| {
                    matches!(
                        tag,
                        Tag::Get(Get::Name(_) | Get::Free(_) | Get::Installed | Get::Version)
                    )
                };
                if self.device(key).link.is_pending(pending) {
                    return Some(Asked::Before);
                }
                let get = self.ask_object_version(key);
                get.map_or(Asked::Nothing, |get| Asked::Now(Tag::Get(get)))
            }
            Action::Look => {
                self.look_at_update(key);
                let first = [
                    Tag::AttributesOf(Purpose::State),
                    Tag::Watch(Purpose::State),
                ];
                let waits = |tag: &Tag| self.device(key).link.waits(|waiting| waiting == tag);
                (first.into_iter().find(waits)).map_or(Asked::Before, Asked::Now)
            }
            Action::Reset(way) => {
                self.reset_update(key, way);
                Asked::Now(Tag::Step(UpdateStep::Reset))
            }
            Action::Offer | Action::TellPackage => {
                self.offer_by_object(key);
                let device = self.device(key);
                let tags = [
                    Tag::Get(Get::Delivery),
                    Tag::Step(UpdateStep::Package),
                    Tag::Block(0),
                ];
                let waits = |tag: &Tag| device.link.waits(|waiting| waiting == tag);
                (tags.into_iter().find(waits)).map_or(Asked::Nothing, Asked::Now)
            }
            Action::Command => {
                self.install_update(key);
                Asked::Now(Tag::Step(UpdateStep::Install))
            }
            Action::Activate => {
                self.activate_update(key);
                Asked::Now(Tag::Step(UpdateStep::Activate))
            }
        })
    }

    /// The device fetches its package no more, by whatever it did.
    pub(in crate::engine) fn serves_no_more(&mut self, key: DeviceKey) {
        self.close_pull(key);
        self.revoke(self.device(key).id);
    }

    /// The upgrade has ended: the package is served no more, and a device that may still be at it is told to forget it.
    pub(in crate::engine) fn ends_by_object(
        &mut self,
        key: DeviceKey,
        before: &Negotiation,
        route: &Route,
    ) {
        self.serves_no_more(key);
        if !route.is_by_object() {
            return;
        }
        if before.transfer().is_some_and(Transfer::is_left_open) {
            self.cancel_on_device(key, route.at());
            self.settle(key);
        }
    }
}
