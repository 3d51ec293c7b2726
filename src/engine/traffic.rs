//! Counts what an upgrade exchanges with its device, and has it written down.
//!
//! What belongs to an upgrade is what is sent to its device while it runs, and what the device answers or notifies. A registration or an update
//! is none of it: they come without an upgrade too. Nor is what comes in the device's name from somebody who does not know a token: a flood
//! of it costs the device nothing.

use super::{About, Engine, Incoming, key::DeviceKey, link::Try};
use crate::{
    coap::{Kind, Peer},
    session::Counted,
};

/// An empty acknowledgement (RFC 7252 §4.2).
const ACK_BYTES: usize = 4;

impl Engine {
    /// A request leaves for a device.
    pub(super) fn count_sent(&mut self, key: DeviceKey, peer: Peer, bytes: usize, sent: Try) {
        let now = self.now.instant;
        if let Some(session) = self.device_mut(key).session.as_mut() {
            let again = sent == Try::Again;
            let secured = peer.secured;
            session.meter.sent(
                now,
                Counted {
                    bytes,
                    secured,
                    again,
                },
            );
        }
    }

    /// A request to a device with that upgrade under way, of so many bytes, never left.
    pub fn unsent(&mut self, about: About, bytes: usize, secured: bool) {
        let key = self.holders.get(&about.upgrade).copied();
        if let Some(session) = key.and_then(|key| self.device_mut(key).session.as_mut()) {
            let again = about.again;
            session.meter.unsent(Counted {
                bytes,
                secured,
                again,
            });
        }
    }

    /// A message came that only the device can have sent, for the first time or again, and is acknowledged where it wants to be.
    pub(super) fn count_came(&mut self, key: DeviceKey, incoming: &Incoming<'_>, came: Try) {
        let now = self.now.instant;
        let Some(session) = self.device_mut(key).session.as_mut() else {
            return;
        };
        let it = counted(incoming, came);
        session.meter.came(now, it);
        if incoming.message.kind() == Kind::Confirmable {
            let bytes = ACK_BYTES;
            session.meter.sent(now, Counted { bytes, ..it });
        }
    }

    /// A device has sent PCP in a request of its own (Send), which is answered. Where nothing is encrypted, its address alone says whose it is.
    pub(super) fn count_sent_by_itself(&mut self, key: DeviceKey, incoming: &Incoming<'_>) {
        let now = self.now.instant;
        let Some(session) = self.device_mut(key).session.as_mut() else {
            return;
        };
        let it = counted(incoming, Try::First);
        if it.secured {
            session.meter.came(now, it);
            let bytes = ACK_BYTES + incoming.message.token().as_bytes().len();
            session.meter.sent(now, Counted { bytes, ..it });
        } else {
            session.meter.came_unproven(now, it);
        }
    }

    /// Has the store know what the device's upgrade has exchanged, unless it is pressed: then it is told later.
    pub(super) fn store_traffic(&mut self, key: DeviceKey) {
        if self.is_pressed() {
            return;
        }
        let at = self.now.utc;
        let coverage = self.device(key).coverage().map(|(coverage, _)| coverage);
        let session = self.device_mut(key).session.as_mut();
        if let Some(change) =
            session.and_then(|session| session.take_traffic(coverage.as_ref(), at))
        {
            self.persist_lazily(change);
        }
    }
}

fn counted(incoming: &Incoming<'_>, came: Try) -> Counted {
    Counted {
        bytes: incoming.bytes.len(),
        secured: incoming.peer().secured,
        again: came == Try::Again,
    }
}
