//! How the commands reach the server: over TLS, and when it answers before it has heard all.

use std::{
    io::{Cursor, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    thread,
};

use clap::Parser;
use openssl::{
    asn1::Asn1Time,
    bn::BigNum,
    hash::MessageDigest,
    pkey::{PKey, Private},
    rsa::Rsa,
    x509::{
        X509, X509Builder, X509NameBuilder,
        extension::{BasicConstraints, SubjectAlternativeName},
    },
};
use serde_json::json;

use super::{Line, Shell, TOKEN};
use crate::cli::{ApiArgs, Client};

/// An authority, and who may have its certificates.
struct Authority {
    certificate: X509,
    key: PKey<Private>,
}

impl Authority {
    fn new(name: &str) -> Self {
        let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let mut builder = begin(name, &key);
        let is_authority = BasicConstraints::new().critical().ca().build().unwrap();
        builder.append_extension(is_authority).unwrap();
        builder.set_issuer_name(&named(name)).unwrap();
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        let certificate = builder.build();
        Self { certificate, key }
    }

    /// A listener at an address that its certificate names as `ip`, which passes on what it hears to `upstream`. Returns
    /// its port.
    async fn vouch_for(&self, ip: &str, upstream: String) -> u16 {
        let key = PKey::from_rsa(Rsa::generate(2048).unwrap()).unwrap();
        let mut builder = begin("server", &key);
        builder
            .set_issuer_name(self.certificate.subject_name())
            .unwrap();
        let context = builder.x509v3_context(Some(&self.certificate), None);
        let names = SubjectAlternativeName::new().ip(ip).build(&context);
        builder.append_extension(names.unwrap()).unwrap();
        builder.sign(&self.key, MessageDigest::sha256()).unwrap();
        let certificate = builder.build().to_pem().unwrap();
        let key = key.private_key_to_pem_pkcs8().unwrap();
        let identity = native_tls::Identity::from_pkcs8(&certificate, &key).unwrap();
        let acceptor = native_tls::TlsAcceptor::new(identity).unwrap();
        let acceptor = tokio_native_tls::TlsAcceptor::from(acceptor);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // a client that does not trust us goes away
                let Ok(mut inside) = acceptor.accept(stream).await else {
                    continue;
                };
                let mut upstream = tokio::net::TcpStream::connect(&upstream).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut inside, &mut upstream).await;
            }
        });
        port
    }
}

fn named(name: &str) -> openssl::x509::X509Name {
    let mut builder = X509NameBuilder::new().unwrap();
    builder.append_entry_by_text("CN", name).unwrap();
    builder.build()
}

fn begin(name: &str, key: &PKey<Private>) -> X509Builder {
    let mut builder = X509Builder::new().unwrap();
    builder.set_version(2).unwrap();
    let serial = BigNum::from_u32(1).unwrap().to_asn1_integer().unwrap();
    builder.set_serial_number(&serial).unwrap();
    builder.set_subject_name(&named(name)).unwrap();
    builder.set_pubkey(key).unwrap();
    let (from, until) = (Asn1Time::days_from_now(0), Asn1Time::days_from_now(1));
    builder.set_not_before(&from.unwrap()).unwrap();
    builder.set_not_after(&until.unwrap()).unwrap();
    builder
}

