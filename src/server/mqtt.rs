//! The MQTT server: its ports, its certificate, and who may connect.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use openssl::{
    error::ErrorStack,
    pkey::PKey,
    ssl::{Ssl, SslAcceptor, SslContext, SslMethod, SslVerifyMode},
    x509::X509,
};

use super::{StartError, listen_error, random, system};
use crate::{
    clock::SystemClock,
    config::MqttConfig,
    ledger::DeviceIds,
    mqtt::endpoint::Limits,
    runtime::{MqttIdentities, MqttServer, MqttSetup, MqttSink, TlsBegin, listen},
    store::Store,
    strangers::Strangers,
    telemetry::Metrics,
    vault::Vault,
};

/// Rows that are read at once.
const PAGE: u32 = 10_000;

/// The MQTT server that runs.
pub(super) struct Mqtt {
    pub(super) server: MqttServer,
    pub(super) identities: Arc<MqttIdentities>,
    pub(super) tcp_addr: Option<SocketAddr>,
    pub(super) tls_addr: Option<SocketAddr>,
    tls: Option<MqttTls>,
}

/// What it is started with.
pub(super) struct MqttParts<'a> {
    pub(super) config: &'a MqttConfig,
    pub(super) vault: Option<Vault>,
    pub(super) ids: DeviceIds,
    pub(super) store: &'a dyn Store,
    /// Is told what happens.
    pub(super) sink: Option<MqttSink>,
    pub(super) clock: SystemClock,
    pub(super) strangers: Arc<Strangers>,
    pub(super) metrics: Arc<Metrics>,
}

/// Starts the server, if the settings have one.
pub(super) async fn start(parts: MqttParts<'_>) -> Result<Option<Mqtt>, StartError> {
    let config = parts.config;
    if !config.is_on() {
        return Ok(None);
    }
    let identities = MqttIdentities::new(parts.vault, parts.ids);
    let mut after: Option<String> = None;
    loop {
        let page = parts.store.restore_mqtt(after.as_deref(), PAGE).await?;
        let Some((last, _)) = page.last() else {
            break;
        };
        after = Some(last.clone());
        for (endpoint, mqtt) in &page {
            identities.set(endpoint, Some(mqtt));
        }
    }
    let identities = Arc::new(identities);
    let open = |on: bool, address, setting| {
        on.then(|| listen(address).map_err(|source| listen_error(address, setting, source)))
            .transpose()
    };
    let tcp = open(config.tcp, config.tcp_listen, "mqtt.tcp_listen")?;
    let secured = open(config.tls, config.tls_listen, "mqtt.tls_listen")?;
    let tls = config.tls.then(|| MqttTls::of(config)).transpose()?;
    let address = |listener: &TcpListener| listener.local_addr().ok();
    let tcp_addr = tcp.as_ref().and_then(address);
    let tls_addr = secured.as_ref().and_then(address);
    let server = MqttServer::start(MqttSetup {
        tcp,
        tls: secured.zip(tls.as_ref().map(MqttTls::begin)),
        limits: limits(config),
        backlog_bytes: config.max_backlog_kib as usize * 1024,
        seed: u64::from_be_bytes(random()?),
        identities: identities.clone(),
        sink: parts.sink,
        clock: parts.clock,
        strangers: parts.strangers,
        metrics: parts.metrics,
    })
    .map_err(|error| system("serve MQTT", &error))?;
    Ok(Some(Mqtt {
        server,
        identities,
        tcp_addr,
        tls_addr,
        tls,
    }))
}

impl Mqtt {
    /// Reads the certificate's files anew. Tells whether they hold something else.
    pub(super) fn renew(&self, config: &MqttConfig) -> Result<bool, StartError> {
        match &self.tls {
            Some(tls) if config.tls => tls.renew(config),
            _ => Ok(false),
        }
    }
}

/// What of the settings the server could not start with, although each may be what it is. Nothing is opened.
pub(super) fn unfit(config: &MqttConfig) -> Option<StartError> {
    if !config.tls {
        return None;
    }
    Files::read(config).and_then(|files| context(&files)).err()
}

