//! Fleets over DTLS, against OpenSSL.

use std::{
    collections::{HashMap, VecDeque},
    io::{self, Read, Write},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use openssl::ssl::{Ssl, SslContext, SslMethod, SslStream, SslVersion};
use sim::{
    Key, Timing,
    fleet::{DtlsStats, Fleet, FleetConfig, FleetError, Psks},
};
use tokio::{net::UdpSocket, time::timeout};

use super::{PATIENCE, config, expects_the_package, server::Server};

const KEY: &[u8] = b"0123456789abcdef";

#[derive(Debug, Default, Clone)]
struct Pipe {
    inbox: Arc<Mutex<VecDeque<Vec<u8>>>>,
    outbox: Arc<Mutex<VecDeque<Vec<u8>>>>,
}

impl Read for Pipe {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let datagram = self.inbox.lock().unwrap().pop_front();
        let datagram = datagram.ok_or(io::ErrorKind::WouldBlock)?;
        buf[..datagram.len()].copy_from_slice(&datagram);
        Ok(datagram.len())
    }
}

impl Write for Pipe {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.outbox.lock().unwrap().push_back(buf.to_vec());
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One client's association.
struct Association {
    pipe: Pipe,
    stream: SslStream<Pipe>,
    identity: Arc<Mutex<Option<String>>>,
    /// Messages that came over it.
    messages: usize,
}

impl Association {
    fn new() -> Self {
        let identity = Arc::new(Mutex::new(None));
        let mut builder = SslContext::builder(SslMethod::dtls_server()).unwrap();
        builder
            .set_min_proto_version(Some(SslVersion::DTLS1_2))
            .unwrap();
        builder
            .set_cipher_list("PSK-AES128-CCM8:@SECLEVEL=0")
            .unwrap();
        let proven = Arc::clone(&identity);
        builder.set_psk_server_callback(move |_, identity, buf| {
            let name = identity.map(|identity| String::from_utf8_lossy(identity).into_owned());
            *proven.lock().unwrap() = name;
            buf[..KEY.len()].copy_from_slice(KEY);
            Ok(KEY.len())
        });
        let pipe = Pipe::default();
        let stream = SslStream::new(Ssl::new(&builder.build()).unwrap(), pipe.clone()).unwrap();
        Self {
            pipe,
            stream,
            identity,
            messages: 0,
        }
    }

    fn take(&mut self, datagram: &[u8], server: &mut Server) -> Vec<Vec<u8>> {
        let mut inbox = self.pipe.inbox.lock().unwrap();
        inbox.push_back(datagram.to_vec());
        drop(inbox);
        if self.stream.ssl().is_init_finished() || self.stream.accept().is_ok() {
            let mut buf = [0; 1500];
            while let Ok(len @ 1..) = self.stream.ssl_read(&mut buf) {
                self.messages += 1;
                let identity = self.identity.lock().unwrap().clone();
                for reply in server.serve(&buf[..len], identity.as_deref()) {
                    self.stream.ssl_write(&reply).unwrap();
                }
            }
        }
        self.pipe.outbox.lock().unwrap().drain(..).collect()
    }
}

/// A handshake record of epoch 0 with a `ClientHello` in it (RFC 6347 §4.1, §4.2.2).
fn is_client_hello(datagram: &[u8]) -> bool {
    matches!(datagram, [22, _, _, 0, 0, rest @ ..] if rest.get(8) == Some(&1))
}

/// Serves over DTLS. Each address's first association is forgotten after so many messages, if at all.
async fn start(forgets_after: Option<usize>) -> SocketAddr {
    start_with(Server::default(), forgets_after, |_| None).await
}

async fn start_with(
    mut server: Server,
    forgets_after: Option<usize>,
    uri: impl FnOnce(SocketAddr) -> Option<String>,
) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    server.uri = uri(address);
    tokio::spawn(async move {
        let mut associations = HashMap::new();
        let mut forgotten = Vec::new();
        let mut buf = [0; 1500];
        loop {
            let (len, from) = socket.recv_from(&mut buf).await.unwrap();
            let datagram = &buf[..len];
            let association: &mut Association = match associations.get_mut(&from) {
                Some(association) => association,
                None if is_client_hello(datagram) => {
                    associations.entry(from).or_insert_with(Association::new)
                }
                // As a server does that does not know whom it hears.
                None => continue,
            };
            for reply in association.take(datagram, &mut server) {
                socket.send_to(&reply, from).await.unwrap();
            }
            let enough = forgets_after.is_some_and(|messages| association.messages >= messages);
            if enough && !forgotten.contains(&from) {
                forgotten.push(from);
                associations.remove(&from);
            }
        }
    });
    address
}

