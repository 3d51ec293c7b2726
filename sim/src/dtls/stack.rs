//! What there is to know about `dimpl`.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use dimpl::{
    Config, Dtls, Output, PskResolver,
    crypto::{CryptoProvider, SupportedDtls12CipherSuite, rust_crypto},
};

use crate::{
    psk::{Key, Psk},
    spec::Timing,
};

/// Longer than every record that a device gets.
const RECORD_LEN: usize = 2048;

/// The suites with pre-shared keys.
///
/// Each configuration tests all cryptography that it could use, elliptic curves included, which takes
/// many times as long as a handshake. With nothing but these suites it takes no time worth mentioning.
static PSK_SUITES: LazyLock<Box<[&'static dyn SupportedDtls12CipherSuite]>> = LazyLock::new(|| {
    rust_crypto::default_provider()
        .supported_cipher_suites()
        .filter(|suite| suite.suite().is_psk())
        .collect()
});

struct OneKey(Key);

impl PskResolver for OneKey {
    fn resolve(&self, _identity: &[u8]) -> Option<Vec<u8>> {
        Some(self.0.bytes().to_vec())
    }
}

/// Makes the clients of one device, and drives them.
pub(super) struct Stack {
    config: Arc<Config>,
    epoch: Instant,
}

/// What came of driving a client.
#[derive(Debug)]
pub(super) struct Progress {
    /// The handshake is done.
    pub(super) connected: bool,
    /// Something came over the association.
    pub(super) heard: bool,
    /// The server closed the association.
    pub(super) ended: bool,
    pub(super) deadline_ms: u64,
}

impl Stack {
    pub(super) fn new(psk: &Psk, timing: &Timing, epoch: Instant) -> Result<Self, dimpl::Error> {
        let provider = CryptoProvider {
            cipher_suites: &PSK_SUITES,
            kx_groups: &[],
            ..rust_crypto::default_provider()
        };
        let first = Duration::from_millis(timing.handshake_timeout_ms.max(1));
        let retransmits = timing.handshake_retransmits.min(16);
        let config = Config::builder()
            .with_crypto_provider(provider)
            .dtls13_cipher_suites(&[])
            .with_psk_client(
                psk.identity.clone().into_bytes(),
                Arc::new(OneKey(psk.key.clone())),
            )
            .flight_start_rto(first)
            .flight_retries(retransmits.into())
            // Three flights, each until its repeats are over; jitter makes them up to a quarter longer.
            .handshake_timeout(first.saturating_mul(4 << (retransmits + 1)))
            .build()?;
        Ok(Self {
            config: Arc::new(config),
            epoch,
        })
    }

    pub(super) fn instant(&self, now_ms: u64) -> Instant {
        self.epoch + Duration::from_millis(now_ms)
    }

    /// A client that has said hello.
    pub(super) fn client(&self, now_ms: u64) -> Result<Dtls, dimpl::Error> {
        let at = self.instant(now_ms);
        let mut client = Dtls::new_12_psk(Arc::clone(&self.config), at);
        client.set_active(true);
        client.handle_timeout(at)?;
        Ok(client)
    }

    /// Takes everything that the client has to say, until it waits for something.
    pub(super) fn drain(
        &self,
        client: &mut Dtls,
        out: &mut VecDeque<Vec<u8>>,
        received: &mut VecDeque<Vec<u8>>,
        now_ms: u64,
    ) -> Progress {
        let mut progress = Progress {
            connected: false,
            heard: false,
            ended: false,
            deadline_ms: now_ms,
        };
        let mut buf = vec![0; RECORD_LEN];
        loop {
            match client.poll_output(&mut buf) {
                Output::Packet(datagram) => out.push_back(datagram.to_vec()),
                Output::ApplicationData(data) => {
                    progress.heard = true;
                    received.push_back(data.to_vec());
                }
                Output::Connected => progress.connected = true,
                Output::CloseNotify => progress.ended = true,
                Output::BufferTooSmall { needed } => buf.resize(needed, 0),
                Output::Timeout(at) => {
                    // Rounded up, so that the time has come when the timer says so.
                    let nanos = at.saturating_duration_since(self.epoch).as_nanos();
                    progress.deadline_ms =
                        u64::try_from(nanos.div_ceil(1_000_000)).unwrap_or(u64::MAX);
                    return progress;
                }
                // There are no certificates and no media here.
                _ => {}
            }
        }
    }
}

impl fmt::Debug for Stack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stack").finish_non_exhaustive()
    }
}
