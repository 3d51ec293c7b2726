//! The link against OpenSSL, whose timers run on the real clock, and against nobody, under a virtual one.

#![allow(clippy::unwrap_used)] // helpers of tests are tests, too

mod server;

use std::time::Duration;

use tokio::time::Instant;

use super::{DtlsLink, LONGEST_PAUSE, State};
use crate::{
    psk::{Key, Psk},
    spec::Timing,
};
use server::{CCM8, OFFERED, Server};

const PATIENCE: Duration = Duration::from_secs(30);

const KEY: &[u8] = b"0123456789abcdef";

/// OpenSSL repeats its own flights after a second at the earliest: there is time for that.
const TIMING: Timing = Timing {
    handshake_timeout_ms: 50,
    handshake_retransmits: 7,
    handshake_retry_ms: 20,
    silence_ms: 100,
    ..Timing::NB_IOT
};

fn link(key: &[u8], timing: Timing, epoch: Instant) -> DtlsLink {
    let psk = Psk::new("meter-1", Key::new(key).unwrap()).unwrap();
    DtlsLink::new(&psk, timing, epoch.into_std(), 7).unwrap()
}

/// A link and a server, and what lies between.
struct Bench {
    link: DtlsLink,
    server: Server,
    started: Instant,
    /// Datagrams on the air so far, in both directions.
    datagrams: usize,
    /// The one that does not arrive.
    lost: Option<usize>,
    heard: Vec<Vec<u8>>,
}

impl Bench {
    fn new(server: Server) -> Self {
        Self::with(KEY, TIMING, server)
    }

