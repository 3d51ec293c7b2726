//! The MQTT server, its ports, and who may connect; or the broker whose client this server is.

use std::{
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use super::{StartError, broker, listen_error, random, system};
use crate::{
    clock::SystemClock,
    config::MqttConfig,
    ledger::DeviceIds,
    runtime::{
        BrokerClient, BrokerSetup, MqttIdentities, MqttPort, MqttServer, MqttSetup, MqttSink,
        TlsBegin, listen,
    },
    store::Store,
    strangers::Strangers,
    telemetry::Metrics,
    tls::{Tls, TlsFiles},
    vault::Vault,
};

/// Rows that are read at once.
const PAGE: u32 = 10_000;

/// The MQTT server that runs.
pub(super) struct Mqtt {
    pub(super) port: MqttPort,
    pub(super) identities: Arc<MqttIdentities>,
    pub(super) tcp_addr: Option<SocketAddr>,
    pub(super) tls_addr: Option<SocketAddr>,
    /// The certificate of the port for TLS.
    pub(super) tls: Option<Tls>,
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
#[expect(
    clippy::too_many_lines,
    reason = "what is started, one after the other"
)]
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
    if config.is_by_broker() {
        let client = BrokerClient::start(BrokerSetup {
            config: config.clone(),
            tls: broker::tls(&config.broker)?,
            password: broker::password(&config.broker)?,
            seed: u64::from_be_bytes(random()?),
            identities: identities.clone(),
            sink: parts.sink.unwrap_or_else(|| Box::new(|_| {})),
            clock: parts.clock,
            strangers: parts.strangers,
            metrics: parts.metrics,
        });
        return Ok(Some(Mqtt {
            port: MqttPort::Broker(client),
            identities,
            tcp_addr: None,
            tls_addr: None,
            tls: None,
        }));
    }
    let open = |on: bool, address, setting| {
        on.then(|| listen(address).map_err(|source| listen_error(address, setting, source)))
            .transpose()
    };
    let tcp = open(config.tcp, config.tcp_listen, "mqtt.tcp_listen")?;
    let secured = open(config.tls, config.tls_listen, "mqtt.tls_listen")?;
    let tls = Tls::of(TlsFiles::of_mqtt(config).as_ref())?;
    let begin = tls
        .clone()
        .map(|tls| -> TlsBegin { Arc::new(move || tls.begin()) });
    let address = |listener: &TcpListener| listener.local_addr().ok();
    let tcp_addr = tcp.as_ref().and_then(address);
    let tls_addr = secured.as_ref().and_then(address);
    let server = MqttServer::start(MqttSetup {
        tcp,
        tls: secured.zip(begin),
        limits: config.into(),
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
        port: MqttPort::Server(server),
        identities,
        tcp_addr,
        tls_addr,
        tls,
    }))
}

/// What of the settings the server could not start with, although each may be what it is. Nothing is opened.
pub(super) fn unfit(config: &MqttConfig) -> Option<StartError> {
    if config.is_by_broker() {
        let tls = broker::tls(&config.broker).err();
        return tls.or_else(|| broker::password(&config.broker).err());
    }
    let tls = Tls::of(TlsFiles::of_mqtt(config).as_ref());
    tls.err().map(StartError::from)
}
