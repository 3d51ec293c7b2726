use std::{
    io::{Read as _, Write as _},
    net::SocketAddr,
    time::Duration,
};

use axum::{Router, routing::get};
use openssl::{
    bn::BigNum,
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::Private,
    ssl::{SslConnector, SslVersion},
    x509::{X509NameBuilder, extension::SubjectAlternativeName},
};
use tokio::{net::TcpListener, sync::watch};

use super::*;
use crate::{
    api::{Bounds, serve},
    clock::SystemClock,
    config::{Config, Settings},
};

struct Files {
    dir: tempfile::TempDir,
    config: AdminConfig,
}

impl Files {
    fn new(days: u32) -> (Self, X509) {
        let dir = tempfile::tempdir().unwrap();
        let config = AdminConfig {
            tls_certificate: dir.path().join("server.pem"),
            tls_key: dir.path().join("server.key"),
            ..AdminConfig::default()
        };
        let files = Self { dir, config };
        let certificate = files.renew(days);
        (files, certificate)
    }

    /// Another certificate and key.
    fn renew(&self, days: u32) -> X509 {
        let (certificate, key) = pair(days);
        fs::write(&self.config.tls_certificate, certificate.to_pem().unwrap()).unwrap();
        // the older form, which is not PKCS #8
        let pem = key.ec_key().unwrap().private_key_to_pem().unwrap();
        self.write_key(&pem, 0o640);
        certificate
    }

    fn write_key(&self, pem: &[u8], mode: u32) {
        fs::write(&self.config.tls_key, pem).unwrap();
        let mode = fs::Permissions::from_mode(mode);
        fs::set_permissions(&self.config.tls_key, mode).unwrap();
    }

    fn files(&self) -> TlsFiles {
        TlsFiles::of_admin(&self.config).unwrap()
    }

    fn tls(&self) -> Result<Option<Tls>, TlsError> {
        Tls::of(Some(&self.files()))
    }

    fn refused(&self) -> String {
        match self.tls() {
            Ok(_) => panic!("it was taken"),
            Err(error) => error.to_string(),
        }
    }
}

pub(crate) fn pair(days: u32) -> (X509, PKey<Private>) {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", "localhost").unwrap();
    let name = name.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    let mut serial = BigNum::new().unwrap();
    serial
        .rand(64, openssl::bn::MsbOption::MAYBE_ZERO, false)
        .unwrap();
    builder
        .set_serial_number(&serial.to_asn1_integer().unwrap())
        .unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(&name).unwrap();
    builder.set_pubkey(&key).unwrap();
    builder
        .set_not_before(&Asn1Time::from_unix(0).unwrap())
        .unwrap();
    builder
        .set_not_after(&Asn1Time::days_from_now(days).unwrap())
        .unwrap();
    let names = SubjectAlternativeName::new()
        .ip("127.0.0.1")
        .build(&builder.x509v3_context(None, None));
    builder.append_extension(names.unwrap()).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    (builder.build(), key)
}

/// A listener that answers "inside" to everybody, and the end that keeps it alive.
async fn listen(tls: Tls) -> (SocketAddr, watch::Sender<bool>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/", get(async || "inside"));
    let (stop, told) = watch::channel(false);
    let settings = Settings::new(Arc::new(Config::default()));
    tokio::spawn(serve(
        listener,
        Some(tls),
        router,
        settings,
        Bounds::OPERATORS,
        told,
    ));
    (address, stop)
}

