use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr},
    num::{NonZeroU16, NonZeroU32},
    sync::Arc,
    time::Duration,
};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::{mpsc, oneshot};

use super::{
    super::{MqttNews, mqtt::Tickets},
    BrokerSetup, Message,
    client::{Client, Full, Incoming},
};
use crate::{
    clock::{Instant, Now},
    mqtt::{
        broker::{Broker, Output, Publication},
        endpoint::{Event, PublishError},
    },
    strangers::{self, Refusal},
    telemetry::{Figures, Share},
};

/// Messages on their way to where they are judged: no more of the broker is read before some were taken.
const MAX_EVENTS: usize = 1_024;
/// How often it is looked whether some were taken.
const CHOKED: Duration = Duration::from_millis(5);
/// Figures are published that often.
const IDLE: Duration = Duration::from_secs(1);
/// How long the broker may take to answer to the subscriptions.
const GRANTS_WITHIN: Duration = Duration::from_secs(30);
/// How long the broker's address is looked up that operators are told.
const LOOK_UP_WITHIN: Duration = Duration::from_secs(2);
/// From the end of a connection to the next attempt: twice as long after each that came to nothing. The first one is soon, since
/// what devices say with QoS 0 before the broker is reached again is lost.
const RETRY: Duration = Duration::from_millis(200);
/// A connection that served for so long came to something.
const STEADY: Duration = Duration::from_secs(2);
const RETRY_AT_MOST: Duration = Duration::from_mins(1);
/// Log lines a second about devices that nobody has added.
const LINES_PER_SECOND: NonZeroU32 = NonZeroU32::new(5).unwrap();
/// And about messages that the broker does not take.
const REFUSALS_PER_MINUTE: NonZeroU32 = NonZeroU32::new(6).unwrap();

/// Why a connection is over.
enum End {
    Lost(String),
    /// The server stops, and has this told where it waits for it.
    Stopped(Option<oneshot::Sender<()>>),
}

struct Drive {
    setup: BrokerSetup,
    messages: mpsc::UnboundedReceiver<Message>,
    broker: Broker,
    tickets: Tickets,
    /// A clone goes with each event until the shard has taken it.
    events: Arc<()>,
    /// The broker's address, as far as it is known.
    peer: SocketAddr,
    /// Acknowledgements for which the connection's queue had no room.
    owed: VecDeque<NonZeroU16>,
    /// Until when the subscriptions are to be answered.
    granted_by: Option<Instant>,
    /// They were, over this connection.
    served_since: Option<Instant>,
    lines: DefaultDirectRateLimiter,
    refusals: DefaultDirectRateLimiter,
    share: Share,
    published_at: Instant,
}

pub(super) async fn run(setup: BrokerSetup, messages: mpsc::UnboundedReceiver<Message>) {
    let mut drive = Drive {
        broker: Broker::new(&setup.config, setup.seed),
        setup,
        messages,
        tickets: Tickets::default(),
        events: Arc::default(),
        peer: SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        owed: VecDeque::new(),
        granted_by: None,
        served_since: None,
        lines: RateLimiter::direct(Quota::per_second(LINES_PER_SECOND)),
        refusals: RateLimiter::direct(Quota::per_minute(REFUSALS_PER_MINUTE)),
        share: Share::default(),
        published_at: Instant::ZERO,
    };
    let mut wait = RETRY;
    for attempt in 0_usize.. {
        let addresses = &drive.setup.config.broker.addresses;
        let Some(address) = addresses.get(attempt % addresses.len().max(1)).cloned() else {
            return; // the settings name one
        };
        let end = drive.serve(&address).await;
        let now = drive.setup.clock.now().instant;
        let steady = (drive.served_since).is_some_and(|since| now.since(since) >= STEADY);
        drive.lose();
        let reason = match end {
            End::Stopped(ended) => return tell_end(ended),
            End::Lost(reason) => reason,
        };
        wait = if steady { RETRY } else { wait };
        tracing::warn!(
            broker = address,
            reason,
            retry_in_ms = wait.as_millis(),
            "the MQTT broker is not reached; its devices wait"
        );
        if let Some(End::Stopped(ended)) = drive.pause(wait).await {
            return tell_end(ended);
        }
        wait = (wait * 2).min(RETRY_AT_MOST);
    }
}

fn tell_end(ended: Option<oneshot::Sender<()>>) {
    if let Some(ended) = ended {
        let _ = ended.send(()); // nobody waits for it
    }
}

