//! Requests to one device.
//!
//! A request waits until the one before it is acknowledged (NSTART = 1, RFC 7252 §4.7), leaves, and is
//! repeated with growing pauses until an acknowledgement, a response or a Reset arrives, or
//! `MAX_RETRANSMIT` repeats stayed without one (§4.2). The response may ride on the acknowledgement
//! or follow in a message of its own (§5.2.2): then the next request need not wait for it.

use std::{collections::VecDeque, time::Duration};

use thiserror::Error;

use super::{Code, Datagram, Kind, Message, Token, Transmission};
use crate::clock::Instant;

/// A request to the device, ready to leave. `T` is the sender's own name for it.
#[derive(Debug, Clone)]
pub struct QueuedRequest<T> {
    /// Comes back with whatever happens to the request.
    pub tag: T,
    /// The message ID in `datagram`.
    pub message_id: u16,
    /// The token in `datagram`.
    pub token: Token,
    /// The whole message, Confirmable.
    pub datagram: Datagram,
}

impl<T> QueuedRequest<T> {
    /// A request with that message ID and token in `datagram`.
    pub fn new(tag: T, message_id: u16, token: Token, datagram: impl Into<Datagram>) -> Self {
        Self {
            tag,
            message_id,
            token,
            datagram: datagram.into(),
        }
    }
}

/// What happened to a request.
#[derive(Debug)]
pub enum LinkEvent<T> {
    /// The device has it, its response follows separately.
    Acknowledged(T),
    /// The device responded.
    Responded(T),
    /// The device rejected it with a Reset.
    Rejected(T),
    /// It was repeated as often as allowed, and nothing came back.
    TimedOut(T),
    /// It was acknowledged, but its separate response did not come.
    Unanswered(T),
}

/// The device's queue is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("too many requests wait for the device")]
pub struct QueueFull;

/// Requests to one device: one outstanding, the others in a bounded queue.
///
/// Most devices are asked nothing most of the time: such a link is a null pointer.
#[derive(Debug)]
pub struct Link<T>(Option<Box<Busy<T>>>);

#[derive(Debug)]
struct Busy<T> {
    waiting: VecDeque<QueuedRequest<T>>,
    outstanding: Option<Outstanding<T>>,
    separate: Vec<Separate<T>>,
}

#[derive(Debug)]
struct Outstanding<T> {
    request: QueuedRequest<T>,
    timeout: Duration,
    due: Instant,
    repeats: u32,
}

/// Acknowledged, the response is to come.
#[derive(Debug)]
struct Separate<T> {
    request: QueuedRequest<T>,
    due: Instant,
}

impl<T> Default for Link<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> Default for Busy<T> {
    fn default() -> Self {
        Self {
            waiting: VecDeque::new(),
            outstanding: None,
            separate: Vec::new(),
        }
    }
}

impl<T: Copy + PartialEq> Link<T> {
    /// Queues a request.
    pub fn send(
        &mut self,
        rules: &Transmission,
        request: QueuedRequest<T>,
    ) -> Result<(), QueueFull> {
        let busy = self.0.get_or_insert_default();
        if busy.waiting.len() >= rules.queue_len {
            return Err(QueueFull);
        }
        if busy.waiting.capacity() == 0 {
            busy.waiting.reserve_exact(1); // most often it is one
        }
        busy.waiting.push_back(request);
        Ok(())
    }

    /// Queues a request ahead of those that wait: in place of one that has left the queue, so that no bound applies.
    pub fn send_first(&mut self, request: QueuedRequest<T>) {
        let busy = self.0.get_or_insert_default();
        busy.waiting.push_front(request);
    }

    /// Takes back every request that `which` names, outstanding or not: its purpose is served or has
    /// passed. Answers to it are ignored from now on.
    pub fn cancel(&mut self, which: impl Fn(&T) -> bool) {
        let Some(busy) = &mut self.0 else { return };
        busy.waiting.retain(|request| !which(&request.tag));
        busy.outstanding.take_if(|o| which(&o.request.tag));
        busy.separate
            .retain(|separate| !which(&separate.request.tag));
    }

    /// Gives back the memory of a link on which nothing is under way.
    pub fn rest(&mut self) {
        self.0.take_if(|busy| {
            busy.waiting.is_empty() && busy.outstanding.is_none() && busy.separate.is_empty()
        });
    }

    /// Takes the outstanding request back to be sent as if for the first time: where it was sent, it
    /// cannot have reached the device.
    pub fn send_again(&mut self) {
        if let Some(busy) = &mut self.0
            && let Some(outstanding) = busy.outstanding.take()
        {
            busy.waiting.push_front(outstanding.request);
        }
    }

