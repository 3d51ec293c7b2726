//! Over TLS.

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
    let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
    builder.cert_store_mut().add_cert(trusted.clone()).unwrap();
    let connected = builder.build().connect("localhost", world.connect());
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
    let mut last = (0, false);
    // until the connection is gone
    while !world
        .metrics
        .handle()
        .render()
        .contains("cellwise_downloads_broken_total 1\n")
    {
        if let Ok(told) = world.told.recv_timeout(Duration::from_millis(100)) {
            last = told;
        }
    }
    last = world.told.try_iter().last().unwrap_or(last);
    assert!(!last.1 && last.0 > 1_000_000, "{last:?}");
}