impl Drive {
    fn now(&self) -> Now {
        self.setup.clock.now()
    }

    /// Serves one connection from its beginning to its end.
    async fn serve(&mut self, address: &str) -> End {
        self.served_since = None;
        self.granted_by = None;
        let Some((host, port)) = address.rsplit_once(':') else {
            return End::Lost("it is no host:port".to_owned());
        };
        let Ok(port) = port.parse() else {
            return End::Lost("its port is none".to_owned());
        };
        // told to operators only: the library looks it up for itself
        let found = tokio::net::lookup_host(address);
        if let Ok(Ok(mut found)) = tokio::time::timeout(LOOK_UP_WITHIN, found).await
            && let Some(found) = found.next()
        {
            self.peer = found;
        }
        let tls = self.setup.tls.as_ref();
        let password = self.setup.password.as_deref();
        let mut client = Client::open(&self.setup.config, (host, port), tls, password);
        loop {
            let choked = self.tickets.are_many(&self.events, MAX_EVENTS);
            let wait = self.wait(choked);
            let ended = tokio::select! {
                message = self.messages.recv() => match message {
                    Some(Message::Stop(ended)) => Some(End::Stopped(Some(ended))),
                    Some(message) => {
                        self.take(message);
                        None
                    }
                    None => Some(End::Stopped(None)),
                },
                incoming = client.next(), if !choked => self.hear(incoming),
                () = tokio::time::sleep(wait) => None,
            };
            if let Some(End::Stopped(ended)) = ended {
                client.close().await;
                return End::Stopped(ended);
            }
            if let Some(end) = ended {
                return end;
            }
            let now = self.now();
            self.broker.handle_timeout(now);
            if let Some(end) = self.pump(Some(&client)) {
                return end;
            }
            if self.granted_by.is_some_and(|at| at <= now.instant) {
                return End::Lost("it does not answer to the subscriptions".to_owned());
            }
            self.publish_figures(now);
        }
    }

    /// How long nothing has to be done where nothing happens.
    fn wait(&self, choked: bool) -> Duration {
        let now = self.now().instant;
        let due = self.broker.poll_timeout();
        let most = if choked || !self.owed.is_empty() {
            CHOKED
        } else {
            IDLE
        };
        // a millisecond more, so that it is due then
        due.map_or(most, |at| at.since(now) + Duration::from_millis(1))
            .min(most)
    }

    /// Waits for the next attempt, unless the server stops.
    async fn pause(&mut self, wait: Duration) -> Option<End> {
        let until = self.now().instant + wait;
        loop {
            let now = self.now();
            self.publish_figures(now);
            let left = until.since(now.instant);
            if left.is_zero() {
                return None;
            }
            tokio::select! {
                message = self.messages.recv() => match message {
                    Some(Message::Stop(ended)) => return Some(End::Stopped(Some(ended))),
                    Some(message) => {
                        self.take(message);
                        self.pump(None);
                    }
                    None => return Some(End::Stopped(None)),
                },
                () = tokio::time::sleep(left.min(IDLE)) => {}
            }
        }
    }