    /// Whether a request of that name waits or is outstanding. One that was acknowledged is with the
    /// device.
    pub fn is_pending(&self, which: impl Fn(&T) -> bool) -> bool {
        self.waits(&which) || self.outstanding().is_some_and(|tag| which(&tag))
    }

    /// Whether a request of that name was acknowledged, and its answer is to come.
    pub fn is_acknowledged(&self, which: impl Fn(&T) -> bool) -> bool {
        (self.0.iter()).any(|busy| busy.separate.iter().any(|it| which(&it.request.tag)))
    }

    /// The request that has left and is not answered yet.
    pub fn outstanding(&self) -> Option<T> {
        let outstanding = self.0.as_ref()?.outstanding.as_ref()?;
        Some(outstanding.request.tag)
    }

    /// Whether a request has left that is not answered, and was not repeated.
    pub fn is_fresh(&self) -> bool {
        let outstanding = self.0.as_ref().and_then(|busy| busy.outstanding.as_ref());
        outstanding.is_some_and(|outstanding| outstanding.repeats == 0)
    }

    /// Whether a request of that name has not left yet.
    pub fn waits(&self, which: impl Fn(&T) -> bool) -> bool {
        (self.0.iter()).any(|busy| busy.waiting.iter().any(|request| which(&request.tag)))
    }

    /// The request that leaves next, `None` when none waits or one is outstanding.
    pub fn next_waiting(&self) -> Option<T> {
        let busy = self.0.as_ref()?;
        let next = busy.waiting.front()?;
        busy.outstanding.is_none().then_some(next.tag)
    }

    /// Whether anything waits to leave for the first time.
    pub fn has_waiting(&self) -> bool {
        (self.0.as_ref()).is_some_and(|busy| !busy.waiting.is_empty())
    }

    /// The next request to leave, if none is outstanding. `random` spreads the first repeat over
    /// `ACK_RANDOM_FACTOR` (RFC 7252 §4.2).
    pub fn poll_transmit(
        &mut self,
        now: Instant,
        rules: &Transmission,
        random: u32,
    ) -> Option<Datagram> {
        let busy = self.0.as_mut()?;
        if busy.outstanding.is_some() {
            return None;
        }
        let request = busy.waiting.pop_front()?;
        let spread = f64::from(random) / f64::from(u32::MAX) * (rules.ack_random_factor - 1.0);
        let timeout = rules.ack_timeout.mul_f64(1.0 + spread.max(0.0));
        let datagram = request.datagram.clone();
        busy.outstanding = Some(Outstanding {
            request,
            timeout,
            due: now + timeout,
            repeats: 0,
        });
        Some(datagram)
    }

    /// Puts the next repeat off by a whole pause, without counting it: nothing can be sent now.
    pub fn postpone(&mut self, now: Instant) {
        if let Some(outstanding) = self.outstanding_mut() {
            outstanding.due = outstanding.due.max(now + outstanding.timeout);
        }
    }

    /// Sends the outstanding request of that name at once once more: the device shows that it misses
    /// it. `None` when no such request is outstanding.
    pub fn repeat_now(&mut self, now: Instant, which: impl Fn(&T) -> bool) -> Option<Datagram> {
        let outstanding = self.outstanding_mut()?;
        if !which(&outstanding.request.tag) {
            return None;
        }
        outstanding.due = now + outstanding.timeout;
        Some(outstanding.request.datagram.clone())
    }

