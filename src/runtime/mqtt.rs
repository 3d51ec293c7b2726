//! The MQTT server's sockets. One thread serves all connections, with an event queue and without a task for each: an idle
//! connection costs its rows in two tables. TLS handshakes are led on a thread of their own (`door`), so that a crowd of
//! them holds nobody up who is connected.

mod door;
mod identities;
mod socket;
mod thread;
mod ticket;

pub use identities::{MqttIdentities, SealedMqtt};
pub use socket::TlsBegin;
pub use ticket::Ticket;
pub(super) use ticket::Tickets;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    time::Duration,
};

use bytes::Bytes;
use mio::Waker;
use tokio::sync::oneshot;

use crate::{
    clock::SystemClock,
    ledger::DeviceId,
    mqtt::endpoint::{Ack, Downlink, Ending, Event, Limits, PublishError, Qos},
    strangers::Strangers,
    telemetry::Metrics,
};
use door::Greeted;

/// What happened at the MQTT server.
#[derive(Debug)]
pub enum MqttNews {
    /// This. The ticket is given back, by dropping it, once it was taken.
    Event(Event, Ticket),
    /// A message was not sent.
    Unsent {
        /// To whom.
        device: DeviceId,
        /// What it was.
        downlink: Downlink,
        /// Why.
        error: PublishError,
    },
    /// The broker whose client this server is can be reached again.
    BrokerReached,
}

/// Is told what happens, on the server's thread: it must not wait for anything.
pub type MqttSink = Box<dyn FnMut(MqttNews) + Send>;

/// What the MQTT server is started with.
pub struct MqttSetup {
    /// Listens for devices that do not encrypt.
    pub tcp: Option<TcpListener>,
    /// Listens for devices that do, and how their connections begin.
    pub tls: Option<(TcpListener, TlsBegin)>,
    /// What is bounded.
    pub limits: Limits,
    /// Bytes that wait to be taken by one device.
    pub backlog_bytes: usize,
    /// Not known to strangers.
    pub seed: u64,
    /// Who may connect.
    pub identities: Arc<MqttIdentities>,
    /// Is told what happens. Without one, messages are acknowledged and dropped.
    pub sink: Option<MqttSink>,
    /// The clock.
    pub clock: SystemClock,
    /// Told who was refused.
    pub strangers: Arc<Strangers>,
    /// Where figures are published.
    pub metrics: Arc<Metrics>,
}

/// What the server's thread is told.
enum Message {
    Publish {
        device: DeviceId,
        downlink: Downlink,
        payload: Bytes,
        qos: Qos,
    },
    Acknowledge(Ack),
    Hold(DeviceId, bool),
    Kick(DeviceId, Ending),
    Greeted(Box<Greeted>),
    Stop(oneshot::Sender<()>),
}

/// Reaches the MQTT server. Clones are one.
#[derive(Clone)]
pub struct MqttServer {
    messages: mpsc::Sender<Message>,
    waker: Arc<Waker>,
    /// It was woken, and has not looked yet.
    woken: Arc<AtomicBool>,
    door: Option<Arc<door::Door>>,
}

impl MqttServer {
    /// Starts the server's threads.
    ///
    /// # Errors
    /// The system gives no thread or no event queue.
    pub fn start(setup: MqttSetup) -> io::Result<Self> {
        thread::start(setup)
    }

    /// Sends a message to a device. Whether that was possible is told to the sink.
    pub fn publish(&self, device: DeviceId, downlink: Downlink, payload: Bytes, qos: Qos) {
        self.tell(Message::Publish {
            device,
            downlink,
            payload,
            qos,
        });
    }

    /// What follows from a message is settled: the device may forget it.
    pub fn acknowledge(&self, ack: Ack) {
        self.tell(Message::Acknowledge(ack));
    }

    /// A device downloads, or does so no more: its keep-alive is not enforced meanwhile.
    pub fn hold(&self, device: DeviceId, held: bool) {
        self.tell(Message::Hold(device, held));
    }

    /// Ends the connection of a device.
    pub fn kick(&self, device: DeviceId, why: Ending) {
        self.tell(Message::Kick(device, why));
    }

    /// Ends all connections. Returns when that is done.
    pub async fn stop(&self) {
        if let Some(door) = &self.door {
            door.stop();
        }
        let (ended, has_ended) = oneshot::channel();
        self.tell(Message::Stop(ended));
        let _ = has_ended.await; // it has ended
    }

    fn tell(&self, message: Message) {
        // a server that has ended is told nothing more
        if self.messages.send(message).is_ok() && !self.woken.swap(true, Ordering::AcqRel) {
            let _ = self.waker.wake(); // an event queue that is there can be woken
        }
    }
}

/// Listens on an address. A server that is started anew gets the port that its predecessor had.
///
/// # Errors
/// The system's answer.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    use nix::sys::socket::{
        AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt,
        socket, sockopt,
    };
    const WAITING: i32 = 4_096;
    let family = if address.is_ipv4() {
        AddressFamily::Inet
    } else {
        AddressFamily::Inet6
    };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(family, SockType::Stream, flags, None)?;
    setsockopt(&fd, sockopt::ReuseAddr, &true)?;
    bind(
        std::os::fd::AsRawFd::as_raw_fd(&fd),
        &SockaddrStorage::from(address),
    )?;
    // the default of 128 is what a fleet that comes back fills at once
    listen(&fd, Backlog::new(WAITING)?)?;
    Ok(TcpListener::from(fd))
}

/// How long a thread waits for events at the most: figures are published that often.
const IDLE: Duration = Duration::from_secs(1);

/// Dropped when a thread of the server, or the client of a broker, has failed: nobody would hear the devices. Whoever looks after the
/// server starts it again, and it goes on where it was.
pub(super) struct EndsTheServer;

impl Drop for EndsTheServer {
    fn drop(&mut self) {
        tracing::error!("what speaks MQTT has failed; the server ends, to be started again");
        std::process::abort();
    }
}

#[cfg(test)]
mod tests;
