//! Devices that are connected to somebody else's MQTT broker, whose client this server is. No socket and no clock: what the broker
//! sends goes in, [`Output`]s come out.
//!
//! ```text
//! connected ──▶ Subscribe, each time anew
//! granted   ──▶ Reached: devices with upgrades are asked
//! message   ──▶ whose topic is it? ─▶ Event::Heard, where it was not there ─▶ Event::Message ─▶ … committed ─▶ acknowledge
//! publish   ──▶ Publish, on the device's topic
//! silence   ──▶ Event::Disconnected
//! ```
//!
//! The broker has authenticated the device: the topic says who speaks. Whoever may publish on a device's topic is that device.
//!
//! Nobody tells when devices come and go. A device is there while it was heard lately. A message after a silence makes it
//! [`Event::Heard`], which shows nothing of when it has connected; only what a device of IoTDA says of that itself (`$log`) does.
//!
//! The broker is not trusted with more than that: what it sends is bounded in size, number and pace, and what is on no device's topic is
//! dropped and counted. What it had retained is dropped, because nobody knows how old that is.

mod counts;
mod log;
mod presence;
mod settling;
mod topics;

pub use counts::Counts;
pub use topics::Named;

use std::{collections::VecDeque, num::NonZeroU16, sync::Arc, time::Duration};

use bytes::Bytes;

use super::endpoint::{
    Ack, ConnId, Downlink, Ending, Event, Identity, PublishError, Qos, Ration, Release, Style,
    Uplink, uplink,
};
use crate::{
    clock::{Instant, Now},
    config::{BrokerVersion, MqttConfig},
    ledger::DeviceId,
};
use presence::Presence;
use settling::Settling;
use topics::Topics;

/// A message of the broker.
#[derive(Debug)]
pub struct Publication<'a> {
    /// Its topic.
    pub topic: &'a str,
    /// Its content.
    pub payload: Bytes,
    /// The broker had kept it.
    pub retained: bool,
    /// Its number, where it is to be acknowledged.
    pub packet_id: Option<NonZeroU16>,
}

/// What the driver has to do.
#[derive(Debug)]
pub enum Output {
    /// Subscribe to these filters with QoS 1.
    Subscribe(Vec<String>),
    /// Publish.
    Publish {
        /// To whom, and what it is: for [`Broker::unsent`].
        device: DeviceId,
        /// What it is.
        downlink: Downlink,
        /// The topic.
        topic: String,
        /// The content.
        payload: Bytes,
        /// How.
        qos: Qos,
    },
    /// Acknowledge this message of the broker.
    Acknowledge(NonZeroU16),
    /// Something happened that the engine has to know.
    Event(Event),
    /// The broker can be reached, and tells what devices say: the engine has to know.
    Reached,
    /// A message was not sent: the engine has to know.
    Unsent {
        /// To whom.
        device: DeviceId,
        /// What it was.
        downlink: Downlink,
        /// Why.
        error: PublishError,
    },
    /// A message came on the topic of a device that nobody has added.
    Unknown(Box<str>),
    /// The connection is to be ended: the broker does what it may not, or is to send anew what was not settled.
    End(&'static str),
}

/// What stands for the connection to the broker: the highest place, which no device has.
const LINK: u32 = u32::MAX;

/// A broker, and the devices that are heard over it.
pub struct Broker {
    topics: Topics,
    presence: Presence,
    settling: Settling,
    receive_maximum: usize,
    packet_bytes: usize,
    ration: Ration,
    connected: bool,
    /// Filters of which it is not known whether they are granted.
    asked: usize,
    generation: u32,
    outputs: VecDeque<Output>,
    counts: Counts,
}

impl Broker {
    /// Not connected yet. The seed is not for strangers to know.
    pub fn new(config: &MqttConfig, seed: u64) -> Self {
        let broker = &config.broker;
        Self {
            topics: Topics::of(broker),
            presence: Presence::new(Duration::from_secs(broker.online_s)),
            settling: Settling::default(),
            receive_maximum: match broker.version {
                // which has no way to say it
                BrokerVersion::V311 => usize::from(u16::MAX),
                BrokerVersion::V5 => usize::from(broker.receive_maximum),
            },
            packet_bytes: config.max_packet_bytes as usize,
            ration: Ration::new(
                seed,
                config.unacknowledged_per_second,
                Duration::from_secs(1),
            ),
            connected: false,
            asked: 0,
            generation: 0,
            outputs: VecDeque::new(),
            counts: Counts::default(),
        }
    }