fn limits(config: &MqttConfig) -> Limits {
    Limits {
        connections: config.max_connections as usize,
        connections_per_address: config.max_connections_per_address as usize,
        unknown_connections: config.max_unknown_connections as usize,
        connect_within: Duration::from_secs(config.connect_timeout_s),
        connect_bytes: config.max_connect_bytes as usize,
        packet_bytes: config.max_packet_bytes as usize,
        buffered_bytes: config.max_buffered_mib as usize * 1024 * 1024,
        connects_per_second: config.connects_per_second,
        connects_per_address_per_second: config.connects_per_address_per_second,
        failures_per_address_per_minute: config.failed_attempts_per_minute,
        take_over_after: Duration::from_millis(config.take_over_after_ms),
        keep_alive: Duration::from_secs(config.keep_alive_s),
        hold: Duration::from_secs(config.hold_s),
        receive_maximum: config.receive_maximum,
        send_maximum: config.send_maximum,
        unacknowledged_per_second: config.unacknowledged_per_second,
    }
}

/// What the files of the settings hold.
#[derive(PartialEq, Eq)]
struct Files {
    chain: Vec<u8>,
    key: Vec<u8>,
    client_ca: Vec<u8>,
}

impl Files {
    fn read(config: &MqttConfig) -> Result<Self, StartError> {
        let read = |path: &Path| {
            fs::read(path).map_err(|source| StartError::DataDir {
                path: path.to_owned(),
                source,
            })
        };
        super::secure::kept_from_others(&config.tls_key)?;
        Ok(Self {
            chain: read(&config.tls_certificate)?,
            key: read(&config.tls_key)?,
            client_ca: if config.client_ca_file.as_os_str().is_empty() {
                Vec::new()
            } else {
                read(&config.client_ca_file)?
            },
        })
    }
}

/// The certificate with which connections begin.
struct MqttTls(Arc<RwLock<(Files, SslContext)>>);

impl MqttTls {
    fn of(config: &MqttConfig) -> Result<Self, StartError> {
        let files = Files::read(config)?;
        let context = context(&files)?;
        Ok(Self(Arc::new(RwLock::new((files, context)))))
    }

    fn renew(&self, config: &MqttConfig) -> Result<bool, StartError> {
        let files = Files::read(config)?;
        let held = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if files == held.0 {
            return Ok(false);
        }
        drop(held);
        let context = context(&files)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = (files, context);
        Ok(true)
    }

    fn begin(&self) -> TlsBegin {
        let held = self.0.clone();
        Arc::new(move || {
            let held = held.read().unwrap_or_else(PoisonError::into_inner);
            Ssl::new(&held.1)
        })
    }
}

/// TLS 1.2 and 1.3, as Mozilla's "intermediate" profile has them. A device may show a certificate of the authorities.
fn context(files: &Files) -> Result<SslContext, StartError> {
    build(files).map_err(|error| StartError::MqttTls(error.to_string()))
}

fn build(files: &Files) -> Result<SslContext, ErrorStack> {
    let mut builder = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls_server())?;
    let mut chain = X509::stack_from_pem(&files.chain)?.into_iter();
    if let Some(own) = chain.next() {
        builder.set_certificate(&own)?;
    }
    for above in chain {
        builder.add_extra_chain_cert(above)?;
    }
    let key = PKey::private_key_from_pem(&files.key)?;
    builder.set_private_key(&key)?;
    builder.check_private_key()?;
    if !files.client_ca.is_empty() {
        for authority in X509::stack_from_pem(&files.client_ca)? {
            builder.add_client_ca(&authority)?;
            builder.cert_store_mut().add_cert(authority)?;
        }
        builder.set_verify(SslVerifyMode::PEER);
        builder.set_session_id_context(b"cellwise mqtt")?;
    }
    Ok(builder.build().into_context())
}
