//! Over TLS.

use std::ops::Range;

use openssl::{
    pkey::{PKey, Private},
    ssl::{SslConnector, SslMethod, SslStream},
    x509::X509,
};

use super::*;
use crate::{
    config::DownloadConfig,
    tls::{TlsFiles, tests::pair},
};

struct Files(TempDir);

impl Files {
    /// Writes a certificate and its key.
    fn write(&self, (certificate, key): &(X509, PKey<Private>)) {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::write(self.0.path().join("c.pem"), certificate.to_pem().unwrap()).unwrap();
        let path = self.0.path().join("c.key");
        std::fs::write(&path, key.private_key_to_pem_pkcs8().unwrap()).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn named(&self) -> TlsFiles {
        let config = DownloadConfig {
            https: true,
            tls_certificate: self.0.path().join("c.pem"),
            tls_key: self.0.path().join("c.key"),
            ..DownloadConfig::default()
        };
        TlsFiles::of_downloads(&config).unwrap()
    }
}

fn connect(world: &World, trusted: &X509) -> Result<SslStream<std::net::TcpStream>, String> {
    connect_over(trusted, world.connect())
}

fn connect_over(
    trusted: &X509,
    stream: std::net::TcpStream,
) -> Result<SslStream<std::net::TcpStream>, String> {
    let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
    builder.cert_store_mut().add_cert(trusted.clone()).unwrap();
    let connected = builder.build().connect("localhost", stream);
    connected.map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn packages_come_over_tls_with_the_certificate_of_now() {
    let files = Files(tempfile::tempdir().unwrap());
    let (first, second) = (pair(30), pair(60));
    files.write(&first);
    let tls = Tls::of(Some(&files.named())).unwrap().unwrap();
    let world = World::with(5_000_000, Some(tls.clone()), |_| {}).await;
    let mut stream = connect(&world, &first.0).unwrap();
    let request = format!("GET /t/{TOKEN}/x HTTP/1.1\r\nHost: a\r\n\r\n");
    for _ in 0..2 {
        stream.write_all(request.as_bytes()).unwrap();
        assert!(Answer::read(&mut stream, false).body == world.content);
    }
    files.write(&second);
    let now = SystemClock::start().now().utc;
    assert!(tls.renew(&files.named(), now).unwrap());
    assert!(connect(&world, &first.0).is_err());
    let mut new = connect(&world, &second.0).unwrap();
    new.write_all(request.as_bytes()).unwrap();
    assert!(Answer::read(&mut new, false).body == world.content);
    // the connection from before goes on
    stream.write_all(request.as_bytes()).unwrap();
    assert!(Answer::read(&mut stream, false).body == world.content);
    world.await_told((5_000_000, true));
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_too_what_a_device_never_took_does_not_count() {
    let files = Files(tempfile::tempdir().unwrap());
    let pair = pair(30);
    files.write(&pair);
    let tls = Tls::of(Some(&files.named())).unwrap();
    let world = World::with(20_000_000, tls, |_| {}).await;
    let mut stream = connect(&world, &pair.0).unwrap();
    stream
        .write_all(format!("GET /t/{TOKEN}/x HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes())
        .unwrap();
    let mut some = vec![0; 2_000_000];
    stream.read_exact(&mut some).unwrap();
    drop(stream);
    world.await_figure("downloads_broken_total 1");
    let served = world.await_landing();
    let arrived = served.contiguous_bytes;
    assert!(!served.whole && arrived > 1_000_000, "{served:?}");
    let told: Vec<(u64, bool)> = world.told.try_iter().collect();
    assert!(
        told.iter()
            .all(|(bytes, whole)| *bytes <= arrived && !whole)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn over_tls_too_a_package_that_nobody_reads_is_not_served() {
    let files = Files(tempfile::tempdir().unwrap());
    let pair = pair(30);
    files.write(&pair);
    let tls = Tls::of(Some(&files.named())).unwrap();
    let world = World::with(4_096, tls, |_| {}).await;
    let mut stream = connect_over(&pair.0, world.connect_narrowly()).unwrap();
    let request = format!("GET /t/{TOKEN}/x HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    world.await_figure("downloads_ended_total 1");
    let served = world.look();
    assert!(
        served.in_flight && served.contiguous_bytes == 0,
        "{served:?}"
    );
    // and once it is read it is
    assert!(Answer::read(&mut stream, false).body == world.content);
    world.await_told((4_096, true));
}

/// What a client does once it has the part that it asked for.
#[derive(Debug, Clone, Copy)]
enum Leaving {
    /// It closes, and never reads how TLS ends: a reset where that has come already.
    WithoutReadingTheEnd,
    /// It closes, and says nothing of it in TLS.
    WithoutAWord,
    /// It says in TLS that it closes, and waits for nothing.
    Announced,
    /// It had closed its own side of the connection before it read anything.
    LongHalfClosed,
    /// It reads until there is nothing more.
    AtTheEnd,
}

/// Fetches these bytes on a connection of its own.
fn fetch_part(world: &World, trusted: &X509, token: &str, part: &Range<usize>, leaving: Leaving) {
    let mut stream = connect(world, trusted).unwrap();
    let close = matches!(
        leaving,
        Leaving::WithoutReadingTheEnd | Leaving::LongHalfClosed | Leaving::AtTheEnd
    );
    let connection = if close { "close" } else { "keep-alive" };
    let request = format!(
        "GET /t/{token}/x HTTP/1.1\r\nHost: a\r\nConnection: {connection}\r\nRange: bytes={}-{}\r\n\r\n",
        part.start,
        part.end - 1
    );
    stream.write_all(request.as_bytes()).unwrap();
    if matches!(leaving, Leaving::LongHalfClosed) {
        stream.get_ref().shutdown(Shutdown::Write).unwrap();
    }
    let answer = Answer::read(&mut stream, false);
    assert!(answer.body == world.content[part.clone()]);
    match leaving {
        Leaving::Announced => drop(stream.shutdown()),
        Leaving::AtTheEnd => assert_eq!(stream.read(&mut [0]).unwrap(), 0),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_count_however_a_client_leaves() {
    const REPETITIONS: usize = 10;
    let files = Files(tempfile::tempdir().unwrap());
    let pair = pair(30);
    files.write(&pair);
    let tls = Tls::of(Some(&files.named())).unwrap();
    let world = World::with(50_001, tls, |_| {}).await;
    let mut tokens = Vec::new();
    for repetition in 0..REPETITIONS {
        for leaving in [
            Leaving::WithoutReadingTheEnd,
            Leaving::WithoutAWord,
            Leaving::Announced,
            Leaving::LongHalfClosed,
            Leaving::AtTheEnd,
        ] {
            let text = format!("{leaving:?}-{repetition}-of-the-devices");
            let token = Token::new(&text).unwrap();
            world.grants.grant(Grant {
                token: token.clone(),
                ..world.grant.clone()
            });
            for part in [0..16_667, 16_667..33_334, 33_334..50_001] {
                fetch_part(&world, &pair.0, &text, &part, leaving);
            }
            tokens.push(token);
        }
    }
    // once all connections are over nothing has been taken off
    let grants = world.grants.clone();
    world.stop().await;
    for token in tokens {
        let served = grants.look(&token).unwrap();
        assert_eq!(served.contiguous_bytes, 50_001, "{}", token.as_str());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_goes_on_behind_the_last_record_that_it_could_read() {
    let files = Files(tempfile::tempdir().unwrap());
    let pair = pair(30);
    files.write(&pair);
    let tls = Tls::of(Some(&files.named())).unwrap();
    let world = World::with(20_000_000, tls, |_| {}).await;
    let mut stream = connect(&world, &pair.0).unwrap();
    let request =
        |from: u64| format!("GET /t/{TOKEN}/x HTTP/1.1\r\nHost: a\r\nRange: bytes={from}-\r\n\r\n");
    stream.write_all(request(0).as_bytes()).unwrap();
    stream.read_exact(&mut vec![0; 1_000_000]).unwrap();
    drop(stream); // a reset in the middle of it
    let broken = "cellwise_downloads_broken_total 1\n";
    while !world.metrics.handle().render().contains(broken) {
        let _ = world.told.recv_timeout(Duration::from_millis(100)); // or nothing is told
    }
    // what counts is a number of whole records: the first of which begins the package
    let counted = || {
        world
            .grants
            .look(&world.grant.token)
            .unwrap()
            .contiguous_bytes
    };
    let mut looks = 0;
    while !counted().is_multiple_of(16 * 1024) {
        looks += 1;
        assert!(looks < 600, "{} is in the middle of a record", counted());
        let _ = world.told.recv_timeout(Duration::from_millis(100)); // or nothing is told
    }
    let counted = counted();
    assert!((900_000..20_000_000).contains(&counted), "{counted}");
    let mut stream = connect(&world, &pair.0).unwrap();
    stream.write_all(request(counted).as_bytes()).unwrap();
    let rest = Answer::read(&mut stream, false);
    assert!(rest.body == world.content[usize::try_from(counted).unwrap()..]);
    drop(stream);
    world.await_told((20_000_000, true));
}
