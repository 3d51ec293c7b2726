//! Who may speak for whom.

use super::*;
use crate::coap::{Peer, Token};

const LOCATION: usize = 1;

struct Voice {
    peer: Peer,
    endpoints: Vec<Box<str>>,
}

/// Somebody who has shown to be these.
fn secured(port: u16, endpoints: &[&str]) -> Voice {
    Voice {
        peer: Peer::secured(SocketAddr::from(([10, 0, 0, 1], port))),
        endpoints: endpoints.iter().map(|name| (*name).into()).collect(),
    }
}

fn plain(port: u16) -> Voice {
    Voice {
        peer: peer(port),
        endpoints: Vec::new(),
    }
}

/// An engine and what was answered last.
struct Gate {
    world: World,
    next_id: u16,
}

impl Gate {
    fn new(devices: &[(&str, bool)]) -> Self {
        let mut world = World::new();
        for (endpoint, secure) in devices {
            world.command(Command::AddDevice {
                endpoint: (*endpoint).to_owned(),
                product: "meter".into(),
                secure: *secure,
                protocol: crate::ledger::Protocol::Lwm2m,
                via: crate::ledger::Via::Itself,
            });
        }
        Self { world, next_id: 1 }
    }

    /// Sends a request; returns the response's code and, after a registration, its location.
    fn ask(
        &mut self,
        voice: &Voice,
        code: Code,
        path: &[&str],
        queries: &[&str],
    ) -> (Code, Vec<u8>) {
        let id = self.next_id;
        self.next_id += 1;
        let mut request = MessageBuilder::new(Kind::Confirmable, code, id, Token::new(&[7]));
        for segment in path {
            request = request.path(segment);
        }
        for query in queries {
            request = request.query(query);
        }
        self.send(voice, &request.build());
        let sent = self.world.take_sent();
        let answer = sent
            .iter()
            .find(|(to, message)| *to == voice.peer && message.message_id() == id);
        let (_, answer) = answer.expect("an answer");
        let location = answer.location().get(LOCATION).map(|l| l.to_vec());
        (answer.code(), location.unwrap_or_default())
    }

    fn send(&mut self, voice: &Voice, bytes: &[u8]) {
        let speaker = Speaker::new(voice.peer, &voice.endpoints);
        self.world
            .engine
            .handle_datagram(self.world.now, &speaker, bytes);
        self.world.collect();
    }

    fn register(&mut self, voice: &Voice, endpoint: &str) -> (Code, String) {
        let name = format!("ep={endpoint}");
        let (code, location) = self.ask(voice, Code::POST, &["rd"], &[&name]);
        (code, String::from_utf8(location).unwrap())
    }

    fn impostors(&self) -> u64 {
        self.world.engine.counters().impostors
    }
}

#[test]
fn a_device_registers_only_as_who_it_has_shown_to_be() {
    let mut gate = Gate::new(&[("a", true), ("b", true), ("c", false)]);
    assert_eq!(gate.register(&secured(1, &["a"]), "a").0, Code::CREATED);
    assert_eq!(gate.register(&secured(1, &["a"]), "b").0, Code::FORBIDDEN);
    assert_eq!(
        gate.register(&secured(1, &["a"]), "nobody").0,
        Code::FORBIDDEN
    );
    assert_eq!(gate.register(&secured(2, &[]), "a").0, Code::FORBIDDEN);
    assert_eq!(gate.register(&plain(3), "a").0, Code::FORBIDDEN);
    assert_eq!(gate.impostors(), 4);
    assert_eq!(gate.register(&plain(3), "c").0, Code::CREATED);
    // a certificate may have several names
    assert_eq!(
        gate.register(&secured(4, &["x", "b"]), "b").0,
        Code::CREATED
    );
    assert_eq!(gate.register(&secured(5, &["c"]), "c").0, Code::CREATED);
}

#[test]
fn a_registration_is_changed_only_by_its_device() {
    let mut gate = Gate::new(&[("a", true), ("b", true)]);
    let (a, b) = (secured(1, &["a"]), secured(2, &["b"]));
    let (_, of_a) = gate.register(&a, "a");
    gate.register(&b, "b");
    let path = ["rd", of_a.as_str()];
    for stranger in [&b, &plain(1), &secured(1, &["b"])] {
        assert_eq!(
            gate.ask(stranger, Code::POST, &path, &[]).0,
            Code::FORBIDDEN
        );
        assert_eq!(
            gate.ask(stranger, Code::DELETE, &path, &[]).0,
            Code::FORBIDDEN
        );
    }
    assert_eq!(gate.impostors(), 6);
    // from anywhere it is itself
    assert_eq!(
        gate.ask(&secured(9, &["a"]), Code::POST, &path, &[]).0,
        Code::CHANGED
    );
    assert_eq!(
        gate.ask(&secured(9, &["a"]), Code::DELETE, &path, &[]).0,
        Code::DELETED
    );
}