    fn with(key: &[u8], timing: Timing, server: Server) -> Self {
        let started = Instant::now();
        Self {
            link: link(key, timing, started),
            server,
            started,
            datagrams: 0,
            lost: None,
            heard: Vec::new(),
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap()
    }

    fn say(&mut self, text: &[u8]) {
        self.link.send(self.now_ms(), text.to_vec(), true);
    }

    fn arrives(&mut self) -> bool {
        self.datagrams += 1;
        self.lost != Some(self.datagrams - 1)
    }

    fn step(&mut self) {
        self.link.handle_timeout(self.now_ms());
        while let Some(datagram) = self.link.poll_transmit() {
            if self.arrives() {
                self.server.take(&datagram);
            }
        }
        self.server.drive();
        while let Some(datagram) = self.server.poll_transmit() {
            if self.arrives() {
                self.link.handle_datagram(self.now_ms(), &datagram);
            }
        }
        self.heard
            .extend(std::iter::from_fn(|| self.link.poll_received()));
    }

    fn until(&mut self, what: &str, reached: impl Fn(&Self) -> bool) {
        while !reached(self) {
            assert!(
                self.started.elapsed() < PATIENCE,
                "{what}: {:?}",
                self.link.counters()
            );
            self.step();
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn has_heard(&self, text: &[u8]) -> bool {
        self.heard.iter().any(|heard| heard == text)
    }

    fn until_heard(&mut self, text: &[u8]) {
        self.until("an answer", |bench| bench.has_heard(text));
    }
}

#[test]
fn data_goes_both_ways() {
    for cookies in [false, true] {
        let mut bench = Bench::new(Server::new(KEY, OFFERED, cookies));
        bench.say(b"one");
        bench.say(b"two");
        assert!(!bench.link.is_established());
        bench.until_heard(b"one!");
        bench.until_heard(b"two!");
        bench.say(b"three");
        bench.until_heard(b"three!");
        assert_eq!(bench.server.suite().as_deref(), Some(CCM8));
        let counters = bench.link.counters();
        assert_eq!((counters.handshakes, counters.failed), (1, 0));
    }
}

#[test]
fn any_one_datagram_of_a_handshake_may_be_lost() {
    for lost in 0..6 {
        let mut bench = Bench::new(Server::new(KEY, OFFERED, true));
        bench.lost = Some(lost);
        bench.say(b"one");
        bench.until_heard(b"one!");
        let counters = bench.link.counters();
        assert_eq!((counters.handshakes, counters.failed), (1, 0), "{lost}");
        assert!(bench.datagrams > 8, "{lost}: {}", bench.datagrams);
    }
}

#[test]
fn a_wrong_key_fails_again_and_again() {
    let timing = Timing {
        handshake_timeout_ms: 10,
        handshake_retransmits: 1,
        ..TIMING
    };
    let mut bench = Bench::with(b"wrong", timing, Server::new(KEY, OFFERED, true));
    bench.say(b"one");
    bench.until("two failures", |bench| bench.link.counters().failed == 2);
    assert_eq!(bench.link.counters().handshakes, 0);
    assert!(bench.heard.is_empty());
}

#[test]
fn a_server_that_does_not_know_the_identity_says_so() {
    let timing = Timing {
        handshake_retry_ms: 60_000,
        ..TIMING
    };
    let server = Server::new(KEY, OFFERED, true).knowing("meter-2");
    let mut bench = Bench::with(KEY, timing, server);
    bench.say(b"one");
    bench.until("a failure", |bench| bench.link.counters().failed == 1);
    assert!(matches!(bench.link.state, State::Pause { .. }));
    assert_eq!(bench.datagrams, 6, "nothing was repeated");
}

#[test]
fn without_a_common_suite_there_is_no_association() {
    let others = "PSK-AES128-CBC-SHA256:PSK-AES128-GCM-SHA256:@SECLEVEL=0";
    let mut bench = Bench::new(Server::new(KEY, others, false));
    bench.say(b"one");
    bench.until("a failure", |bench| bench.link.counters().failed == 1);
    assert_eq!(bench.link.counters().handshakes, 0);
}

#[test]
fn shakes_hands_anew_when_the_server_has_forgotten() {
    let mut bench = Bench::new(Server::new(KEY, OFFERED, true));
    bench.say(b"one");
    bench.until_heard(b"one!");
    bench.server.forget();
    let mut asked_at_ms = None;
    while !bench.has_heard(b"two!") {
        assert!(bench.started.elapsed() < PATIENCE);
        // as CoAP repeats itself
        let now_ms = bench.now_ms();
        if asked_at_ms.is_none_or(|at_ms| now_ms >= at_ms + 60) {
            asked_at_ms = Some(now_ms);
            bench.say(b"two");
        }
        bench.step();
        std::thread::sleep(Duration::from_millis(1));
    }
    let counters = bench.link.counters();
    assert_eq!((counters.handshakes, counters.forgotten), (2, 1));
    assert_eq!(counters.failed, 0);
}

#[test]
fn silence_without_a_question_means_nothing() {
    let mut bench = Bench::new(Server::new(KEY, OFFERED, false).mute());
    bench.say(b"one");
    bench.until("an association", |bench| bench.link.is_established());
    let later_ms = bench.now_ms() + 3_600_000;
    for _ in 0..3 {
        bench.link.send(later_ms, b"two".to_vec(), false);
    }
    assert!(bench.link.is_established());
    bench.link.send(later_ms, b"three".to_vec(), true);
    assert!(bench.link.is_established(), "one question is not enough");
    bench.link.send(later_ms, b"four".to_vec(), true);
    assert!(!bench.link.is_established());
}

#[test]
fn shakes_hands_anew_when_the_server_closes() {
    let mut bench = Bench::new(Server::new(KEY, OFFERED, true));
    bench.say(b"one");
    bench.until_heard(b"one!");
    bench.server.close();
    bench.until("a new association", |bench| {
        bench.link.counters().handshakes == 2
    });
    assert_eq!(bench.link.counters().ended, 1);
    bench.say(b"two");
    bench.until_heard(b"two!");
}

#[test]
fn a_server_that_closes_before_it_has_said_anything_is_left_alone_for_a_while() {
    let timing = Timing {
        handshake_retry_ms: 60_000,
        ..TIMING
    };
    let mut bench = Bench::with(KEY, timing, Server::new(KEY, OFFERED, true).mute());
    bench.say(b"one");
    bench.until("an association", |bench| bench.link.is_established());
    bench.server.close();
    bench.until("the end of it", |bench| !bench.link.is_established());
    assert!(matches!(bench.link.state, State::Pause { .. }));
    assert_eq!(bench.link.counters().failed, 0);
}

#[test]
fn a_restart_takes_a_new_association() {
    let mut bench = Bench::new(Server::new(KEY, OFFERED, true));
    bench.say(b"one");
    bench.until_heard(b"one!");
    bench.link.forget();
    assert!(!bench.link.is_established());
    assert_eq!(bench.link.poll_timeout(), None);
    bench.server.forget(); // a new address is a new client
    bench.say(b"two");
    bench.until_heard(b"two!");
    assert_eq!(bench.link.counters().handshakes, 2);
}

#[test]
fn pauses_grow_while_nobody_answers() {
    let timing = Timing::default();
    let mut link = link(KEY, timing, Instant::now());
    link.send(0, b"one".to_vec(), true);
    let mut pauses = Vec::new();
    let mut flights = 0;
    while pauses.len() < 7 {
        while link.poll_transmit().is_some() {
            flights += 1;
        }
        let at_ms = link.poll_timeout().unwrap();
        let failed = link.counters().failed;
        link.handle_timeout(at_ms);
        if link.counters().failed > failed {
            pauses.push(link.poll_timeout().unwrap() - at_ms);
            // the first and its repeats
            assert_eq!(flights, 1 + u32::from(timing.handshake_retransmits));
            flights = 0;
        }
    }
    for (pause_ms, factor) in pauses.iter().zip([1, 2, 4, 8, 16, 16, LONGEST_PAUSE]) {
        let least_ms = timing.handshake_retry_ms * factor;
        let most_ms = least_ms + least_ms / 4;
        assert!((least_ms..=most_ms).contains(pause_ms), "{pauses:?}");
    }
}

#[test]
fn what_waits_is_kept_once_and_not_without_limit() {
    let mut link = link(KEY, Timing::default(), Instant::now());
    for _ in 0..2 {
        for text in [b"a", b"b", b"c", b"d", b"e", b"e"] {
            link.send(0, text.to_vec(), true);
        }
    }
    let waiting: Vec<_> = link.waiting.iter().map(|w| &*w.datagram).collect();
    assert_eq!(waiting, [b"b", b"c", b"d", b"e"]);
}
