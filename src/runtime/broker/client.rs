//! One connection to a broker, in either version of MQTT. The library's event loop runs in a task of its own: it is not to be
//! interrupted, what it has read waits in a bounded queue, and where it panics the connection is over and nothing else.

use std::{fmt::Display, num::NonZeroU16, time::Duration};

use bytes::Bytes;
use rumqttc::{
    AsyncClient, EventLoop, MqttOptions, Packet, QoS, SubscribeFilter, SubscribeReasonCode,
    TlsConfiguration, Transport,
    v5::{
        self,
        mqttbytes::v5::{ConnectProperties, RetainForwardRule},
    },
};
use tokio::{sync::mpsc, task::JoinHandle};

use crate::{
    config::{BrokerVersion, MqttConfig},
    mqtt::endpoint::Qos,
};

/// Packets of the broker that wait to be looked at: more of it is not read meanwhile.
const READ_AHEAD: usize = 64;

/// What the broker does.
pub(super) enum Incoming {
    /// It has accepted the connection.
    Connected,
    /// It has answered to a subscription, filter by filter.
    Granted(Vec<bool>),
    /// It has not taken a message, and says why.
    Refused(String),
    /// It has sent a message.
    Message(Message),
    /// The connection is over, or never was.
    Over(String),
}

/// A message of the broker.
pub(super) struct Message {
    pub(super) topic: String,
    pub(super) payload: Bytes,
    pub(super) retained: bool,
    pub(super) packet_id: Option<NonZeroU16>,
}

enum Kind {
    V311(AsyncClient),
    V5(v5::AsyncClient),
}

/// The connection. It is over when this is dropped.
pub(super) struct Client {
    kind: Kind,
    incoming: mpsc::Receiver<Incoming>,
    reader: JoinHandle<()>,
}

/// What did not fit the queue of the connection.
pub(super) struct Full;

impl Drop for Client {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

impl Client {
    /// Connects in the background; how that goes comes in.
    pub(super) fn open(
        config: &MqttConfig,
        (host, port): (&str, u16),
        tls: Option<&native_tls::TlsConnector>,
        password: Option<&str>,
    ) -> Self {
        let (read, incoming) = mpsc::channel(READ_AHEAD);
        let transport = tls.map_or_else(Transport::tcp, |connector| {
            Transport::tls_with_config(TlsConfiguration::NativeConnector(connector.clone()))
        });
        let limit = silence(config);
        let (kind, reader) = match config.broker.version {
            BrokerVersion::V311 => {
                let (client, events) = open_v311(config, host, port, transport, password);
                (
                    Kind::V311(client),
                    tokio::spawn(read_v311(events, read, limit)),
                )
            }
            BrokerVersion::V5 => {
                let (client, events) = open_v5(config, host, port, transport, password);
                (Kind::V5(client), tokio::spawn(read_v5(events, read, limit)))
            }
        };
        Self {
            kind,
            incoming,
            reader,
        }
    }

    /// What the broker does next.
    pub(super) async fn next(&mut self) -> Incoming {
        let next = self.incoming.recv().await;
        next.unwrap_or_else(|| Incoming::Over("its packets could not be read".to_owned()))
    }

    pub(super) fn subscribe(&self, filters: Vec<String>) -> Result<(), Full> {
        match &self.kind {
            Kind::V311(client) => {
                let filters = filters.into_iter();
                let filters = filters.map(|path| SubscribeFilter::new(path, QoS::AtLeastOnce));
                client.try_subscribe_many(filters).map_err(|_| Full)
            }
            Kind::V5(client) => {
                let filters = filters.into_iter().map(|path| {
                    let mut filter =
                        v5::mqttbytes::v5::Filter::new(path, v5::mqttbytes::QoS::AtLeastOnce);
                    // nobody knows how old it is
                    filter.retain_forward_rule = RetainForwardRule::Never;
                    filter
                });
                client.try_subscribe_many(filters).map_err(|_| Full)
            }
        }
    }