#[test]
fn nobody_notifies_for_another_device() {
    let mut gate = Gate::new(&[("a", true), ("b", true)]);
    let (a, b) = (secured(1, &["a"]), secured(2, &["b"]));
    gate.register(&b, "b");
    gate.send(&a, &registration("a"));
    let sent = gate.world.take_sent();
    let observe = sent.iter().find(|(_, message)| message.code() == Code::GET);
    let token = observe.expect("the uplink is observed").1.token();
    let notification = |id| {
        MessageBuilder::new(Kind::Confirmable, Code::CONTENT, id, token)
            .payload(b"data".to_vec())
            .build()
    };
    gate.send(&b, &notification(70));
    gate.send(&plain(1), &notification(71));
    assert_eq!(gate.world.engine.counters().service_data, 0);
    assert_eq!(gate.impostors(), 2);
    let replies = gate.world.take_sent();
    let kinds: Vec<Kind> = replies.iter().map(|(_, message)| message.kind()).collect();
    assert_eq!(kinds, [Kind::Reset, Kind::Reset]);
    gate.send(&secured(8, &["a"]), &notification(72));
    assert_eq!(gate.world.engine.counters().service_data, 1);
}

fn registration(endpoint: &str) -> Vec<u8> {
    MessageBuilder::new(Kind::Confirmable, Code::POST, 60, Token::new(&[1]))
        .path("rd")
        .query(&format!("ep={endpoint}"))
        .build()
}

#[test]
fn an_address_belongs_to_whoever_has_shown_to_be_there() {
    let mut gate = Gate::new(&[("a", true), ("b", true)]);
    gate.register(&secured(1, &["a"]), "a");
    // the same address, and somebody else behind it: nothing of a's is sent there
    assert_eq!(gate.register(&secured(1, &["b"]), "b").0, Code::CREATED);
    gate.world.pass_s(1);
    gate.world.take_sent();
    gate.world.start("a", 1, &package("V2", &content()));
    gate.world.pass_s(400);
    let to_b = gate.world.take_sent();
    assert!(to_b.iter().all(|(_, message)| {
        message.token() != observation::Observation::of_uplink(ids().of("a")).token()
    }));
}

#[test]
fn a_device_that_becomes_secure_is_not_spoken_to_in_the_clear() {
    let mut gate = Gate::new(&[("a", false)]);
    gate.register(&plain(1), "a");
    gate.world.command(Command::AddDevice {
        endpoint: "a".into(),
        product: "meter".into(),
        secure: true,
        protocol: crate::ledger::Protocol::Lwm2m,
        via: crate::ledger::Via::Itself,
    });
    gate.world.take_sent();
    gate.world.start("a", 1, &package("V2", &content()));
    gate.world.pass_s(400);
    let sent = gate.world.take_sent();
    assert!(sent.is_empty(), "{sent:?}");
}

#[test]
fn a_device_that_becomes_secure_is_not_heard_in_the_clear_any_more() {
    let mut gate = Gate::new(&[("a", false)]);
    let (_, location) = gate.register(&plain(1), "a");
    gate.world.command(Command::AddDevice {
        endpoint: "a".into(),
        product: "meter".into(),
        secure: true,
        protocol: crate::ledger::Protocol::Lwm2m,
        via: crate::ledger::Via::Itself,
    });
    let path = ["rd", location.as_str()];
    assert_eq!(
        gate.ask(&plain(1), Code::POST, &path, &[]).0,
        Code::FORBIDDEN
    );
    gate.world.start("a", 1, &package("V2", &content()));
    gate.world.pass_s(400);
    let sent = gate.world.take_sent();
    assert!(sent.is_empty(), "nothing more in the clear: {sent:?}");
    assert_eq!(
        gate.ask(&secured(1, &["a"]), Code::POST, &path, &[]).0,
        Code::CHANGED
    );
}
