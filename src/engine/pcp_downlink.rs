//! PCP messages to a device, besides the answers to its own.

use std::sync::Arc;

use pcp::PlatformMessage;

use super::{Engine, asked::Tag, key::DeviceKey, objects::Get};
use crate::upgrade::Sign;

impl Engine {
    /// Asks for the version of a device that was upgraded some time ago.
    pub(super) fn ask_what_it_runs(&mut self, key: DeviceKey) {
        let device = self.device_mut(key);
        device.known.get_or_insert_default().asked_what_it_runs = true;
        self.ask_again_what_it_runs(key);
    }

    /// The same, if it was asked and has not answered. An upgrade asks by itself.
    pub(super) fn ask_again_what_it_runs(&mut self, key: DeviceKey) {
        let device = self.device(key);
        let asked = device
            .known
            .as_ref()
            .is_some_and(|known| known.asked_what_it_runs);
        if !asked || device.session.is_some() {
            return;
        }
        if !self.observes_uplink(key) {
            return self.send_get(key, Get::Version);
        }
        let device = self.device(key);
        if !device.observing {
            self.send_observe(key); // the answer comes by its observation
        }
        if !self.device(key).link.is_pending(|tag| *tag == Tag::Version) {
            self.send_message(key, Tag::Version, &PlatformMessage::VersionQuery);
        }
    }

    /// Says what the device's upgrade wants to be said: asks for its version (19), notifies it of the new one (20), or has
    /// it upgrade (23).
    pub(super) fn say(&mut self, key: DeviceKey, tag: Tag) {
        let Some(session) = self.device(key).session.as_ref() else {
            return;
        };
        let package = Arc::clone(&session.package);
        let Some(offer) = package.pcp_offer() else {
            // it is told that it is not served once it has said what it runs
            if tag == Tag::Version {
                self.send_message(key, tag, &PlatformMessage::VersionQuery);
            }
            return;
        };
        let message = match tag {
            Tag::Version => PlatformMessage::VersionQuery,
            Tag::Notify => {
                self.note_sign(key, package.version, Sign::Offered);
                PlatformMessage::NewVersion {
                    version: offer.version,
                    segment_size: offer.segmentation.segment_size(),
                    segment_count: offer.segmentation.segment_count(),
                    check_code: offer.check_code,
                }
            }
            Tag::Execute => PlatformMessage::Execute,
            _ => return,
        };
        self.send_message(key, tag, &message);
    }
}