    const fn link(&self) -> ConnId {
        ConnId {
            slot: LINK,
            generation: self.generation,
        }
    }

    /// The broker has accepted the connection.
    pub fn connected(&mut self) {
        self.connected = true;
        self.generation = self.generation.wrapping_add(1);
        self.settling.clear();
        self.counts.mqtt_broker_connections += 1;
        let filters = self.topics.filters();
        self.asked = filters.len();
        self.outputs.push_back(Output::Subscribe(filters));
    }

    /// The broker has answered to a subscription. Returns whether it has granted all of it.
    pub fn granted(&mut self, granted: &[bool]) -> bool {
        let well = granted.iter().filter(|it| **it).count();
        self.counts.mqtt_broker_subscriptions_granted += well as u64;
        self.counts.mqtt_broker_subscriptions_refused += (granted.len() - well) as u64;
        if self.asked > 0 && well > 0 {
            self.asked = 0;
            self.outputs.push_back(Output::Reached);
        }
        well == granted.len()
    }

    /// The connection to the broker is over: nobody can be reached.
    pub fn disconnected(&mut self) {
        if !std::mem::take(&mut self.connected) {
            return;
        }
        self.asked = 0;
        self.counts.mqtt_broker_connections_lost += 1;
        self.settling.clear();
        for (device, conn) in self.presence.forget_all() {
            self.away(device, conn, Ending::Lost);
        }
    }

    /// Whether the broker is connected.
    pub const fn is_connected(&self) -> bool {
        self.connected
    }

    fn away(&mut self, device: DeviceId, conn: ConnId, why: Ending) {
        self.event(Event::Disconnected { device, conn, why });
    }

    fn event(&mut self, event: Event) {
        self.outputs.push_back(Output::Event(event));
    }