    /// Sends the outstanding request at once once more if it was repeated already: the device is heard
    /// again after a silence in which it may have slept, and may sleep again before the next repeat.
    pub fn repeat_overdue(&mut self, now: Instant) -> Option<Datagram> {
        let outstanding = self.outstanding_mut().filter(|o| o.repeats > 0)?;
        outstanding.due = now + outstanding.timeout;
        Some(outstanding.request.datagram.clone())
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub fn next_timeout(&self) -> Option<Instant> {
        let busy = self.0.as_ref()?;
        let outstanding = busy.outstanding.as_ref().map(|o| o.due);
        let separate = busy.separate.iter().map(|s| s.due);
        separate.chain(outstanding).min()
    }

    /// Repeats or gives up what is due. Call until both parts are `None`.
    pub fn handle_timeout(
        &mut self,
        now: Instant,
        rules: &Transmission,
    ) -> (Option<Datagram>, Option<LinkEvent<T>>) {
        let Some(busy) = &mut self.0 else {
            return (None, None);
        };
        if let Some(at) = busy.separate.iter().position(|s| s.due <= now) {
            let separate = busy.separate.remove(at);
            return (None, Some(LinkEvent::Unanswered(separate.request.tag)));
        }
        if let Some(over) =
            (busy.outstanding).take_if(|o| o.due <= now && o.repeats >= rules.max_retransmit)
        {
            return (None, Some(LinkEvent::TimedOut(over.request.tag)));
        }
        let Some(outstanding) = busy.outstanding.as_mut().filter(|o| o.due <= now) else {
            return (None, None);
        };
        outstanding.timeout *= 2;
        outstanding.due = now + outstanding.timeout;
        outstanding.repeats += 1;
        (Some(outstanding.request.datagram.clone()), None)
    }

    /// Takes an acknowledgement, a Reset, or a message with a response code. `None` when it belongs
    /// to no request of ours.
    pub fn handle_message(
        &mut self,
        now: Instant,
        rules: &Transmission,
        message: &Message,
    ) -> Option<LinkEvent<T>> {
        let busy = self.0.as_mut()?;
        match message.kind() {
            Kind::Acknowledgement | Kind::Reset => {
                let outstanding =
                    (busy.outstanding).take_if(|o| o.request.message_id == message.message_id())?;
                let tag = outstanding.request.tag;
                if message.kind() == Kind::Reset {
                    Some(LinkEvent::Rejected(tag))
                } else if message.code() == Code::EMPTY {
                    busy.await_separate(outstanding.request, now, rules);
                    Some(LinkEvent::Acknowledged(tag))
                } else if message.token() == outstanding.request.token {
                    Some(LinkEvent::Responded(tag))
                } else {
                    busy.outstanding = Some(outstanding);
                    None // not the response to it: §5.3.2
                }
            }
            Kind::Confirmable | Kind::NonConfirmable => {
                let token = message.token();
                if let Some(at) = busy.separate.iter().position(|s| s.request.token == token) {
                    let separate = busy.separate.remove(at);
                    return Some(LinkEvent::Responded(separate.request.tag));
                }
                // The acknowledgement was lost, the response came all the same (§5.2.2).
                let outstanding = busy.outstanding.take_if(|o| o.request.token == token)?;
                Some(LinkEvent::Responded(outstanding.request.tag))
            }
        }
    }

    /// Whether [`handle_message`](Self::handle_message) would take the message.
    pub fn awaits(&self, message: &Message) -> bool {
        let Some(busy) = &self.0 else { return false };
        let outstanding = busy.outstanding.as_ref().map(|o| &o.request);
        match message.kind() {
            Kind::Acknowledgement | Kind::Reset => outstanding.is_some_and(|request| {
                request.message_id == message.message_id()
                    && (message.kind() == Kind::Reset
                        || message.code() == Code::EMPTY
                        || message.token() == request.token)
            }),
            Kind::Confirmable | Kind::NonConfirmable => (busy.separate.iter())
                .map(|separate| &separate.request)
                .chain(outstanding)
                .any(|request| request.token == message.token()),
        }
    }

    /// The request that a message with a response answers, before [`handle_message`](Self::handle_message) takes it.
    pub fn request_of(&self, message: &Message) -> Option<&Datagram> {
        let busy = self.0.as_ref()?;
        let outstanding = busy.outstanding.iter().map(|o| &o.request);
        let request = match message.kind() {
            Kind::Acknowledgement => outstanding
                .filter(|request| request.message_id == message.message_id())
                .find(|request| request.token == message.token()),
            Kind::Confirmable | Kind::NonConfirmable => (busy.separate.iter())
                .map(|separate| &separate.request)
                .chain(outstanding)
                .find(|request| request.token == message.token()),
            Kind::Reset => None,
        };
        request.map(|request| &request.datagram)
    }

    fn outstanding_mut(&mut self) -> Option<&mut Outstanding<T>> {
        self.0.as_mut()?.outstanding.as_mut()
    }
}

impl<T> Busy<T> {
    /// Separate responses awaited at the same time; an older one is given up.
    const MAX_SEPARATE: usize = 4;

    fn await_separate(&mut self, request: QueuedRequest<T>, now: Instant, rules: &Transmission) {
        if self.separate.len() >= Self::MAX_SEPARATE {
            self.separate.remove(0);
        }
        self.separate.push(Separate {
            request,
            due: now + rules.separate_response,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        coap::{MessageBuilder, empty_ack, reset},
        config::CoapConfig,
    };

    fn request(id: u16) -> QueuedRequest<u16> {
        let token = Token::new(&id.to_be_bytes());
        let datagram = MessageBuilder::new(Kind::Confirmable, Code::GET, id, token).build();
        QueuedRequest {
            tag: id,
            message_id: id,
            token,
            datagram: datagram.into(),
        }
    }

    fn parse(bytes: &[u8]) -> Message<'_> {
        Message::parse(bytes).unwrap()
    }

    fn response(kind: Kind, message_id: u16, token_of: u16) -> Message<'static> {
        let token = Token::new(&token_of.to_be_bytes());
        parse(
            MessageBuilder::new(kind, Code::CONTENT, message_id, token)
                .build()
                .leak(),
        )
    }

