//! What a device says of its own accord (`POST /dp`, Send).

use super::{CoverageSource, Engine, Incoming, Sought, asked::Tag, key::DeviceKey, moves::By};
use crate::{
    coap::Code,
    ledger::{Inbound, Stage},
    lwm2m::{ConnectivityReading, SendError, SendRequest},
    upgrade::Input,
};

/// Whom a request comes from that names nobody.
pub(super) enum Requester {
    Is(DeviceKey),
    Nobody,
    /// The device is sought, or has moved too often: the request is left alone.
    Unknown,
}

impl Engine {
    /// The registered device that a request comes from: the one at its address or, where it is encrypted, the one that
    /// its sender has shown to be. That one is there from now on.
    pub(super) fn requester(
        &mut self,
        bound: Option<DeviceKey>,
        incoming: &Incoming<'_>,
    ) -> Requester {
        if let Some(key) = bound {
            return Requester::Is(key);
        }
        let peer = incoming.peer();
        let [endpoint] = incoming.speaker.endpoints() else {
            return Requester::Nobody; // nobody has shown anything, or it may be any of several
        };
        let id = self.ids.of(endpoint);
        match (self.devices.by_id(id), incoming.sought) {
            (Some(key), _) if peer.secured && self.device(key).registration.is_some() => {
                if self.moves_to(key, &incoming.speaker) {
                    Requester::Is(key)
                } else {
                    Requester::Unknown
                }
            }
            (None, Sought::NotYet) => {
                self.seek(id, By::Identity, None, incoming);
                Requester::Unknown
            }
            _ => Requester::Nobody,
        }
    }

    /// Takes what a registered device sends, and says whether its sender is one.
    pub(super) fn send(&mut self, key: DeviceKey, incoming: &Incoming<'_>) {
        let Some((payload, block)) = self.body(incoming) else {
            return;
        };
        let format = incoming.message.content_format().map(|format| format.0);
        let request = match SendRequest::parse(format, &payload) {
            Ok(request) => request,
            Err(error) => {
                let code = match error {
                    SendError::Format => Code::UNSUPPORTED_CONTENT_FORMAT,
                    SendError::Content(_) => Code::BAD_REQUEST,
                };
                return self.refuse(incoming, (code, &error.to_string()));
            }
        };
        // An upgrade that waits for the device begins before it hears what the device says.
        self.heard(key);
        if !request.uplink.is_empty() {
            self.count_sent_by_itself(key, incoming);
        }
        self.said(key, Inbound::ServiceData);
        self.coverage_sent(key, request.connectivity);
        self.update_sent(key, |path| request.value(path, &payload));
        for payload in request.uplink {
            self.bytes_received(key, &payload);
        }
        self.respond_changed(incoming, block);
    }

    /// The device tells its coverage without being asked. It counts as read if it is all that admission wants to know, and
    /// then it answers the question that is under way, too.
    fn coverage_sent(&mut self, key: DeviceKey, reading: ConnectivityReading) {
        let now = self.now.instant;
        let ConnectivityReading {
            cell_id: Some(_),
            rsrp: Some(_),
            sinr: Some(_),
        } = reading
        else {
            return;
        };
        if !self.store_available {
            return; // what cannot be stored now is learnt when it is told again
        }
        if !self.device_mut(key).may_write(now) {
            return self.counters.requests_ignored += 1;
        }
        self.learn_coverage(key, reading, CoverageSource::Send);
        let answer = match self.stage(key) {
            Some(Stage::QueryingCoverage | Stage::WaitingForSlot) => {
                Input::CoverageAnswered(Some(self.coverage_of(key, reading)))
            }
            Some(Stage::QueryingCell) => Input::CellAnswered(reading.cell_id),
            _ => return,
        };
        let device = self.device_mut(key);
        device.link.cancel(|tag| *tag == Tag::Read);
        if let Some(session) = device.session.as_mut() {
            session.exchange.read = None;
        }
        self.fire(key, answer);
    }
}
