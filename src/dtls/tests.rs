//! The server against OpenSSL's client, in memory: time is ours, and so is every datagram's fate.

mod abuse;
mod bare;
mod cid;
mod fuzz;
mod handshakes;
mod lifecycle;
mod programs;

use std::{collections::HashMap, sync::Mutex, time::Duration};

use openssl::{
    asn1::Asn1Time,
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::{PKey, Private},
    ssl::{
        ErrorCode, ShutdownState, Ssl, SslContext, SslContextBuilder, SslMethod, SslOptions,
        SslSession, SslStream, SslVerifyMode,
    },
    x509::{
        X509, X509NameBuilder,
        extension::{BasicConstraints, SubjectAlternativeName},
    },
};

use super::*;
use crate::{
    clock::{Instant, UtcMillis},
    dtls::transport::Pipe,
};

const CCM: &str = "PSK-AES128-CCM8";
const GCM: &str = "PSK-AES128-GCM-SHA256";
const CBC: &str = "PSK-AES128-CBC-SHA256";

fn start() -> Now {
    Now {
        instant: Instant::from_millis(1_800_000_000_000),
        utc: UtcMillis(1_800_000_000_000),
    }
}

fn peer(n: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1], n))
}

fn psk_identity(name: &str) -> Identity {
    Identity::Psk(name.as_bytes().into())
}

/// A table of keys that tests change at will.
#[derive(Default)]
struct Keys(Mutex<HashMap<Vec<u8>, Psk>>);

impl Keys {
    fn set(&self, identity: &str, key: &[u8]) {
        let key = Psk::new(key).unwrap();
        self.0.lock().unwrap().insert(identity.into(), key);
    }

    fn remove(&self, identity: &str) {
        self.0.lock().unwrap().remove(identity.as_bytes());
    }
}

impl PskSource for Keys {
    fn psk(&self, identity: &[u8]) -> Option<Psk> {
        self.0.lock().unwrap().get(identity).cloned()
    }
}

fn key_of(name: &str) -> Vec<u8> {
    format!("key of {name}").into_bytes()
}

/// A server and what came out of it.
struct World {
    dtls: Dtls,
    keys: Arc<Keys>,
    now: Now,
    /// Everything but transmissions.
    events: Vec<Output>,
    /// Every datagram that the server has sent.
    sent: Vec<(SocketAddr, Vec<u8>)>,
}

impl World {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut DtlsSetup)) -> Self {
        let keys = Arc::new(Keys::default());
        for n in 0..40 {
            let name = format!("device-{n}");
            keys.set(&name, &key_of(&name));
        }
        let mut setup = DtlsSetup {
            keys: Arc::clone(&keys) as Arc<dyn PskSource>,
            certificates: None,
            seed: [5; 32],
            timing: Timing::default(),
            limits: Limits::default(),
        };
        change(&mut setup);
        Self {
            dtls: Dtls::new(&setup).unwrap(),
            keys,
            now: start(),
            events: Vec::new(),
            sent: Vec::new(),
        }
    }

    /// Gives the server a datagram, and returns what it answers this peer.
    fn deliver(&mut self, peer: SocketAddr, datagram: &[u8]) -> Vec<Vec<u8>> {
        self.dtls.handle_datagram(self.now, peer, datagram);
        self.dtls.work(self.now, usize::MAX);
        self.drain(peer)
    }

    fn drain(&mut self, of: SocketAddr) -> Vec<Vec<u8>> {
        let mut answers = Vec::new();
        while let Some(event) = self.dtls.poll_event() {
            match event {
                Output::Transmit { peer, bytes } => {
                    self.sent.push((peer, bytes.clone()));
                    if peer == of {
                        answers.push(bytes);
                    }
                }
                event => self.events.push(event),
            }
        }
        answers
    }

    /// Lets both talk until nothing more is said.
    fn talk(&mut self, client: &mut Client) {
        self.talk_through(client, &mut |_| Fate::Deliver);
    }

    /// As [`talk`](Self::talk), over a network that decides over each datagram, counted from 0.
    fn talk_through(&mut self, client: &mut Client, network: &mut dyn FnMut(Leg) -> Fate) {
        client.go_on();
        for _ in 0..50 {
            let outbound = through(client.take(), Leg::Up, network);
            if outbound.is_empty() {
                break;
            }
            let mut answers = Vec::new();
            for datagram in outbound {
                answers.extend(self.deliver(client.peer, &datagram));
            }
            for datagram in through(answers, Leg::Down, network) {
                client.receive(&datagram);
            }
        }
    }

    fn wait(&mut self, span: Duration) {
        self.now = self.now + span;
    }

    fn established(&mut self, client: &mut Client) {
        self.talk(client);
        assert!(client.done, "{:?}", client.failure);
        assert!(self.dtls.identity(client.peer).is_some());
    }

    /// A sealed datagram of the client reaches the server, is told, and is echoed.
    fn echo(&mut self, client: &mut Client, text: &str) -> bool {
        self.events.clear();
        client.send(text.as_bytes());
        self.talk(client);
        let heard = self
            .events
            .iter()
            .any(|event| matches!(event, Output::Data { bytes, .. } if bytes == text.as_bytes()));
        client.heard.clear();
        if self.dtls.send(client.peer, text.as_bytes()).is_err() {
            return false;
        }
        for datagram in self.drain(client.peer) {
            client.receive(&datagram);
        }
        heard
            && client
                .heard
                .last()
                .is_some_and(|last| last == text.as_bytes())
    }
}