fn secure_config(devices: usize) -> FleetConfig {
    let mut config = config(devices);
    config.timing.handshake_timeout_ms = 5_000;
    config.timing.silence_ms = 60_000;
    config.psks = Some(Psks::same("{endpoint}", Key::new(KEY).unwrap()));
    config
}

async fn until(fleet: &Fleet, reached: impl Fn(DtlsStats) -> bool) {
    let reached = async {
        while !fleet.stats().dtls.is_some_and(&reached) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, reached).await.unwrap();
}

#[tokio::test]
async fn a_fleet_is_upgraded_over_dtls() {
    let server = start(None).await;
    let mut config = secure_config(20);
    config.faults = vec![
        "reboots-in-download=2".parse().unwrap(),
        "wrong-psk=2".parse().unwrap(),
        "claims-other-endpoint=10%".parse().unwrap(),
    ];
    let fleet = Fleet::run(&config, server, |_| {}).await.unwrap();
    timeout(PATIENCE, fleet.until_settled()).await.unwrap();
    // Each restart takes another handshake.
    until(&fleet, |dtls| dtls.handshakes >= 16 * 2 + 2 + 2).await;
    let stats = fleet.stop().await.stats;
    assert_eq!((stats.done, stats.registered), (16, 16));
    assert_eq!(stats.settled, 20);
    let dtls = stats.dtls.unwrap();
    assert_eq!(dtls.handshakes, 16 * 2 + 2 + 2);
    assert_eq!((dtls.failed, dtls.forgotten, dtls.ended), (0, 0, 0));
}

#[tokio::test]
async fn downloads_have_an_association_of_their_own() {
    let uri = |at| Some(format!("coaps://{at}/p/package"));
    let server = start_with(Server::default(), None, uri).await;
    let mut config = secure_config(8);
    expects_the_package(&mut config);
    let fleet = Fleet::run(&config, server, |_| {}).await.unwrap();
    timeout(PATIENCE, fleet.until_settled()).await.unwrap();
    let stats = fleet.stop().await.stats;
    assert_eq!((stats.done, stats.settled), (8, 8));
    // Leshan has one socket; each device restarts once.
    assert_eq!(stats.dtls.unwrap().handshakes, 8 * 2 + 6);
}

#[tokio::test]
async fn a_wrong_key_is_noticed_by_the_device() {
    let server = start(None).await;
    let mut config = secure_config(1);
    config.timing = Timing {
        handshake_timeout_ms: 5,
        handshake_retransmits: 1,
        ..config.timing
    };
    config.faults = vec!["wrong-psk".parse().unwrap()];
    let fleet = Fleet::run(&config, server, |_| {}).await.unwrap();
    until(&fleet, |dtls| dtls.failed > 0).await;
    let stats = fleet.stop().await.stats;
    assert_eq!((stats.registered, stats.settled), (0, 1));
    assert_eq!(stats.dtls.unwrap().handshakes, 0);
}

#[tokio::test]
async fn a_fleet_gets_over_a_server_that_forgets_its_associations() {
    let server = start(Some(4)).await;
    let mut config = secure_config(10);
    config.timing.ack_timeout_ms = 40;
    config.timing.max_retransmit = 8;
    config.timing.silence_ms = 60;
    let fleet = Fleet::run(&config, server, |_| {}).await.unwrap();
    timeout(PATIENCE, fleet.until_settled()).await.unwrap();
    let stats = fleet.stop().await.stats;
    assert_eq!(stats.done, 10);
    assert!(stats.dtls.unwrap().forgotten >= 10, "{stats:?}");
}

#[tokio::test]
async fn faults_of_an_association_need_a_key() {
    let mut config = config(3);
    config.faults = vec!["wrong-psk".parse().unwrap()];
    let nobody = "127.0.0.1:9".parse().unwrap();
    let error = Fleet::run(&config, nobody, |_| {}).await.unwrap_err();
    assert!(matches!(error, FleetError::FaultNeedsPsk { .. }), "{error}");
}