    /// The broker has sent a message. `known` finds the device that its topic names.
    pub fn message(
        &mut self,
        now: Now,
        publication: Publication<'_>,
        known: impl FnOnce(Named<'_>) -> Option<Arc<Identity>>,
    ) {
        self.counts.mqtt_broker_messages_received += 1;
        if !self.connected {
            return;
        }
        let packet_id = publication.packet_id;
        if let Some(packet_id) = packet_id
            && !(self.settling).came(now.instant, packet_id, self.receive_maximum)
        {
            self.outputs.push_back(Output::End(
                "it sends more messages than mqtt.broker.receive_maximum before they are acknowledged",
            ));
            return;
        }
        if let Err(dropped) = self.take(now, publication, known) {
            *dropped += 1;
            if let Some(packet_id) = packet_id {
                self.settle(packet_id, false);
            }
        }
    }

    /// Tells the engine. The error is what counts that it was dropped.
    fn take(
        &mut self,
        now: Now,
        publication: Publication<'_>,
        known: impl FnOnce(Named<'_>) -> Option<Arc<Identity>>,
    ) -> Result<(), &mut u64> {
        let Publication {
            topic,
            payload,
            retained,
            packet_id,
        } = publication;
        if retained {
            return Err(&mut self.counts.mqtt_broker_messages_retained);
        }
        let Some(topic) = self.topics.read(topic) else {
            return Err(&mut self.counts.mqtt_broker_messages_foreign);
        };
        let Some(identity) = known(topic.named) else {
            // a token is not told
            if let Named::Device(name) = topic.named {
                self.outputs.push_back(Output::Unknown(name.into()));
            }
            return Err(&mut self.counts.mqtt_broker_messages_unknown_device);
        };
        let device = identity.device;
        // one that is acknowledged is never dropped for its number: the broker waits until those before it are settled
        if packet_id.is_none() && !self.ration.take(now.instant, &device) {
            return Err(&mut self.counts.mqtt_broker_messages_too_many);
        }
        let Ok(uplink) = uplink(&identity, &topic.own) else {
            return Err(&mut self.counts.mqtt_broker_messages_foreign);
        };
        if identity.style != topic.style {
            return Err(&mut self.counts.mqtt_broker_messages_foreign);
        }
        if payload.len() > uplink.most_bytes().min(self.packet_bytes) {
            return Err(&mut self.counts.mqtt_broker_messages_too_large);
        }
        self.counts.mqtt_broker_messages_taken += 1;
        let (anew, release) = match uplink {
            Uplink::Events { .. } => (log::has_connected(&identity.name, &payload), None),
            Uplink::Inform(release) | Uplink::Progress(release) => (false, Some(release)),
            Uplink::Frames | Uplink::Other => (false, None),
        };
        self.hear(now.instant, device, anew, release);
        let link = self.link();
        let ack = packet_id.map(|packet_id| Ack::new(link, packet_id, false));
        self.event(Event::Message {
            device,
            uplink,
            payload,
            ack,
        });
        Ok(())
    }

    fn hear(&mut self, now: Instant, device: DeviceId, anew: bool, release: Option<Release>) {
        if let Some(conn) = self.presence.heard(now, device, anew) {
            self.event(Event::Heard {
                device,
                conn,
                anew,
                release,
            });
        }
    }

    /// What follows from a message is settled: the broker may forget it.
    pub fn acknowledge(&mut self, ack: Ack) {
        if ack.conn() == self.link() && self.connected {
            self.settle(ack.packet_id, true);
        }
    }

    fn settle(&mut self, packet_id: NonZeroU16, stored: bool) {
        let done = self.settling.settled(packet_id, stored);
        self.outputs
            .extend(done.into_iter().map(Output::Acknowledge));
    }

    /// Publishes to a device, whether it is there or not: what the broker does not deliver is asked again.
    pub fn publish(
        &mut self,
        device: DeviceId,
        identity: Option<&Identity>,
        downlink: Downlink,
        payload: &Bytes,
        qos: Qos,
    ) {
        let tokenless = |it: &Identity| it.style == Style::ThingsPanel && it.token().is_none();
        if downlink == Downlink::PushV05 && identity.is_some_and(tokenless) {
            return; // its token is in that topic: it listens to the other ones alone
        }
        let topics = identity.map(|identity| self.topics.down(identity, downlink));
        let error = match &topics {
            _ if !self.connected => Some(PublishError::NotConnected),
            None => Some(PublishError::NotConnected),
            Some(topics) if topics.is_empty() => Some(PublishError::OtherStyle),
            Some(_) => None,
        };
        if let Some(error) = error {
            return self.unsent(device, downlink, error);
        }
        for topic in topics.unwrap_or_default() {
            self.counts.mqtt_broker_messages_sent += 1;
            self.outputs.push_back(Output::Publish {
                device,
                downlink,
                topic,
                payload: payload.clone(),
                qos,
            });
        }
    }

    /// A message could not be given to the broker.
    pub fn unsent(&mut self, device: DeviceId, downlink: Downlink, error: PublishError) {
        self.counts.mqtt_broker_messages_unsent += 1;
        self.outputs.push_back(Output::Unsent {
            device,
            downlink,
            error,
        });
    }

    /// The broker says that it has not taken a message. It is asked and offered again, as what is lost is.
    pub const fn refused(&mut self) {
        self.counts.mqtt_broker_messages_refused += 1;
    }

    /// The device's credentials, or the device, were changed or removed.
    pub fn forget(&mut self, device: DeviceId) {
        if let Some(conn) = self.presence.forget(device) {
            self.away(device, conn, Ending::Credentials);
        }
    }

    /// Looks who has fallen silent, and whether a message is never settled. Call when [`poll_timeout`](Self::poll_timeout) is reached.
    pub fn handle_timeout(&mut self, now: Now) {
        while let Some((device, conn)) = self.presence.silent(now.instant) {
            self.away(device, conn, Ending::KeepAlive);
        }
        if self.settling.is_stuck(now.instant) {
            self.counts.mqtt_broker_messages_stuck += 1;
            self.outputs.push_back(Output::End(
                "one of its messages was not settled for five minutes while later ones were: it is asked for them anew",
            ));
        }
    }

    /// When to call [`handle_timeout`](Self::handle_timeout).
    pub fn poll_timeout(&self) -> Option<Instant> {
        let looks = [self.presence.next_look(), self.settling.stuck_at()];
        looks.into_iter().flatten().min()
    }

    /// What is to be done next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// What was counted.
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Devices that were heard lately.
    pub fn devices(&self) -> usize {
        self.presence.len()
    }

    /// Messages of the broker that are not acknowledged.
    pub fn unsettled(&self) -> usize {
        self.settling.len()
    }
}

#[cfg(test)]
mod tests;
