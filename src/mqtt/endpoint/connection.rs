use std::{collections::VecDeque, net::SocketAddr, num::NonZeroU16, sync::Arc, time::Duration};

use bytes::Bytes;
use bytestring::ByteString;
use rmqtt_codec::v5::PublishAckReason;

use super::{
    event::{Ack, ConnId, Version},
    identity::Identity,
    limits::Limits,
    packet::Greeting,
};
use crate::clock::Instant;

/// How long a packet of a connected device may take from its first byte to its last: 256 KiB at 17 kbit/s.
pub(super) const PACKET_WITHIN: Duration = Duration::from_mins(2);
/// Messages to one device that wait behind those that it has not acknowledged.
pub(super) const MAX_WAITING: usize = 16;

/// One connection.
pub(super) struct Connection {
    pub(super) peer: SocketAddr,
    /// The names in the certificate that was shown.
    pub(super) certified: Box<[Box<str>]>,
    pub(super) state: State,
    /// The beginning of a packet that is not whole yet, or what waits while no more is read.
    pub(super) partial: Vec<u8>,
    /// When its timer is looked at next: other entries of the queue mean nothing.
    pub(super) timer: Instant,
    /// When it was accepted, or has sent a whole packet last.
    pub(super) heard_at: Instant,
    /// When the packet began that is not whole yet.
    pub(super) begun_at: Option<Instant>,
}

pub(super) enum State {
    /// CONNECT has not come.
    Unknown,
    /// CONNECT has come, and it is looked up who it is.
    Judged(Box<Greeting>),
    /// It is a device's.
    Open(Open),
}

/// What is known of a connected device.
pub(super) struct Open {
    pub(super) identity: Arc<Identity>,
    pub(super) version: Version,
    pub(super) since: Instant,
    /// How long nothing may come.
    pub(super) silence: Duration,
    pub(super) held_until: Option<Instant>,
    /// Bytes of a packet that the client takes.
    pub(super) packet_bytes: u32,
    /// Messages that the client takes at once.
    pub(super) receive_maximum: u16,
    pub(super) last_packet_id: u16,
    /// Which [`Spelling`](super::topic::Spelling)s are subscribed to.
    pub(super) subscribed: u8,
    /// Which of them with QoS 1.
    pub(super) with_qos_1: u8,
    /// It has unsubscribed from the last of its topics for pushes, and takes none before it has subscribed again.
    pub(super) deaf: bool,
    /// When its allowance of messages with QoS 0 is whole again, in microseconds.
    pub(super) whole_at: u64,
    /// Messages on the way; most devices have none most of the time.
    pub(super) under_way: Option<Box<UnderWay>>,
}

/// Messages on the way.
#[derive(Default)]
pub(super) struct UnderWay {
    /// To the device, without PUBACK yet.
    pub(super) sent: Vec<NonZeroU16>,
    /// From the device with QoS 2, without PUBREL yet.
    pub(super) received: Vec<NonZeroU16>,
    /// What the device is owed for its messages, in the order in which they came.
    pub(super) owed: VecDeque<Owed>,
    /// To the device, behind those without PUBACK: whole packets.
    pub(super) waiting: VecDeque<(NonZeroU16, Bytes)>,
}

/// What is owed for a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owed {
    pub(super) packet_id: NonZeroU16,
    /// PUBREC instead of PUBACK.
    pub(super) exactly_once: bool,
    /// What is to be said, once that is known.
    pub(super) reason: Option<PublishAckReason>,
}

impl Connection {
    pub(super) const fn open(&self) -> Option<&Open> {
        match &self.state {
            State::Open(open) => Some(open),
            State::Unknown | State::Judged(_) => None,
        }
    }

    pub(super) const fn open_mut(&mut self) -> Option<&mut Open> {
        match &mut self.state {
            State::Open(open) => Some(open),
            State::Unknown | State::Judged(_) => None,
        }
    }

    /// Whether no more is read for now.
    pub(super) fn paused(&self, limits: &Limits) -> bool {
        match &self.state {
            State::Unknown => false,
            State::Judged(_) => true,
            State::Open(open) => open.owed() >= usize::from(limits.receive_maximum),
        }
    }

    /// When it is to end if nothing happens.
    pub(super) fn deadline(&self, limits: &Limits) -> Instant {
        match &self.state {
            State::Unknown | State::Judged(_) => self.heard_at + limits.connect_within,
            // what the device says meanwhile is not read
            State::Open(_) if self.paused(limits) => Instant::MAX,
            State::Open(open) => {
                let silent = self.heard_at + open.silence;
                let silent = open.held_until.map_or(silent, |held| held.max(silent));
                (self.begun_at).map_or(silent, |at| silent.min(at + PACKET_WITHIN))
            }
        }
    }

    /// Whether the packet that it has begun takes too long.
    pub(super) fn is_slow(&self, now: Instant) -> bool {
        (self.begun_at).is_some_and(|at| at + PACKET_WITHIN <= now)
    }
}

impl Open {
    pub(super) fn under_way(&mut self) -> &mut UnderWay {
        self.under_way.get_or_insert_default()
    }