    fn lose(&mut self) {
        self.owed.clear();
        self.granted_by = None;
        self.broker.disconnected();
        self.pump(None);
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Publish {
                device,
                downlink,
                payload,
                qos,
            } => {
                let identity = self.setup.identities.of(device);
                (self.broker).publish(device, identity.as_deref(), downlink, &payload, qos);
            }
            Message::Acknowledge(ack) => self.broker.acknowledge(ack),
            Message::Forget(device) => self.broker.forget(device),
            Message::Stop(_) => {} // whoever has taken it sees to that
        }
    }

    fn hear(&mut self, incoming: Incoming) -> Option<End> {
        match incoming {
            Incoming::Connected => {
                self.granted_by = Some(self.now().instant + GRANTS_WITHIN);
                self.broker.connected();
            }
            Incoming::Granted(granted) => {
                self.granted_by = None;
                if self.broker.granted(&granted) {
                    self.served_since = Some(self.now().instant);
                    tracing::info!(broker = %self.peer, "the MQTT broker is reached");
                } else if granted.contains(&true) {
                    self.served_since = Some(self.now().instant);
                    tracing::error!(
                        broker = %self.peer,
                        "the MQTT broker refuses some subscriptions: permit them to this client, or take the kind of devices out of mqtt.broker.styles"
                    );
                } else {
                    return Some(End::Lost(
                        "it refuses the subscriptions: permit them to this client".to_owned(),
                    ));
                }
            }
            Incoming::Message(message) => {
                let now = self.now();
                let publication = Publication {
                    topic: &message.topic,
                    payload: message.payload,
                    retained: message.retained,
                    packet_id: message.packet_id,
                };
                let identities = &self.setup.identities;
                (self.broker).message(now, publication, |named| identities.named(named));
            }
            Incoming::Refused(reason) => {
                self.broker.refused();
                if self.refusals.check().is_ok() {
                    tracing::error!(
                        broker = %self.peer,
                        reason,
                        "the MQTT broker does not take a message to a device: permit this client to publish where devices are told something"
                    );
                }
            }
            Incoming::Over(reason) => return Some(End::Lost(reason)),
        }
        None
    }

    /// Does what follows from what was taken.
    fn pump(&mut self, client: Option<&Client>) -> Option<End> {
        let mut end = None;
        while let Some(packet_id) = self.owed.front().copied() {
            if client.is_none_or(|client| client.acknowledge(packet_id).is_err()) {
                break;
            }
            self.owed.pop_front();
        }
        while let Some(output) = self.broker.poll_output() {
            match output {
                Output::Subscribe(filters) => {
                    let asked = client.map(|client| client.subscribe(filters));
                    if let Some(Err(Full)) = asked {
                        end = Some(End::Lost("its queue is full".to_owned()));
                    }
                }
                Output::Publish {
                    device,
                    downlink,
                    topic,
                    payload,
                    qos,
                } => {
                    let sent = client.map(|client| client.publish(topic, payload, qos));
                    match sent {
                        Some(Ok(())) => {}
                        Some(Err(Full)) => {
                            (self.broker).unsent(device, downlink, PublishError::QueueFull);
                        }
                        None => {
                            (self.broker).unsent(device, downlink, PublishError::NotConnected);
                        }
                    }
                }
                Output::Acknowledge(packet_id) => {
                    // in their order
                    let waits = !self.owed.is_empty();
                    if let Some(client) = client
                        && (waits || client.acknowledge(packet_id).is_err())
                    {
                        self.owed.push_back(packet_id);
                    }
                }
                Output::Event(event) => self.tell(event),
                Output::Reached => (self.setup.sink)(MqttNews::BrokerReached),
                Output::Unsent {
                    device,
                    downlink,
                    error,
                } => (self.setup.sink)(MqttNews::Unsent {
                    device,
                    downlink,
                    error,
                }),
                Output::Unknown(name) => self.unknown(&name),
                Output::End(reason) => end = Some(End::Lost(reason.to_owned())),
            }
        }
        end
    }

    fn tell(&mut self, event: Event) {
        let bytes = match &event {
            Event::Message { payload, .. } => payload.len(),
            _ => 0,
        };
        let ticket = self.tickets.take(self.events.clone(), bytes);
        (self.setup.sink)(MqttNews::Event(event, ticket));
    }

    fn unknown(&self, name: &str) {
        let peer = self.peer;
        let refusal = Refusal::UnknownMqttDevice;
        (self.setup.strangers).refused(name.as_bytes(), refusal, peer);
        if self.lines.check().is_ok() {
            let name: String = name.chars().take(strangers::MAX_NAME_LEN).collect();
            let name = name.escape_default();
            tracing::warn!(broker = %peer, %name, "a message over the MQTT broker was dropped: there is no such device that speaks MQTT; add it");
        }
    }

    /// Publishes figures once a second.
    fn publish_figures(&mut self, now: Now) {
        if now.instant.since(self.published_at) < IDLE {
            return;
        }
        self.published_at = now.instant;
        let mut figures: Figures<'_> = self.setup.metrics.of(&mut self.share);
        for (name, help, value) in self.broker.counts().each() {
            figures.counter(name, help, value);
        }
        let gauges = [
            (
                "mqtt_broker_connected",
                "Whether the MQTT broker is connected: 1 or 0.",
                usize::from(self.broker.is_connected()),
            ),
            (
                "mqtt_broker_devices",
                "Devices that were heard lately over the MQTT broker.",
                self.broker.devices(),
            ),
            (
                "mqtt_broker_messages_unsettled",
                "Messages of the MQTT broker that are not acknowledged.",
                self.broker.unsettled(),
            ),
        ];
        for (name, help, value) in gauges {
            figures.gauge(name, help, value);
        }
    }
}
