//! Packets are written out by hand here, so that a fault of the codec cannot cancel itself out.

mod bounds;
mod connect;
mod device;
mod hostile;
mod messages;

use std::sync::Arc;

use super::*;
use crate::clock::UtcMillis;
use device::{Client, iotda, thingspanel};

const NOW: Now = Now {
    instant: Instant::from_millis(1_000_000),
    utc: UtcMillis(1_800_000_000_000),
};

fn peer(last: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], 4000))
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Everything that the endpoint has to say, with whom it asks for answered by `verdict`.
struct Server {
    endpoint: Endpoint,
    now: Now,
    sent: Vec<(ConnId, Vec<u8>)>,
    events: Vec<Event>,
    closed: Vec<ConnId>,
    resumed: Vec<ConnId>,
    known: Vec<Arc<Identity>>,
    /// Whether messages are acknowledged at once.
    acknowledges: bool,
}

impl Server {
    fn new(limits: Limits) -> Self {
        Self {
            endpoint: Endpoint::new(limits, 7),
            now: NOW,
            sent: Vec::new(),
            events: Vec::new(),
            closed: Vec::new(),
            resumed: Vec::new(),
            known: vec![Arc::new(iotda(1)), Arc::new(thingspanel(2))],
            acknowledges: true,
        }
    }

    fn pump(&mut self) {
        while let Some(output) = self.endpoint.poll_output() {
            match output {
                Output::Send { conn, bytes } => self.sent.push((conn, bytes.to_vec())),
                Output::Close { conn } => self.closed.push(conn),
                Output::Resume { conn } => self.resumed.push(conn),
                Output::Authenticate { conn, claim, .. } => {
                    let verdict = self.judge(&claim);
                    self.endpoint.authenticated(self.now, conn, verdict);
                }
                Output::Event(event) => {
                    if let (true, Event::Message { ack: Some(ack), .. }) =
                        (self.acknowledges, &event)
                    {
                        self.endpoint.acknowledge(self.now, *ack);
                    }
                    self.events.push(event);
                }
            }
        }
    }

    fn judge(&self, claim: &Claim) -> Verdict {
        let known = self
            .known
            .iter()
            .find(|it| *it.name == *claim.name() || it.token() == Some(claim.name()));
        match known {
            None => Verdict::Refused(Refusal::UnknownDevice),
            Some(identity) => match identity.verify(claim, self.now.utc) {
                Ok(()) => Verdict::Device(identity.clone()),
                Err(refusal) => Verdict::Refused(refusal),
            },
        }
    }

    fn accept(&mut self, last: u8) -> ConnId {
        (self.endpoint)
            .accept(self.now, peer(last), Box::default())
            .unwrap()
    }

    fn say(&mut self, conn: ConnId, bytes: &[u8]) -> Reading {
        let resumed = self.resumed.len();
        let reading = self.endpoint.receive(self.now, conn, bytes);
        self.pump();
        // what came of it once everything was answered
        if self.is_closed(conn) {
            Reading::Over
        } else if self
            .resumed
            .get(resumed..)
            .unwrap_or_default()
            .contains(&conn)
        {
            Reading::On
        } else {
            reading
        }
    }

    /// A connection of that device, of which nothing has to be looked at any more.
    fn connected(&mut self, client: &Client) -> ConnId {
        let conn = self.accept(1);
        assert_eq!(self.say(conn, &client.connect()), Reading::On);
        assert!(self.take_sent(conn).starts_with(&[0x20]), "CONNACK");
        assert!(matches!(self.events.pop(), Some(Event::Connected { .. })));
        conn
    }

    fn later(&mut self, span: Duration) {
        self.now = self.now + span;
        self.endpoint.handle_timeout(self.now);
        self.pump();
    }

    fn take_sent(&mut self, conn: ConnId) -> Vec<u8> {
        let (own, others) =
            (std::mem::take(&mut self.sent).into_iter()).partition(|it| it.0 == conn);
        self.sent = others;
        let own: Vec<(ConnId, Vec<u8>)> = own;
        own.into_iter().flat_map(|(_, bytes)| bytes).collect()
    }

    fn take_events(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    fn is_closed(&self, conn: ConnId) -> bool {
        self.closed.contains(&conn)
    }

    fn ending(&mut self) -> Option<Ending> {
        match self.take_events().pop() {
            Some(Event::Disconnected { why, .. }) => Some(why),
            _ => None,
        }
    }
}