    pub(super) fn publish(&self, topic: String, payload: Bytes, qos: Qos) -> Result<(), Full> {
        match &self.kind {
            Kind::V311(client) => {
                let qos = match qos {
                    Qos::AtMostOnce => QoS::AtMostOnce,
                    Qos::AtLeastOnce => QoS::AtLeastOnce,
                };
                client
                    .try_publish(topic, qos, false, payload)
                    .map_err(|_| Full)
            }
            Kind::V5(client) => {
                let qos = match qos {
                    Qos::AtMostOnce => v5::mqttbytes::QoS::AtMostOnce,
                    Qos::AtLeastOnce => v5::mqttbytes::QoS::AtLeastOnce,
                };
                client
                    .try_publish(topic, qos, false, payload)
                    .map_err(|_| Full)
            }
        }
    }

    pub(super) fn acknowledge(&self, packet_id: NonZeroU16) -> Result<(), Full> {
        match &self.kind {
            Kind::V311(client) => {
                let mut message = rumqttc::Publish::new("", QoS::AtLeastOnce, Vec::new());
                message.pkid = packet_id.get();
                client.try_ack(&message).map_err(|_| Full)
            }
            Kind::V5(client) => {
                let mut message = v5::mqttbytes::v5::Publish::new(
                    "",
                    v5::mqttbytes::QoS::AtLeastOnce,
                    Bytes::new(),
                    None,
                );
                message.pkid = packet_id.get();
                client.try_ack(&message).map_err(|_| Full)
            }
        }
    }