/// What is answered to whoever trusts this certificate and speaks this version at the most; which one was shown.
async fn ask(
    address: SocketAddr,
    trusted: X509,
    most: SslVersion,
) -> Result<(String, Vec<u8>), String> {
    tokio::task::spawn_blocking(move || {
        let mut builder = SslConnector::builder(SslMethod::tls_client()).unwrap();
        builder.cert_store_mut().add_cert(trusted).unwrap();
        builder.set_min_proto_version(None).unwrap();
        builder.set_max_proto_version(Some(most)).unwrap();
        let stream = std::net::TcpStream::connect(address).unwrap();
        let mut stream = builder
            .build()
            .connect("127.0.0.1", stream)
            .map_err(|error| error.to_string())?;
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let shown = stream.ssl().peer_certificate().unwrap().to_der().unwrap();
        Ok((answer, shown))
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_listener_speaks_tls_1_2_and_1_3_and_takes_a_new_certificate() {
    let (files, first) = Files::new(30);
    let tls = files.tls().unwrap().unwrap();
    let now = SystemClock::start().now().utc;
    let days = tls.ends_at().since(now).as_secs_f64() / 86_400.0;
    assert!((29.9..30.1).contains(&days), "{days}");
    let (address, _stop) = listen(tls.clone()).await;
    for version in [SslVersion::TLS1_2, SslVersion::TLS1_3] {
        let (answer, shown) = ask(address, first.clone(), version).await.unwrap();
        assert!(
            answer.starts_with("HTTP/1.1 200") && answer.ends_with("inside"),
            "{answer}"
        );
        assert_eq!(shown, first.to_der().unwrap());
    }
    ask(address, first.clone(), SslVersion::TLS1_1)
        .await
        .unwrap_err();

    assert!(!tls.renew(&files.files(), now).unwrap());
    let second = files.renew(60);
    assert!(tls.renew(&files.files(), now).unwrap());
    let (_, shown) = ask(address, second.clone(), SslVersion::TLS1_3)
        .await
        .unwrap();
    assert_eq!(shown, second.to_der().unwrap());
    ask(address, first, SslVersion::TLS1_3).await.unwrap_err();

    // what cannot be used leaves the one before in use
    files.write_key(b"no key", 0o600);
    let error = tls.renew(&files.files(), now).unwrap_err().to_string();
    assert!(error.contains("there is no private key in it"), "{error}");
    files.renew(1);
    let late = now + Duration::from_hours(48);
    let error = tls.renew(&files.files(), late).unwrap_err().to_string();
    assert!(error.contains("the certificate has ended at"), "{error}");
    let (_, shown) = ask(address, second.clone(), SslVersion::TLS1_3)
        .await
        .unwrap();
    assert_eq!(shown, second.to_der().unwrap());
}

#[tokio::test]
async fn whoever_says_nothing_keeps_nobody_waiting_and_plain_http_is_not_answered() {
    let (files, certificate) = Files::new(30);
    let (address, _stop) = listen(files.tls().unwrap().unwrap()).await;
    let silent = std::net::TcpStream::connect(address).unwrap();
    let plain = tokio::task::spawn_blocking(move || {
        let mut plain = std::net::TcpStream::connect(address).unwrap();
        plain
            .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            .unwrap();
        let mut answer = Vec::new();
        let _ = plain.read_to_end(&mut answer); // it may be reset
        answer
    });
    assert!(!String::from_utf8_lossy(&plain.await.unwrap()).contains("inside"));
    ask(address, certificate, SslVersion::TLS1_3).await.unwrap();
    drop(silent);
}

#[test]
fn what_is_no_certificate_and_key_is_told_with_its_setting() {
    let (files, _) = Files::new(30);
    assert!(TlsFiles::of_admin(&AdminConfig::default()).is_none());
    assert!(Tls::of(None).unwrap().is_none());
    assert!(files.tls().is_ok());
    files.write_key(b"x", 0o604);
    assert!(
        files.refused().contains("by everybody (mode 0604)"),
        "{}",
        files.refused()
    );
    let (_, other) = pair(1);
    files.write_key(&other.private_key_to_pem_pkcs8().unwrap(), 0o600);
    let error = files.refused();
    assert!(
        error.starts_with("admin.tls_key ") && error.contains("not the key of the certificate"),
        "{error}"
    );
    fs::write(&files.config.tls_certificate, "no certificate").unwrap();
    let error = files.refused();
    assert!(
        error.starts_with("admin.tls_certificate ")
            && error.contains("there is no certificate in it"),
        "{error}"
    );
    fs::write(&files.config.tls_certificate, vec![b'x'; 2 << 20]).unwrap();
    assert!(files.refused().contains("more than 1048576 bytes"));
    fs::remove_file(&files.config.tls_certificate).unwrap();
    assert!(files.refused().contains("No such file"));
    assert!(certificate_end(&files.dir.path().join("nowhere")).is_err());
}
