//! A provider behind TLS, with a certificate of an authority that no system knows.

use std::{io, net::SocketAddr, pin::Pin};

use axum::http::StatusCode;
use openssl::{
    asn1::Asn1Time,
    bn::{BigNum, MsbOption},
    hash::MessageDigest,
    pkey::{PKey, Private},
    ssl::{Ssl, SslAcceptor, SslMethod},
    x509::{
        X509, X509Builder, X509NameBuilder,
        extension::{BasicConstraints, KeyUsage, SubjectAlternativeName},
    },
};
use tokio::net::{TcpListener, TcpStream};
use tokio_openssl::SslStream;

use super::{World, new_key, session};

/// An authority.
struct Authority {
    certificate: X509,
    key: PKey<Private>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = new_key();
        let mut builder = begin(name, &key);
        let subject = builder_name(name);
        builder.set_issuer_name(&subject).unwrap();
        let authority = BasicConstraints::new().critical().ca().build();
        builder.append_extension(authority.unwrap()).unwrap();
        let signs = KeyUsage::new().critical().key_cert_sign().build();
        builder.append_extension(signs.unwrap()).unwrap();
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        let certificate = builder.build();
        Self { certificate, key }
    }

    fn pem(&self) -> Vec<u8> {
        self.certificate.to_pem().unwrap()
    }

    /// Speaks TLS with a certificate for this address.
    fn acceptor(&self, ip: &str) -> SslAcceptor {
        let key = new_key();
        let mut builder = begin("provider", &key);
        builder
            .set_issuer_name(self.certificate.subject_name())
            .unwrap();
        let names = SubjectAlternativeName::new()
            .ip(ip)
            .build(&builder.x509v3_context(Some(&self.certificate), None));
        builder.append_extension(names.unwrap()).unwrap();
        builder.sign(&self.key, MessageDigest::sha256()).unwrap();
        let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server()).unwrap();
        acceptor.set_certificate(&builder.build()).unwrap();
        acceptor.set_private_key(&key).unwrap();
        acceptor.build()
    }
}

fn builder_name(name: &str) -> openssl::x509::X509Name {
    let mut builder = X509NameBuilder::new().unwrap();
    builder.append_entry_by_text("CN", name).unwrap();
    builder.build()
}

fn begin(name: &str, key: &PKey<Private>) -> X509Builder {
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    let mut serial = BigNum::new().unwrap();
    serial.rand(64, MsbOption::MAYBE_ZERO, false).unwrap();
    let serial = serial.to_asn1_integer().unwrap();
    builder.set_serial_number(&serial).unwrap();
    builder.set_subject_name(&builder_name(name)).unwrap();
    builder.set_pubkey(key).unwrap();
    let begins = Asn1Time::from_unix(0).unwrap();
    builder.set_not_before(&begins).unwrap();
    let ends = Asn1Time::days_from_now(30).unwrap();
    builder.set_not_after(&ends).unwrap();
    builder
}

struct Behind {
    tcp: TcpListener,
    acceptor: SslAcceptor,
}

impl axum::serve::Listener for Behind {
    type Io = SslStream<TcpStream>;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, SocketAddr) {
        loop {
            let (stream, from) = self.tcp.accept().await.unwrap();
            let ssl = Ssl::new(self.acceptor.context()).unwrap();
            let mut stream = SslStream::new(ssl, stream).unwrap();
            // whoever does not believe the certificate ends it
            if Pin::new(&mut stream).accept().await.is_ok() {
                return (stream, from);
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.local_addr()
    }
}

/// A provider with a certificate of `authority` for an address, and an API that believes `believed`.
async fn world(authority: &Authority, ip: &str, believed: Option<&Authority>) -> World {
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let issuer = format!("https://{}", tcp.local_addr().unwrap());
    let acceptor = authority.acceptor(ip);
    let believed = believed.map(Authority::pem);
    World::at(Behind { tcp, acceptor }, issuer, believed).await
}

#[tokio::test]
async fn a_provider_is_believed_by_the_authority_that_the_settings_name() {
    let (own, other) = (Authority::new("own"), Authority::new("other"));
    let believed = world(&own, "127.0.0.1", Some(&own)).await;
    session(&believed.log_in().await);
    // the system knows none of it, it is another's, or of somebody else
    for (ip, trusted) in [
        ("127.0.0.1", None),
        ("127.0.0.1", Some(&other)),
        ("192.0.2.1", Some(&own)),
    ] {
        let refused = world(&own, ip, trusted).await;
        let down = refused.get("/v1/session/oidc", None).await;
        assert_eq!(down.status, StatusCode::SERVICE_UNAVAILABLE, "{down:?}");
        assert_eq!(down.problem(), "identity-provider-unavailable");
        assert!(down.detail().contains("certificate"), "{}", down.detail());
    }
}