/// Which way a datagram goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Leg {
    Up,
    Down,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Deliver,
    Lose,
    Duplicate,
    /// Behind the others of its flight.
    Delay,
}

fn through(
    datagrams: Vec<Vec<u8>>,
    leg: Leg,
    network: &mut dyn FnMut(Leg) -> Fate,
) -> Vec<Vec<u8>> {
    let mut arrived = Vec::new();
    let mut late = Vec::new();
    for datagram in datagrams {
        match network(leg) {
            Fate::Deliver => arrived.push(datagram),
            Fate::Lose => {}
            Fate::Duplicate => arrived.extend([datagram.clone(), datagram]),
            Fate::Delay => late.push(datagram),
        }
    }
    arrived.extend(late);
    arrived
}

/// OpenSSL's client.
struct Client {
    peer: SocketAddr,
    stream: SslStream<Pipe>,
    done: bool,
    failure: Option<String>,
    heard: Vec<Vec<u8>>,
}

fn client_context(suites: &str) -> SslContextBuilder {
    let mut builder = SslContextBuilder::new(SslMethod::dtls_client()).unwrap();
    builder
        .set_cipher_list(&format!("@SECLEVEL=0:{suites}"))
        .unwrap();
    builder.set_options(SslOptions::NO_QUERY_MTU);
    builder.set_verify(SslVerifyMode::NONE);
    builder
}

fn psk_context(suites: &str, identity: &str, key: Vec<u8>) -> SslContextBuilder {
    let mut builder = client_context(suites);
    let identity = identity.as_bytes().to_vec();
    builder.set_psk_client_callback(move |_, _, identity_out, key_out| {
        identity_out[..identity.len()].copy_from_slice(&identity);
        identity_out[identity.len()] = 0;
        key_out[..key.len()].copy_from_slice(&key);
        Ok(key.len())
    });
    builder
}

impl Client {
    /// With its own key.
    fn device(n: u16) -> Self {
        let name = format!("device-{n}");
        Self::psk(peer(n), CCM, &name, key_of(&name))
    }

    fn psk(peer: SocketAddr, suites: &str, identity: &str, key: Vec<u8>) -> Self {
        Self::new(peer, &psk_context(suites, identity, key).build())
    }

    fn new(peer: SocketAddr, context: &SslContext) -> Self {
        Self::resuming(peer, context, None)
    }

    fn resuming(peer: SocketAddr, context: &SslContext, session: Option<&SslSession>) -> Self {
        let mut ssl = Ssl::new(context).unwrap();
        ssl.set_connect_state();
        ssl.set_mtu(1200).unwrap();
        if let Some(session) = session {
            ffi::client::resume(&mut ssl, session);
        }
        let mut stream = SslStream::new(ssl, Pipe::default()).unwrap();
        ffi::stop_clock(&mut stream);
        Self {
            peer,
            stream,
            done: false,
            failure: None,
            heard: Vec::new(),
        }
    }

