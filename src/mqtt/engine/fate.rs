//! What becomes of what a device is sent: whether it got that, and how much it was served of its package.

use std::{collections::BTreeSet, time::Duration};

use super::Engine;
use crate::{
    clock::Now,
    grants::Served,
    ledger::{DeviceId, Fate, Outbound},
    upgrade::{
        Input, Sign,
        transfer::{MqttInput, Transfer},
    },
};

/// How long after an offer that could not be sent it is sent again.
const UNSENT: Duration = Duration::from_secs(10);
/// How long a connection is held on after the whole package was served: some devices take it in, and write it, on the thread that
/// speaks MQTT.
const TAKES_IN: Duration = Duration::from_mins(10);

impl Engine {
    /// The device has acknowledged what was sent over its connection first of what was not acknowledged.
    pub(super) fn delivered(&mut self, link: DeviceId) {
        if let Some(children) = self.gateways.get_mut(&link) {
            children.full_since = None;
        }
        let device = self.devices.get_mut(&link);
        let first = device.and_then(|it| it.unacknowledged.pop_front());
        if let Some((id, message)) = first {
            self.has_got(id, message);
        }
        self.pump(link);
    }

    fn has_got(&mut self, id: DeviceId, message: Option<Outbound>) {
        if let (Some(message), Some(device)) = (message, self.devices.get_mut(&id)) {
            if message == Outbound::VersionRequest {
                device.query_out = false;
            }
            if let Some(session) = &mut device.session {
                if message == Outbound::PackageOffer {
                    session.exchange.has_offer();
                }
                session.correspondence.fared(&message, Fate::Acknowledged);
            }
        }
    }

    /// A message to the device, or to one behind it, could not be sent, although it is connected: it does not take what was sent
    /// before. What they were asked and offered over this connection, and have not been seen to get, leaves again a little later.
    pub fn unsent(&mut self, now: Now, link: DeviceId) {
        self.now = now;
        let device = self.devices.get_mut(&link);
        let lost = device.map(|device| std::mem::take(&mut device.unacknowledged));
        let mut concerned: BTreeSet<DeviceId> =
            lost.into_iter().flatten().map(|(id, _)| id).collect();
        concerned.insert(link);
        // what is not acknowledged one by one, or waited for a change, is not listed
        let children = self.gateways.get(&link);
        concerned.extend(children.into_iter().flat_map(|children| &children.all));
        for id in concerned {
            self.unsent_to(id);
        }
        self.goes_on_at(link, now.instant + UNSENT);
    }

    /// The server stops: what was served since that was written down last is written down.
    pub fn stopping(&mut self, now: Now) {
        self.now = now;
        let mut holders: Vec<DeviceId> = self.holders.values().copied().collect();
        holders.sort_unstable();
        for id in holders {
            let Some(session) = self.session_mut(id) else {
                continue;
            };
            let fetches = (session.negotiation().transfer()).is_some_and(|it| !it.has_whole());
            if !session.exchange.counted || !fetches {
                continue;
            }
            let served = session.exchange.served_bytes;
            let Some(traffic) = session.take_traffic(None, now.utc) else {
                continue; // nothing has come since
            };
            let progress = session.progress(now, served, Duration::ZERO);
            self.persist_lazily(traffic);
            if let Some(progress) = progress {
                self.persist_lazily(progress);
            }
        }
        self.write_all_late();
    }

    fn unsent_to(&mut self, id: DeviceId) {
        let now = self.now;
        let connected = self.is_connected(id);
        let Some(device) = self.devices.get_mut(&id) else {
            return;
        };
        // what waits to leave may not leave any more
        device.query_after = 0;
        if let Some(session) = &mut device.session {
            session.exchange.offer_after = 0;
        }
        if !connected {
            return; // it is told when it has connected
        }
        // which of them it was is not known
        let mut owes = device.query_out;
        device.owes_query |= device.query_out;
        if let Some(session) = &mut device.session
            && session.exchange.offer_out
            && session.negotiation().transfer().is_some()
        {
            session.exchange.owes_offer = true;
            owes = true;
        }
        if owes {
            device.tell_at = Some(now.instant + UNSENT);
            self.set_alarm(id);
        }
    }

    /// The connection of a device that may be fetching what it was offered is held, whichever one it is.
    pub(super) fn hold_while_offered(&mut self, id: DeviceId) {
        let Some(device) = self.devices.get(&id) else {
            return;
        };
        let offered = (device.session.as_ref()).is_some_and(|session| {
            let transfer = session.negotiation().transfer();
            session.exchange.token.is_some()
                && transfer.is_some_and(|it| !it.has_whole() || device.let_go_at.is_some())
        });
        if offered {
            self.hold(id, true);
        }
    }

    /// Bytes of the package leave for the device once it is written down that it fetches it.
    fn lets_begin(&mut self, id: DeviceId) {
        let waits = self.session(id).is_some_and(|it| !it.exchange.begun);
        if waits && let Some(session) = self.session_mut(id) {
            session.exchange.begun = true;
            self.grant(id);
        }
    }

    /// So much of a package was served to a device.
    pub fn served(&mut self, now: Now, served: &Served) {
        self.now = now;
        let (id, interval) = (served.device, self.progress_interval());
        let Some(session) = self.session_mut(id).filter(|it| {
            let is_its = it.order.upgrade == served.upgrade;
            is_its && !served.over && it.exchange.token.as_ref() == Some(&served.token)
        }) else {
            return self.has_cost(served);
        };
        session.meter.fetched(served.more_bytes);
        let version = session.package.version;
        if (session.negotiation().transfer()).is_some_and(Transfer::has_whole) {
            return;
        }
        let confirmed = session.negotiation().is_confirmed();
        let talk = &mut session.exchange;
        let before = std::mem::replace(&mut talk.served_bytes, served.contiguous_bytes);
        let further = served.contiguous_bytes > before;
        let begins = !talk.begun;
        talk.has_offer();
        // one that has everything needs no other offer
        talk.owes_offer &= !served.whole;
        let interval = if served.whole {
            Duration::ZERO
        } else {
            interval
        };
        let told = (further || served.whole)
            .then(|| session.progress(now, served.contiguous_bytes, interval))
            .flatten();
        let traffic = told
            .as_ref()
            .and_then(|_| session.take_traffic(None, now.utc));
        if begins {
            session.takes = true;
            self.note_that_it_takes(id, version);
        } else if !confirmed || !session.takes {
            session.takes = true;
            self.note_sign(id, version, Sign::Takes);
        }
        if let Some(change) = traffic {
            self.persist_lazily(change);
        }
        if let Some(change) = told {
            // what the whole is by which a success is believed is written before that is
            self.persist(id, change);
        }
        self.lets_begin(id);
        let let_go_at = served.whole.then(|| now.instant + TAKES_IN);
        if let Some(device) = self.devices.get_mut(&id) {
            device.let_go_at = let_go_at;
        }
        self.put_off_reminder(id);
        // over another connection than it was offered it, perhaps
        self.hold(id, true);
        if served.whole {
            // it installs it by itself from now on
            self.note_sign(id, version, Sign::Holds);
            self.note_sign(id, version, Sign::Commanded);
            self.fire(id, Input::Mqtt(MqttInput::FetchedAll));
        } else {
            let in_flight = served.in_flight;
            self.fire(id, Input::Mqtt(MqttInput::Fetched { further, in_flight }));
        }
        self.set_alarm(id);
    }
}
