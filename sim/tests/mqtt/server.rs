//! An MQTT server, and an HTTP server for its package: just good enough.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::BytesMut;
use hmac::{Hmac, KeyInit as _, Mac as _};
use openssl::{
    asn1::Asn1Time,
    ec::{EcGroup, EcKey},
    hash::MessageDigest,
    nid::Nid,
    pkey::PKey,
    x509::{
        X509, X509NameBuilder,
        extension::{BasicConstraints, SubjectAlternativeName},
    },
};
use rumqttc::mqttbytes::{
    QoS,
    v4::{
        ConnAck, Connect, ConnectReturnCode, Packet, PubAck, Publish, SubAck, SubscribeReasonCode,
    },
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use sim::mqtt::fleet::{Authorities, Target};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

pub(crate) const PACKAGE_SIZE: u64 = 20_000;

/// Offers V2 to whoever connects with the right secret and another version.
pub(crate) struct Server {
    port: u16,
    secured: Option<tempfile::NamedTempFile>,
    state: Arc<State>,
}

struct State {
    package: Vec<u8>,
    url: String,
    requests: Mutex<Vec<String>>,
    served: AtomicU64,
    /// How often each device that tells no version may be pushed to.
    pushes: Mutex<HashMap<String, u32>>,
}

/// Enough for one that is kicked out again and again.
const MOST_PUSHES: u32 = 30;

trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}

impl Server {
    pub(crate) async fn plain() -> Self {
        Self::start(None).await
    }

    pub(crate) async fn secured() -> Self {
        let (pem, der, key) = certificate();
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), pem).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![der], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Self::start(Some((file, acceptor))).await
    }

    async fn start(tls: Option<(tempfile::NamedTempFile, TlsAcceptor)>) -> Self {
        let mqtt = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let http = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (secured, acceptor) = tls.unzip();
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        let state = Arc::new(State {
            package: (0..PACKAGE_SIZE).map(|at| (at % 251) as u8).collect(),
            url: format!("{scheme}://{}/p", http.local_addr().unwrap()),
            requests: Mutex::default(),
            served: AtomicU64::new(0),
            pushes: Mutex::default(),
        });
        let port = mqtt.local_addr().unwrap().port();
        for (listener, is_http) in [(mqtt, false), (http, true)] {
            let (state, acceptor) = (Arc::clone(&state), acceptor.clone());
            tokio::spawn(async move {
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    let (state, acceptor) = (Arc::clone(&state), acceptor.clone());
                    tokio::spawn(async move {
                        let stream: Box<dyn Stream> = match acceptor {
                            None => Box::new(stream),
                            Some(acceptor) => match acceptor.accept(stream).await {
                                Ok(stream) => Box::new(stream),
                                Err(_) => return,
                            },
                        };
                        // whoever goes away ends its connection
                        let _ = if is_http {
                            serve_package(&state, stream).await
                        } else {
                            serve_device(&state, stream).await
                        };
                    });
                }
            });
        }
        Self {
            port,
            secured,
            state,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn target(&self) -> Target {
        match &self.secured {
            None => Target::plain("127.0.0.1", self.port, Authorities::none().unwrap()),
            Some(file) => {
                let authorities = Authorities::read(file.path()).unwrap();
                Target::secured("127.0.0.1", self.port, authorities)
            }
        }
    }

    pub(crate) fn requests(&self) -> Vec<String> {
        self.state.requests.lock().unwrap().clone()
    }

    pub(crate) fn bytes_served(&self) -> u64 {
        self.state.served.load(Ordering::Relaxed)
    }
}

/// A certificate of 127.0.0.1 that is its own authority.
fn certificate() -> (Vec<u8>, CertificateDer<'static>, PrivateKeyDer<'static>) {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_text("CN", "127.0.0.1").unwrap();
    let name = name.build();
    let mut builder = X509::builder().unwrap();
    builder.set_version(2).unwrap();
    builder.set_subject_name(&name).unwrap();
    builder.set_issuer_name(&name).unwrap();
    builder.set_pubkey(&key).unwrap();
    let (from, to) = (Asn1Time::days_from_now(0), Asn1Time::days_from_now(1));
    builder.set_not_before(&from.unwrap()).unwrap();
    builder.set_not_after(&to.unwrap()).unwrap();
    let names = SubjectAlternativeName::new()
        .ip("127.0.0.1")
        .build(&builder.x509v3_context(None, None))
        .unwrap();
    builder.append_extension(names).unwrap();
    // a leaf that is trusted itself: webpki takes no authority for one
    builder
        .append_extension(BasicConstraints::new().build().unwrap())
        .unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    let certificate = builder.build();
    let key = key.private_key_to_pkcs8().unwrap();
    (
        certificate.to_pem().unwrap(),
        certificate.to_der().unwrap().into(),
        PrivateKeyDer::Pkcs8(key.into()),
    )
}

async fn serve_package(state: &State, mut stream: Box<dyn Stream>) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        request.push(stream.read_u8().await?);
    }
    let text = String::from_utf8(request).unwrap();
    let from: usize = text
        .to_lowercase()
        .split_once("\nrange: bytes=")
        .and_then(|(_, rest)| rest.split_once('-')?.0.parse().ok())
        .unwrap_or(0);
    state.requests.lock().unwrap().push(text);
    let status = if from > 0 {
        "206 Partial Content"
    } else {
        "200 OK"
    };
    let body = &state.package[from..];
    let mut answer = format!(
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nContent-Disposition: attachment; filename=p.bin\r\nContent-Range: \
         bytes {from}-{}/{PACKAGE_SIZE}\r\n\r\n",
        body.len(),
        PACKAGE_SIZE - 1,
    )
    .into_bytes();
    answer.extend_from_slice(&body[..1_000.min(body.len())]);
    stream.write_all(&answer).await?;
    for piece in body[1_000.min(body.len())..].chunks(1_000) {
        stream.write_all(piece).await?;
    }
    stream.flush().await?;
    state.served.fetch_add(body.len() as u64, Ordering::Relaxed);
    Ok(())
}