    fn go_on(&mut self) {
        drop(openssl::error::ErrorStack::get());
        if !self.done {
            match self.stream.connect() {
                Ok(()) => self.done = true,
                Err(error) if error.code() == ErrorCode::WANT_READ => {}
                Err(error) => self.failure = Some(error.to_string()),
            }
        }
        if self.done {
            let mut buffer = [0; 4096];
            loop {
                match self.stream.ssl_read(&mut buffer) {
                    Ok(len) => self.heard.push(buffer[..len].to_vec()),
                    Err(error) if error.code() == ErrorCode::WANT_READ => break,
                    Err(error) => {
                        self.failure = Some(error.to_string());
                        break;
                    }
                }
            }
        }
    }

    /// Repeats its flights on the machine's clock from now on.
    fn hurry(&mut self) {
        ffi::client::hurry(&mut self.stream);
    }

    /// Waits until it has repeated its flight, if it waits for an answer.
    fn wait_for_its_timer(&mut self) {
        for _ in 0..100 {
            if self.done || ffi::client::handle_timeout(self.stream.ssl()) {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    fn receive(&mut self, datagram: &[u8]) {
        self.stream.get_mut().put(datagram);
        self.go_on();
    }

    fn send(&mut self, bytes: &[u8]) {
        self.stream.ssl_write(bytes).unwrap();
    }

    fn take(&mut self) -> Vec<Vec<u8>> {
        self.stream.get_mut().take()
    }

    /// Its session, to be resumed. OpenSSL spoils that of a connection that it thinks was cut off.
    fn session(&mut self) -> SslSession {
        self.stream.set_shutdown(ShutdownState::SENT);
        self.stream.ssl().session().unwrap().to_owned()
    }

    /// The datagram with `bytes`, sealed, not sent.
    fn seal(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.send(bytes);
        self.take().pop().unwrap()
    }
}

/// An authority, and what it signs.
struct Authority {
    certificate: X509,
    key: PKey<Private>,
}

fn new_key() -> PKey<Private> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap()
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = new_key();
        let certificate = certificate(name, &[], &key, None);
        Self { certificate, key }
    }

    fn issue(&self, name: &str, alternative: &[&str]) -> (X509, PKey<Private>) {
        let key = new_key();
        (certificate(name, alternative, &key, Some(self)), key)
    }
}

fn certificate(
    name: &str,
    alternative: &[&str],
    key: &PKey<Private>,
    issuer: Option<&Authority>,
) -> X509 {
    let mut subject = X509NameBuilder::new().unwrap();
    subject.append_entry_by_nid(Nid::COMMONNAME, name).unwrap();
    let subject = subject.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_subject_name(&subject).unwrap();
    builder.set_pubkey(key).unwrap();
    // OpenSSL looks at the machine's clock
    let (from, to) = (Asn1Time::days_from_now(0), Asn1Time::days_from_now(30));
    builder.set_not_before(&from.unwrap()).unwrap();
    builder.set_not_after(&to.unwrap()).unwrap();
    let issuer_name = issuer.map_or(&*subject, |issuer| issuer.certificate.subject_name());
    builder.set_issuer_name(issuer_name).unwrap();
    if issuer.is_none() {
        let constraint = BasicConstraints::new().critical().ca().build().unwrap();
        builder.append_extension(constraint).unwrap();
    }
    if !alternative.is_empty() {
        let mut names = SubjectAlternativeName::new();
        for name in alternative {
            if name.contains(':') {
                names.uri(name);
            } else {
                names.dns(name);
            }
        }
        let names = names.build(&builder.x509v3_context(None, None)).unwrap();
        builder.append_extension(names).unwrap();
    }
    let signer = issuer.map_or(key, |issuer| &issuer.key);
    builder.sign(signer, MessageDigest::sha256()).unwrap();
    builder.build()
}
