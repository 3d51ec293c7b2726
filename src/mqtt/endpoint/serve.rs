//! What a connected device says, and what is said to it.

use std::num::NonZeroU16;

use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use rmqtt_codec::{
    types::QoS,
    v5::{PublishAckReason, SubscribeAckReason, UnsubscribeAckReason},
};

use super::{
    Endpoint,
    connection::{Connection, MAX_WAITING, Open, Owed},
    event::{Ack, ConnId, Ending, Event, PublishError, Qos, Version},
    frame::Frame,
    identity::Style,
    packet::{Fault, Incoming, Publication, incoming},
    reply::{self, Granted},
    topic::{Downlink, Spelling, TopicError, Uplink, subscription, uplink},
};
use crate::{clock::Now, ledger::DeviceId};

/// Where ThingsPanel's pushes go, where several are subscribed to; the first, where none is. Those of QuecThing go to one topic.
const PUSHES: [Spelling; 3] = [Spelling::Infrom, Spelling::Inform, Spelling::InformToken];

impl Endpoint {
    /// One packet of a connected device.
    pub(super) fn serve(&mut self, now: Now, conn: ConnId, packet: &[u8], frame: Frame) {
        let Some(open) = self.table.get(conn).and_then(Connection::open) else {
            return;
        };
        let version = open.version;
        let device = open.identity.device;
        let incoming = match incoming(version, packet, frame) {
            Ok(incoming) => incoming,
            Err(fault) => return self.fail(conn, fault),
        };
        match incoming {
            Incoming::Publish(publication) => self.published(now, conn, publication),
            Incoming::Acked(packet_id, taken) => {
                let arrived = self.open_mut(conn).is_some_and(|it| it.arrived(packet_id));
                if arrived && taken {
                    self.counts.mqtt_messages_delivered += 1;
                    self.outbox.event(Event::Delivered { device, packet_id });
                }
                self.send_waiting(conn);
            }
            Incoming::Released(packet_id) => {
                let known = self.open_mut(conn).is_some_and(|it| it.released(packet_id));
                self.reply(conn, |out| reply::pubcomp(out, version, packet_id, known));
            }
            Incoming::Subscribe {
                identified: true, ..
            } => self.fail(conn, Fault::SubscriptionIdentifiersNotSupported),
            Incoming::Subscribe {
                packet_id, filters, ..
            } => self.subscribe(conn, packet_id, &filters),
            Incoming::Unsubscribe { packet_id, filters } => {
                self.unsubscribe(conn, packet_id, &filters);
            }
            Incoming::Ping => self.reply(conn, |out| reply::pingresp(out, version)),
            Incoming::Goodbye => self.end(conn, Ending::Goodbye, None),
        }
    }

    fn open_mut(&mut self, conn: ConnId) -> Option<&mut Open> {
        self.table.get_mut(conn)?.open_mut()
    }