    /// Says good-bye, and waits until that has left, for a moment.
    pub(super) async fn close(mut self) {
        const AT_MOST: Duration = Duration::from_secs(1);
        let said = match &self.kind {
            Kind::V311(client) => client.try_disconnect().is_ok(),
            Kind::V5(client) => client.try_disconnect().is_ok(),
        };
        if said {
            let gone = async { while self.incoming.recv().await.is_some() {} };
            let _ = tokio::time::timeout(AT_MOST, gone).await; // it is over anyhow
        }
    }
}

fn open_v311(
    config: &MqttConfig,
    host: &str,
    port: u16,
    transport: Transport,
    password: Option<&str>,
) -> (AsyncClient, EventLoop) {
    let broker = &config.broker;
    let most = config.max_packet_bytes as usize;
    let mut options = MqttOptions::new(&broker.client_id, host, port);
    options
        .set_transport(transport)
        .set_keep_alive(Duration::from_secs(broker.keep_alive_s.into()))
        .set_clean_session(broker.session_expiry_s == 0)
        .set_max_packet_size(most, most)
        .set_inflight(broker.send_maximum)
        .set_manual_acks(true);
    if !broker.user.is_empty() {
        options.set_credentials(&broker.user, password.unwrap_or_default());
    }
    let (client, mut events) = AsyncClient::new(options, queue(config));
    events
        .network_options
        .set_connection_timeout(config.connect_timeout_s);
    (client, events)
}

fn open_v5(
    config: &MqttConfig,
    host: &str,
    port: u16,
    transport: Transport,
    password: Option<&str>,
) -> (v5::AsyncClient, v5::EventLoop) {
    let broker = &config.broker;
    let mut options = v5::MqttOptions::new(&broker.client_id, host, port);
    let mut properties = ConnectProperties::new();
    properties.session_expiry_interval = Some(broker.session_expiry_s);
    properties.receive_maximum = Some(broker.receive_maximum);
    properties.max_packet_size = Some(config.max_packet_bytes);
    options
        .set_transport(transport)
        .set_keep_alive(Duration::from_secs(broker.keep_alive_s.into()))
        .set_clean_start(broker.session_expiry_s == 0)
        .set_connect_properties(properties)
        .set_outgoing_inflight_upper_limit(broker.send_maximum)
        .set_connection_timeout(config.connect_timeout_s)
        .set_manual_acks(true);
    if !broker.user.is_empty() {
        options.set_credentials(&broker.user, password.unwrap_or_default());
    }
    v5::AsyncClient::new(options, queue(config))
}

/// What waits for the connection: publications, and acknowledgements.
fn queue(config: &MqttConfig) -> usize {
    usize::from(config.broker.send_maximum) + usize::from(config.broker.receive_maximum)
}

/// The library has something to say by then: it pings the broker. What it writes has no time limit of its own, so that a broker that
/// reads nothing would hold it for ever.
fn silence(config: &MqttConfig) -> Duration {
    let keep_alive = u64::from(config.broker.keep_alive_s);
    Duration::from_secs(2 * keep_alive + config.connect_timeout_s)
}

/// What the library does next, within that time.
async fn within<T, E: Display>(
    limit: Duration,
    next: impl Future<Output = Result<T, E>>,
) -> Result<T, String> {
    match tokio::time::timeout(limit, next).await {
        Ok(next) => next.map_err(|error| error.to_string()),
        Err(_) => Err(format!("it has taken nothing for {} s", limit.as_secs())),
    }
}

async fn read_v311(mut events: EventLoop, read: mpsc::Sender<Incoming>, limit: Duration) {
    loop {
        let incoming = match within(limit, events.poll()).await {
            Ok(rumqttc::Event::Incoming(packet)) => match packet {
                Packet::ConnAck(_) => Incoming::Connected,
                Packet::SubAck(answer) => {
                    let codes = answer.return_codes.iter();
                    let granted = codes.map(|it| matches!(it, SubscribeReasonCode::Success(_)));
                    Incoming::Granted(granted.collect())
                }
                Packet::Publish(it) => {
                    message(it.topic, it.payload, it.retain, it.qos as u8, it.pkid)
                }
                _ => continue,
            },
            Ok(rumqttc::Event::Outgoing(_)) => continue,
            Err(reason) => Incoming::Over(reason),
        };
        let over = matches!(incoming, Incoming::Over(_));
        if read.send(incoming).await.is_err() || over {
            return;
        }
    }
}

async fn read_v5(mut events: v5::EventLoop, read: mpsc::Sender<Incoming>, limit: Duration) {
    use v5::mqttbytes::v5::{Packet, PubAckReason, SubscribeReasonCode};
    loop {
        let incoming = match within(limit, events.poll()).await {
            Ok(v5::Event::Incoming(packet)) => match packet {
                Packet::ConnAck(_) => Incoming::Connected,
                Packet::SubAck(answer) => {
                    let codes = answer.return_codes.iter();
                    let granted = codes.map(|it| matches!(it, SubscribeReasonCode::Success(_)));
                    Incoming::Granted(granted.collect())
                }
                Packet::PubAck(answer) => match answer.reason {
                    PubAckReason::Success | PubAckReason::NoMatchingSubscribers => continue,
                    reason => Incoming::Refused(format!("{reason:?}")),
                },
                Packet::Publish(it) => {
                    let alias = it.properties.as_ref().and_then(|it| it.topic_alias);
                    if alias.is_some() {
                        // none is allowed (MQTT 5 §3.1.2.11.5), and the library would keep them
                        Incoming::Over("it has sent a Topic Alias".to_owned())
                    } else {
                        let topic = String::from_utf8(it.topic.into()).unwrap_or_default();
                        message(topic, it.payload, it.retain, it.qos as u8, it.pkid)
                    }
                }
                _ => continue,
            },
            Ok(v5::Event::Outgoing(_)) => continue,
            Err(reason) => Incoming::Over(reason),
        };
        let over = matches!(incoming, Incoming::Over(_));
        if read.send(incoming).await.is_err() || over {
            return;
        }
    }
}

fn message(topic: String, payload: Bytes, retained: bool, qos: u8, packet_id: u16) -> Incoming {
    let packet_id = match (qos, NonZeroU16::new(packet_id)) {
        (0, _) => None,
        (1, Some(packet_id)) => Some(packet_id),
        _ => {
            return Incoming::Over(
                "it has sent a message with a QoS that was not asked for".to_owned(),
            );
        }
    };
    Incoming::Message(Message {
        topic,
        payload,
        retained,
        packet_id,
    })
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn a_broker_that_takes_nothing_is_given_up() {
        let moment = Duration::from_millis(1);
        let stuck = within(moment, pending::<Result<(), String>>()).await;
        assert_eq!(stuck, Err("it has taken nothing for 0 s".to_owned()));
        let later = Duration::from_mins(1);
        assert_eq!(within(later, ready(Ok::<_, String>(7))).await, Ok(7));
        let broken = within(later, ready(Err::<(), _>("broken"))).await;
        assert_eq!(broken, Err("broken".to_owned()));
    }

    #[test]
    fn a_broker_has_time_for_the_connection_and_two_pings() {
        let mut config = MqttConfig::default();
        (config.connect_timeout_s, config.broker.keep_alive_s) = (10, 60);
        assert_eq!(silence(&config), Duration::from_secs(130));
    }
}