    struct Fixture {
        link: Link<u16>,
        rules: Transmission,
        now: Instant,
    }

    impl Fixture {
        fn with(ids: impl IntoIterator<Item = u16>) -> Self {
            let mut link = Link::default();
            let rules = Transmission::from(&CoapConfig::default());
            for id in ids {
                link.send(&rules, request(id)).unwrap();
            }
            Self {
                link,
                rules,
                now: Instant::ZERO,
            }
        }

        fn transmit(&mut self) -> Option<Datagram> {
            self.link.poll_transmit(self.now, &self.rules, 0)
        }

        fn receive(&mut self, message: &Message) -> Option<LinkEvent<u16>> {
            self.link.handle_message(self.now, &self.rules, message)
        }

        fn next_timeout(&mut self) -> (Option<Datagram>, Option<LinkEvent<u16>>) {
            self.now = self.link.next_timeout().unwrap();
            self.link.handle_timeout(self.now, &self.rules)
        }
    }

    #[test]
    fn one_request_is_outstanding_at_a_time() {
        let mut f = Fixture::with([1, 2]);
        assert!(f.transmit().is_some());
        assert_eq!(f.transmit(), None);
        let answer = response(Kind::Acknowledgement, 1, 1);
        assert!(matches!(f.receive(&answer), Some(LinkEvent::Responded(1))));
        assert!(f.transmit().is_some());
    }

    #[test]
    fn repeats_twice_with_growing_pauses_within_157_seconds() {
        let mut f = Fixture::with([1]);
        let first = f.link.poll_transmit(f.now, &f.rules, u32::MAX).unwrap();
        for _ in 0..2 {
            let (again, event) = f.next_timeout();
            assert_eq!(again.unwrap(), first);
            assert!(event.is_none());
        }
        let (again, event) = f.next_timeout();
        assert!(again.is_none());
        assert!(matches!(event, Some(LinkEvent::TimedOut(1))));
        assert_eq!(f.now.as_millis(), 157_500); // 1.5 * 15 s * (1 + 2 + 4)
        assert_eq!(f.link.next_timeout(), None);
    }

    #[test]
    fn a_separate_response_does_not_hold_up_the_next_request() {
        let mut f = Fixture::with([1, 2]);
        f.transmit();
        let ack = empty_ack(1);
        let ack = parse(&ack);
        assert!(matches!(f.receive(&ack), Some(LinkEvent::Acknowledged(1))));
        assert!(f.transmit().is_some());
        let late = response(Kind::Confirmable, 900, 1);
        assert!(matches!(f.receive(&late), Some(LinkEvent::Responded(1))));
        assert!(f.receive(&late).is_none());
    }

    #[test]
    fn a_separate_response_that_never_comes_times_out() {
        let mut f = Fixture::with([1]);
        f.transmit();
        f.receive(&parse(&empty_ack(1)));
        let (_, event) = f.next_timeout();
        assert!(matches!(event, Some(LinkEvent::Unanswered(1))));
    }

    #[test]
    fn a_response_whose_acknowledgement_was_lost_counts() {
        let mut f = Fixture::with([1]);
        f.transmit();
        let answer = response(Kind::NonConfirmable, 900, 1);
        assert!(matches!(f.receive(&answer), Some(LinkEvent::Responded(1))));
        assert_eq!(f.link.next_timeout(), None);
    }

    #[test]
    fn a_reset_rejects_and_a_strange_token_does_not_answer() {
        let mut f = Fixture::with([1]);
        f.transmit();
        assert!(f.receive(&response(Kind::Acknowledgement, 1, 99)).is_none());
        assert!(f.receive(&parse(&reset(2))).is_none());
        let event = f.receive(&parse(&reset(1)));
        assert!(matches!(event, Some(LinkEvent::Rejected(1))));
    }

    #[test]
    fn the_queue_is_bounded() {
        let mut f = Fixture::with(0..16);
        let rules = f.rules;
        assert_eq!(f.link.send(&rules, request(99)), Err(QueueFull));
    }

    #[test]
    fn a_cancelled_request_is_neither_repeated_nor_answered() {
        let mut f = Fixture::with([1, 2]);
        f.transmit();
        f.link.cancel(|tag| *tag == 1);
        assert_eq!(f.link.next_timeout(), None);
        assert!(f.receive(&response(Kind::Acknowledgement, 1, 1)).is_none());
        assert!(f.transmit().is_some());
    }
}
