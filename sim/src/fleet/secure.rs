//! DTLS between a device and its socket.

use std::sync::atomic::{AtomicU64, Ordering};

use tokio::time::Instant;

use super::{FleetError, stats::DtlsStats};
use crate::{
    coap::{Message, MessageType},
    device::{Device, Port},
    dtls::{DtlsCounters, DtlsLink},
    spec::DeviceSpec,
};

/// The link of a device that has a key.
#[derive(Debug)]
pub(super) struct SecureLink {
    link: DtlsLink,
    /// What has been told already.
    told: DtlsCounters,
}

impl SecureLink {
    pub(super) fn of(spec: &DeviceSpec, started: Instant) -> Result<Option<Self>, FleetError> {
        let Some(psk) = spec.uses_psk() else {
            return Ok(None);
        };
        let link = DtlsLink::new(&psk, spec.timing, started.into_std(), spec.seed);
        let link = link.map_err(|source| FleetError::Dtls {
            endpoint: spec.endpoint.clone(),
            source,
        })?;
        let told = DtlsCounters::default();
        Ok(Some(Self { link, told }))
    }

    /// See [`DtlsLink::forget`].
    pub(super) fn forget(&mut self) {
        self.link.forget();
    }

    pub(super) const fn poll_timeout(&self) -> Option<u64> {
        self.link.poll_timeout()
    }

    /// Takes what the device sends, and returns what the socket is to send.
    pub(super) fn send_all(
        &mut self,
        now_ms: u64,
        datagrams: impl Iterator<Item = Vec<u8>>,
    ) -> Vec<Vec<u8>> {
        self.link.handle_timeout(now_ms);
        for datagram in datagrams {
            let asks = asks(&datagram);
            self.link.send(now_ms, datagram, asks);
        }
        std::iter::from_fn(|| self.link.poll_transmit()).collect()
    }

    /// Hands the device what came, unless it does not hear it. It does not go to sleep over a handshake.
    pub(super) fn receive(
        &mut self,
        device: &mut Device,
        now_ms: u64,
        port: Port,
        datagram: &[u8],
    ) {
        let hears = device.is_listening() || !self.link.is_established();
        if device.is_off() || !hears {
            device.handle_datagram_at(now_ms, port, datagram); // which counts it as missed
            return;
        }
        self.link.handle_datagram(now_ms, datagram);
        while let Some(datagram) = self.link.poll_received() {
            device.handle_datagram_at(now_ms, port, &datagram);
        }
    }

    /// What was counted since the last call.
    pub(super) const fn counted(&mut self) -> DtlsCounters {
        let now = self.link.counters();
        let before = self.told;
        self.told = now;
        DtlsCounters {
            handshakes: now.handshakes - before.handshakes,
            failed: now.failed - before.failed,
            forgotten: now.forgotten - before.forgotten,
            ended: now.ended - before.ended,
        }
    }
}

/// Whether the server has to react: it acknowledges what is confirmable, and has to act on what is not. To
/// acknowledgements and resets it says nothing.
fn asks(datagram: &[u8]) -> bool {
    Message::parse(datagram).is_ok_and(|message| {
        matches!(
            message.message_type,
            MessageType::Confirmable | MessageType::NonConfirmable
        )
    })
}

/// The sums over a fleet.
#[derive(Debug)]
pub(super) struct DtlsTotals {
    handshakes: AtomicU64,
    failed: AtomicU64,
    forgotten: AtomicU64,
    ended: AtomicU64,
}

impl DtlsTotals {
    pub(super) const fn new() -> Self {
        Self {
            handshakes: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            forgotten: AtomicU64::new(0),
            ended: AtomicU64::new(0),
        }
    }

    pub(super) fn add(&self, counted: DtlsCounters) {
        for (total, count) in [
            (&self.handshakes, counted.handshakes),
            (&self.failed, counted.failed),
            (&self.forgotten, counted.forgotten),
            (&self.ended, counted.ended),
        ] {
            if count > 0 {
                total.fetch_add(count, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn read(&self) -> DtlsStats {
        DtlsStats {
            handshakes: self.handshakes.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            forgotten: self.forgotten.load(Ordering::Relaxed),
            ended: self.ended.load(Ordering::Relaxed),
        }
    }
}