    #[expect(
        clippy::too_many_lines,
        reason = "the steps of a publication, one after the other"
    )]
    fn published(&mut self, now: Now, conn: ConnId, publication: Publication) {
        let (per_second, most) = (
            self.limits.unacknowledged_per_second,
            usize::from(self.limits.receive_maximum),
        );
        let Some(open) = self.table.get_mut(conn).and_then(Connection::open_mut) else {
            return;
        };
        let device = open.identity.device;
        let uplink = match uplink(&open.identity, &publication.topic) {
            // nobody reads it
            Ok(uplink) if publication.payload.len() > uplink.most_bytes() => {
                self.counts.mqtt_messages_too_large += 1;
                Some(Uplink::Other)
            }
            Ok(Uplink::Other) => {
                self.counts.mqtt_messages_unrelated += 1;
                Some(Uplink::Other)
            }
            Ok(uplink) => Some(uplink),
            Err(TopicError::Malformed) => return self.fail(conn, Fault::TopicNameInvalid),
            Err(TopicError::Foreign | TopicError::Shared) => None,
        };
        let Some(packet_id) = publication.packet_id else {
            match uplink {
                Some(Uplink::Other) => {}
                Some(uplink) if open.may_send(now.instant, per_second) => {
                    self.message(device, uplink, publication.payload, None);
                }
                Some(_) => self.counts.mqtt_messages_too_many += 1,
                None => self.counts.mqtt_messages_foreign += 1,
            }
            return;
        };
        let exactly_once = publication.exactly_once;
        let mut told_before = false;
        if exactly_once && uplink.is_some() {
            let received = &mut open.under_way().received;
            told_before = received.contains(&packet_id);
            if !told_before {
                if received.len() >= most {
                    return self.fail(conn, Fault::ReceiveMaximumExceeded);
                }
                received.push(packet_id);
            } else if open.owes(packet_id, true) {
                // PUBREC comes once that is settled for which the first one stands
                return;
            }
        }
        let (reason, ack) = match uplink {
            // PUBREC was lost (§4.3.3)
            Some(_) if told_before => (Some(PublishAckReason::Success), None),
            Some(Uplink::Other) => (Some(PublishAckReason::Success), None),
            Some(_) => (None, Some(Ack::new(conn, packet_id, exactly_once))),
            None => {
                self.counts.mqtt_messages_foreign += 1;
                (Some(PublishAckReason::NotAuthorized), None)
            }
        };
        open.under_way().owed.push_back(Owed {
            packet_id,
            exactly_once,
            reason,
        });
        if let (Some(uplink), Some(ack)) = (uplink, ack) {
            self.message(device, uplink, publication.payload, Some(ack));
        }
        self.pay(conn);
    }

    /// Acknowledges what can be, in the order in which it came.
    fn pay(&mut self, conn: ConnId) {
        while let Some((owed, reason)) = self.open_mut(conn).and_then(Open::next_settled) {
            self.puback(conn, owed.packet_id, owed.exactly_once, reason);
        }
    }

    fn message(&mut self, device: DeviceId, uplink: Uplink, payload: Bytes, ack: Option<Ack>) {
        self.counts.mqtt_messages_received += 1;
        self.outbox.event(Event::Message {
            device,
            uplink,
            payload,
            ack,
        });
    }

    /// What follows from a message is settled: the device may forget it. Without effect where the connection is over.
    pub fn acknowledge(&mut self, now: Now, ack: Ack) {
        let Some(connection) = self.table.get(ack.conn) else {
            return;
        };
        let was_paused = connection.paused(&self.limits);
        let Some(open) = self.open_mut(ack.conn) else {
            return;
        };
        open.settle(ack.packet_id, ack.exactly_once);
        self.pay(ack.conn);
        let Some(connection) = self.table.get_mut(ack.conn) else {
            return;
        };
        if was_paused && !connection.paused(&self.limits) {
            // it had no chance to say anything
            connection.heard_at = now.instant;
            connection.begun_at = None;
            self.go_on(now, ack.conn);
        }
    }

    fn puback(
        &mut self,
        conn: ConnId,
        packet_id: NonZeroU16,
        exactly_once: bool,
        reason: PublishAckReason,
    ) {
        let Some(version) = self.version(conn) else {
            return;
        };
        self.reply(conn, |out| {
            reply::puback(out, version, packet_id, exactly_once, reason)
        });
    }

    fn version(&self, conn: ConnId) -> Option<Version> {
        Some(self.table.get(conn)?.open()?.version)
    }

    /// Writes a packet that the client waits for. One that is larger than the client takes ends the connection (§3.1.2.11.4).
    fn reply(
        &mut self,
        conn: ConnId,
        write: impl FnOnce(&mut bytes::BytesMut) -> Result<(), rmqtt_codec::error::EncodeError>,
    ) {
        let Some(open) = self.table.get(conn).and_then(Connection::open) else {
            return;
        };
        let most = usize::try_from(open.packet_bytes).unwrap_or(usize::MAX);
        match self.outbox.packet(conn, write) {
            Ok(written) if written <= most => {}
            Ok(written) => {
                self.outbox.take_back(written);
                self.end(conn, Ending::Protocol, None);
            }
            Err(_) => self.end(conn, Ending::Protocol, None),
        }
    }

    fn subscribe(&mut self, conn: ConnId, packet_id: NonZeroU16, filters: &[(ByteString, QoS)]) {
        let Some(open) = self.table.get_mut(conn).and_then(Connection::open_mut) else {
            return;
        };
        let (device, version) = (open.identity.device, open.version);
        let before = open.subscribed;
        let mut granted = Vec::with_capacity(filters.len());
        for (filter, qos) in filters {
            granted.push(match subscription(&open.identity, filter) {
                Ok(spellings) => {
                    open.subscribed |= spellings;
                    // a later subscription takes the place of an earlier one (§3.8.4)
                    if *qos == QoS::AtMostOnce {
                        open.with_qos_1 &= !spellings;
                        Granted::Qos0
                    } else {
                        open.with_qos_1 |= spellings;
                        Granted::Qos1
                    }
                }
                Err(TopicError::Malformed) => {
                    Granted::Refused(SubscribeAckReason::TopicFilterInvalid)
                }
                Err(TopicError::Foreign) => Granted::Refused(SubscribeAckReason::NotAuthorized),
                Err(TopicError::Shared) => {
                    Granted::Refused(SubscribeAckReason::SharedSubscriptionNotSupported)
                }
            });
        }
        let news = open.subscribed & !before;
        open.deaf &= open.subscribed & Spelling::PUSHES == 0;
        let refused = granted
            .iter()
            .filter(|it| matches!(it, Granted::Refused(_)));
        let refused = refused.count() as u64;
        self.counts.mqtt_subscriptions_refused += refused;
        self.counts.mqtt_subscriptions_granted += granted.len() as u64 - refused;
        self.reply(conn, |out| reply::suback(out, version, packet_id, granted));
        for spelling in Spelling::ALL {
            if news & spelling.bit() != 0 {
                self.outbox.event(Event::Subscribed {
                    device,
                    downlink: spelling.downlink(),
                    release: spelling.release(),
                });
            }
        }
    }

    fn unsubscribe(&mut self, conn: ConnId, packet_id: NonZeroU16, filters: &[ByteString]) {
        let Some(open) = self.table.get_mut(conn).and_then(Connection::open_mut) else {
            return;
        };
        let (device, version) = (open.identity.device, open.version);
        let before = open.subscribed;
        let status = filters.iter().map(|filter| {
            match subscription(&open.identity, filter) {
                Ok(spellings) => {
                    let had = open.subscribed & spellings;
                    open.subscribed &= !spellings;
                    open.with_qos_1 &= !spellings;
                    // nothing is kept of filters that cover nothing
                    if had != 0 || spellings == 0 {
                        UnsubscribeAckReason::Success
                    } else {
                        UnsubscribeAckReason::NoSubscriptionExisted
                    }
                }
                Err(TopicError::Malformed) => UnsubscribeAckReason::TopicFilterInvalid,
                Err(TopicError::Foreign | TopicError::Shared) => {
                    UnsubscribeAckReason::NoSubscriptionExisted
                }
            }
        });
        let status = status.collect();
        let deaf = before & Spelling::PUSHES != 0 && open.subscribed & Spelling::PUSHES == 0;
        open.deaf |= deaf;
        self.reply(conn, |out| reply::unsuback(out, version, packet_id, status));
        if deaf {
            self.outbox.event(Event::Unsubscribed {
                device,
                downlink: Downlink::Push,
            });
        }
    }

    /// Sends what has waited for earlier messages to be acknowledged.
    fn send_waiting(&mut self, conn: ConnId) {
        let window = self.limits.send_maximum;
        while let Some(bytes) = (self.open_mut(conn)).and_then(|it| it.next_waiting(window)) {
            self.reply(conn, |out| {
                out.extend_from_slice(&bytes);
                Ok(())
            });
        }
    }

    /// Sends a message to a device. One that finds too many unacknowledged waits behind them, within a bound. With QoS 1 the number is returned that [`Event::Delivered`] names; a device that has
    /// subscribed with QoS 0 gets it with that.
    ///
    /// # Errors
    /// Nothing was sent.
    pub fn publish(
        &mut self,
        device: DeviceId,
        downlink: Downlink,
        payload: Bytes,
        qos: Qos,
    ) -> Result<Option<NonZeroU16>, PublishError> {
        let published = self.try_publish(device, downlink, payload, qos);
        match published {
            Ok(_) => self.counts.mqtt_messages_sent += 1,
            Err(_) => self.counts.mqtt_messages_unsent += 1,
        }
        published
    }

    fn try_publish(
        &mut self,
        device: DeviceId,
        downlink: Downlink,
        payload: Bytes,
        qos: Qos,
    ) -> Result<Option<NonZeroU16>, PublishError> {
        let conn = (self.table.of_device(device)).ok_or(PublishError::NotConnected)?;
        let window = self.limits.send_maximum;
        let most = u32::try_from(self.limits.packet_bytes).unwrap_or(u32::MAX);
        let open = (self.table.get_mut(conn))
            .and_then(Connection::open_mut)
            .ok_or(PublishError::NotConnected)?;
        let spelling = match downlink {
            Downlink::Events => Spelling::EventsDown,
            Downlink::Push | Downlink::PushV05 if open.deaf => {
                return Err(PublishError::Unsubscribed);
            }
            Downlink::Push if open.identity.style == Style::QuecThing => Spelling::QuecOta,
            Downlink::Push | Downlink::PushV05 => (PUSHES.into_iter())
                .find(|it| open.subscribed & it.bit() != 0)
                .unwrap_or(PUSHES[0]),
        };
        let topic = (spelling.topic(&open.identity)).ok_or(PublishError::OtherStyle)?;
        let subscribed = open.subscribed & spelling.bit() != 0;
        let lowered = subscribed && open.with_qos_1 & spelling.bit() == 0;
        let mut waits = false;
        let packet_id = if qos == Qos::AtLeastOnce && !lowered {
            waits = open.sent().len() >= usize::from(window.min(open.receive_maximum));
            if waits && open.waiting() >= MAX_WAITING {
                return Err(PublishError::QueueFull);
            }
            Some(open.next_packet_id())
        } else {
            None
        };
        let most = usize::try_from(most.min(open.packet_bytes)).unwrap_or(usize::MAX);
        let version = open.version;
        if waits && let Some(packet_id) = packet_id {
            let mut bytes = BytesMut::new();
            let topic = topic.into();
            return match reply::publish(&mut bytes, version, topic, Some(packet_id), payload) {
                Ok(()) if bytes.len() <= most => {
                    let waiting = &mut open.under_way().waiting;
                    waiting.push_back((packet_id, bytes.freeze()));
                    Ok(Some(packet_id))
                }
                _ => Err(PublishError::TooLarge),
            };
        }
        let written = (self.outbox).packet(conn, |out| {
            reply::publish(out, version, topic.into(), packet_id, payload)
        });
        match written {
            Ok(written) if written <= most => {}
            Ok(written) => {
                self.outbox.take_back(written);
                return Err(PublishError::TooLarge);
            }
            Err(_) => return Err(PublishError::TooLarge),
        }
        if let (Some(packet_id), Some(open)) = (packet_id, self.open_mut(conn)) {
            open.under_way().sent.push(packet_id);
        }
        Ok(packet_id)
    }
}