/// What is known of a connection.
struct Session<'s> {
    state: &'s State,
    device: String,
    output: BytesMut,
    /// Offers that an old version was answered with.
    offers: u32,
    second: bool,
    topic: Option<String>,
}

async fn serve_device(state: &State, mut stream: Box<dyn Stream>) -> std::io::Result<()> {
    let mut session = Session {
        state,
        device: String::new(),
        output: BytesMut::new(),
        offers: 0,
        second: false,
        topic: None,
    };
    let mut input = BytesMut::new();
    loop {
        while let Ok(packet) = Packet::read(&mut input, 100_000) {
            let goes_on = session.packet(packet);
            stream.write_all(&session.output.split()).await?;
            stream.flush().await?;
            if !goes_on {
                return Ok(());
            }
        }
        if stream.read_buf(&mut input).await? == 0 {
            return Ok(());
        }
    }
}

impl Session<'_> {
    fn packet(&mut self, packet: Packet) -> bool {
        match packet {
            Packet::Connect(connect) => {
                let code = if self.admit(&connect) {
                    ConnectReturnCode::Success
                } else {
                    ConnectReturnCode::BadUserNamePassword
                };
                ConnAck::new(code, false).write(&mut self.output).unwrap();
                if code == ConnectReturnCode::Success && !self.device.is_empty() {
                    self.event("version_query", &json!({}));
                }
                return code == ConnectReturnCode::Success;
            }
            Packet::Subscribe(subscribe) => {
                let codes = vec![SubscribeReasonCode::Success(QoS::AtLeastOnce)];
                SubAck::new(subscribe.pkid, codes)
                    .write(&mut self.output)
                    .unwrap();
                let topic = subscribe.filters[0].path.clone();
                let asks_for_versions = topic.starts_with("ota/device/");
                self.topic = Some(topic);
                if !asks_for_versions && self.may_push() {
                    self.offer();
                }
            }
            Packet::Publish(publish) => {
                if publish.qos == QoS::AtLeastOnce {
                    PubAck::new(publish.pkid).write(&mut self.output).unwrap();
                }
                let message: Value = serde_json::from_slice(&publish.payload).unwrap();
                self.reported(&message);
                let version = &message["services"][0]["paras"]["fw_version"];
                let version = version
                    .as_str()
                    .or_else(|| message["params"]["version"].as_str());
                if version.is_some_and(|version| version != "V2") {
                    self.offer();
                }
            }
            Packet::PingReq => self.output.extend_from_slice(&[0xD0, 0]),
            _ => {}
        }
        true
    }

    /// IoTDA's devices have a device ID in the client ID, `ThingsPanel`'s show an access token.
    fn admit(&mut self, connect: &Connect) -> bool {
        let login = connect.login.as_ref().unwrap();
        let Some((device, hour)) = connect.client_id.split_once("_0_1_") else {
            return login.username.starts_with("sim-") && login.username.ends_with("-secret");
        };
        let mut hmac = Hmac::<Sha256>::new_from_slice(hour.as_bytes()).unwrap();
        hmac.update(format!("{device}-secret").as_bytes());
        device.clone_into(&mut self.device);
        // the second of each four devices understands the second generation
        let number: u32 = device.trim_start_matches("sim-").parse().unwrap();
        self.second = number % 4 == 1;
        login.username == device && login.password == hex::encode(hmac.finalize().into_bytes())
    }

    fn may_push(&self) -> bool {
        let mut pushes = self.state.pushes.lock().unwrap();
        let topic = self.topic.clone().unwrap_or_default();
        let left = pushes.entry(topic).or_insert(MOST_PUSHES);
        let may = *left > 0;
        *left = left.saturating_sub(1);
        may
    }

    /// Whoever has reported its success is done.
    fn reported(&self, message: &Value) {
        let step = &message["step"];
        if *step == 100 || *step == "100" {
            let topic = self.topic.clone().unwrap_or_default();
            self.state.pushes.lock().unwrap().insert(topic, 0);
        }
    }

    fn offer(&mut self) {
        self.offers += 1;
        if self.offers > 5 {
            return;
        }
        let State { package, url, .. } = self.state;
        let sign = hex::encode(Sha256::digest(package));
        if let Some(topic) = self.topic.clone() {
            let push = json!({"id": "1", "code": "200", "params": {"version": "V2", "size": package.len(), "url": url,
                "signMethod": "SHA256", "sign": sign, "module": "default", "extData": {}}});
            return self.publish(&topic, &push);
        }
        let mut paras =
            json!({"url": url, "version": "V2", "file_size": package.len(), "sign": sign});
        let kind = if self.second {
            "firmware_upgrade_v2"
        } else {
            paras["access_token"] = "token".into();
            "firmware_upgrade"
        };
        self.event(kind, &paras);
    }

    fn event(&mut self, kind: &str, paras: &Value) {
        let topic = format!("$oc/devices/{}/sys/events/down", self.device);
        let event = json!({"object_device_id": self.device, "services":
            [{"service_id": "$ota", "event_type": kind, "event_time": "", "paras": paras}]});
        self.publish(&topic, &event);
    }

    fn publish(&mut self, topic: &str, message: &Value) {
        let mut publish = Publish::new(topic, QoS::AtLeastOnce, message.to_string());
        publish.pkid = 1;
        publish.write(&mut self.output).unwrap();
    }
}