    pub(super) fn sent(&self) -> &[NonZeroU16] {
        self.under_way.as_ref().map_or(&[], |it| &it.sent)
    }

    /// Messages that have not been acknowledged to the device.
    pub(super) fn owed(&self) -> usize {
        self.under_way.as_ref().map_or(0, |it| it.owed.len())
    }

    /// Whether it is known already what a message is owed, or not yet.
    pub(super) fn owes(&self, packet_id: NonZeroU16, exactly_once: bool) -> bool {
        (self.under_way.as_ref()).is_some_and(|it| {
            (it.owed.iter())
                .any(|owed| owed.packet_id == packet_id && owed.exactly_once == exactly_once)
        })
    }

    /// It is known what a message is owed, for the first of this number of which it was not.
    pub(super) fn settle(&mut self, packet_id: NonZeroU16, exactly_once: bool) {
        let owed = self.under_way.as_mut().map(|it| &mut it.owed);
        let mut same = owed.into_iter().flatten().filter(|owed| {
            owed.packet_id == packet_id
                && owed.exactly_once == exactly_once
                && owed.reason.is_none()
        });
        if let Some(owed) = same.next() {
            owed.reason = Some(PublishAckReason::Success);
        }
    }

    /// What can be acknowledged next without a message before it that cannot (§4.6).
    pub(super) fn next_settled(&mut self) -> Option<(Owed, PublishAckReason)> {
        let under_way = self.under_way.as_mut()?;
        let owed = *under_way.owed.front()?;
        let reason = owed.reason?;
        under_way.owed.pop_front();
        self.tidy();
        Some((owed, reason))
    }

    /// A message that has waited, where one more may be on the way now.
    pub(super) fn next_waiting(&mut self, window: u16) -> Option<Bytes> {
        let window = usize::from(window.min(self.receive_maximum));
        let under_way = self.under_way.as_mut()?;
        if under_way.sent.len() >= window {
            return None;
        }
        let (packet_id, bytes) = under_way.waiting.pop_front()?;
        under_way.sent.push(packet_id);
        Some(bytes)
    }

    /// Messages that wait.
    pub(super) fn waiting(&self) -> usize {
        self.under_way.as_ref().map_or(0, |it| it.waiting.len())
    }

    fn tidy(&mut self) {
        let none = (self.under_way.as_ref()).is_some_and(|it| {
            it.sent.is_empty()
                && it.received.is_empty()
                && it.owed.is_empty()
                && it.waiting.is_empty()
        });
        if none {
            self.under_way = None;
        }
    }

    /// What was on the way has arrived. Tells whether it was.
    pub(super) fn arrived(&mut self, packet_id: NonZeroU16) -> bool {
        self.remove(packet_id, |it| &mut it.sent)
    }

    /// The device releases a message with QoS 2. Tells whether it had sent it.
    pub(super) fn released(&mut self, packet_id: NonZeroU16) -> bool {
        self.remove(packet_id, |it| &mut it.received)
    }

    fn remove(
        &mut self,
        packet_id: NonZeroU16,
        of: impl Fn(&mut UnderWay) -> &mut Vec<NonZeroU16>,
    ) -> bool {
        let Some(under_way) = &mut self.under_way else {
            return false;
        };
        let ids = of(under_way);
        let Some(at) = ids.iter().position(|it| *it == packet_id) else {
            return false;
        };
        ids.swap_remove(at);
        self.tidy();
        true
    }

    /// A packet ID that is not on the way.
    pub(super) fn next_packet_id(&mut self) -> NonZeroU16 {
        loop {
            self.last_packet_id = self.last_packet_id.wrapping_add(1);
            // fewer are on the way than there are
            if let Some(id) = NonZeroU16::new(self.last_packet_id)
                && !self.sent().contains(&id)
                && !(self.under_way.as_ref())
                    .is_some_and(|it| it.waiting.iter().any(|(waits, _)| *waits == id))
            {
                return id;
            }
        }
    }

    /// Whether the device may send one more message with QoS 0 now (GCRA).
    pub(super) fn may_send(&mut self, now: Instant, per_second: u32) -> bool {
        const SECOND: u64 = 1_000_000;
        let now = now.as_millis() * 1_000;
        let whole_at = self.whole_at.max(now) + SECOND / u64::from(per_second.max(1));
        let may = whole_at <= now + SECOND;
        if may {
            self.whole_at = whole_at;
        }
        may
    }
}

impl Ack {
    /// The connection on which it is owed.
    pub const fn conn(&self) -> ConnId {
        self.conn
    }

    pub(crate) const fn new(conn: ConnId, packet_id: NonZeroU16, exactly_once: bool) -> Self {
        Self {
            conn,
            packet_id,
            exactly_once,
        }
    }
}

/// The client ID that a client without one gets.
pub(super) fn assigned(greeting: &Greeting, identity: &Identity) -> Option<ByteString> {
    (greeting.client_id.is_empty()).then(|| ByteString::from(&*identity.name))
}