/// Runs a command line that names its server; the output, or the error.
async fn at(line: String) -> Result<String, String> {
    tokio::task::spawn_blocking(move || {
        let words = ["cellwise"].into_iter().chain(line.split(' '));
        let line = Line::try_parse_from(words).unwrap();
        let mut out = Vec::new();
        match line.command.run(&mut out) {
            Ok(_) => Ok(String::from_utf8(out).unwrap()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_server_behind_tls_is_asked_when_its_authority_is_known() {
    let shell = Shell::new().await;
    shell.text("device add urn:imei:1").await;
    let upstream = shell.url.trim_start_matches("http://").to_owned();
    let (right, wrong) = (Authority::new("right"), Authority::new("wrong"));
    let port = right.vouch_for("127.0.0.1", upstream.clone()).await;
    let known = shell.file("right.pem", &right.certificate.to_pem().unwrap());
    let both = [&wrong, &right].map(|authority| authority.certificate.to_pem().unwrap());
    let both = shell.file("both.pem", &both.concat());
    let ask = |port: u16, more: &str| {
        at(format!(
            "device list --token {TOKEN} --api https://127.0.0.1:{port}{more}"
        ))
    };
    for file in [known.clone(), both] {
        let list = ask(port, &format!(" --ca-file {file}")).await.unwrap();
        assert!(list.contains("urn:imei:1"), "{list}");
    }
    let other = shell.file("wrong.pem", &wrong.certificate.to_pem().unwrap());
    for more in [format!(" --ca-file {other}"), String::new()] {
        let error = ask(port, &more).await.unwrap_err();
        assert!(
            error.starts_with(&format!("https://127.0.0.1:{port} cannot be trusted: "))
                && error.contains("local issuer")
                && error.contains("--ca-file"),
            "{error}"
        );
    }
    // of the right authority, but for somebody else
    let port = right.vouch_for("192.0.2.1", upstream).await;
    let error = ask(port, &format!(" --ca-file {known}")).await.unwrap_err();
    assert!(
        error.contains("cannot be trusted") && error.contains("mismatch"),
        "{error}"
    );
    // no TLS there at all
    let plain = shell.url.rsplit_once(':').unwrap().1.parse().unwrap();
    let error = ask(plain, &format!(" --ca-file {known}"))
        .await
        .unwrap_err();
    assert!(
        error.contains("does the server speak HTTPS there"),
        "{error}"
    );
}

#[tokio::test]
async fn what_cannot_be_a_server_or_its_authority_is_told() {
    let shell = Shell::new().await;
    let nothing = shell.file("nothing.pem", b"no certificate");
    let https = "https://127.0.0.1:1";
    for (api, more, expected) in [
        (
            "127.0.0.1:8080",
            String::new(),
            "expected http://ADDRESS:PORT",
        ),
        (
            "ftp://127.0.0.1",
            String::new(),
            "expected http://ADDRESS:PORT",
        ),
        (
            "http://me@127.0.0.1",
            String::new(),
            "expected http://ADDRESS:PORT",
        ),
        (
            https,
            format!(" --ca-file {nothing}"),
            "there is no certificate in it",
        ),
        (
            https,
            " --ca-file /nowhere.pem".to_owned(),
            "/nowhere.pem: No such file",
        ),
    ] {
        let line = format!("task list --token {TOKEN} --api {api}{more}");
        let error = at(line).await.unwrap_err();
        assert!(error.contains(expected), "{api}: {error}");
    }
}

/// A server that hears the head of a request and a little of its body, says `answer` to it, and hangs up on the rest.
fn abrupt(answer: Vec<u8>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream: TcpStream = stream.unwrap();
            let mut heard = vec![0; 64 * 1024];
            stream.read_exact(&mut heard).unwrap();
            // unread bytes make the system reset the connection when it is dropped
            let _ = stream.write_all(&answer);
            let _ = stream.shutdown(Shutdown::Write);
        }
    });
    port
}

#[tokio::test]
async fn an_answer_that_comes_while_the_file_is_sent_is_shown() {
    let shell = Shell::new().await;
    let file = shell.file("fw.bin", &vec![7; 30_000_000]);
    let problem = json!({
        "type": "urn:cellwise:problem:disk-full", "title": "The server's disk is full", "status": 507,
        "detail": "free space on the server's disk and upload again",
    })
    .to_string();
    let answer = format!(
        "HTTP/1.1 507 Insufficient Storage\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{problem}",
        problem.len()
    );
    let port = abrupt(answer.into_bytes());
    for _ in 0..20 {
        let line = format!(
            "package upload {file} --version V2 --token {TOKEN} --api http://127.0.0.1:{port}"
        );
        let error = at(line).await.unwrap_err();
        assert_eq!(
            error,
            "The server's disk is full: free space on the server's disk and upload again (HTTP 507)"
        );
    }
}

#[tokio::test]
async fn a_file_that_breaks_off_is_no_fault_of_the_server() {
    let shell = Shell::new().await;
    let args = ApiArgs {
        api: Some(shell.url.clone()),
        token: Some(TOKEN.to_owned()),
        ..ApiArgs::default()
    };
    let uploaded = tokio::task::spawn_blocking(move || {
        let query = [("version", "V2".to_owned())];
        let short = Cursor::new(vec![7; 100_000]);
        Client::new(&args)
            .unwrap()
            .upload("/v1/packages", &query, 200_000, short)
    });
    let error = uploaded.await.unwrap().unwrap_err().to_string();
    assert_eq!(
        error,
        "what is to be sent cannot be read: it became shorter while it was sent; nothing was uploaded"
    );
    let list = shell.run("package list --format json").await.unwrap();
    assert_eq!(list.json()["items"], json!([]));
}

#[tokio::test]
async fn a_server_that_hangs_up_is_no_success() {
    let shell = Shell::new().await;
    let file = shell.file("fw.bin", &vec![7; 30_000_000]);
    let port = abrupt(Vec::new());
    let line =
        format!("package upload {file} --version V2 --token {TOKEN} --api http://127.0.0.1:{port}");
    let error = at(line).await.unwrap_err();
    assert!(
        error.starts_with(&format!("no answer from http://127.0.0.1:{port}: ")),
        "{error}"
    );
}
