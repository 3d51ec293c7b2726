//! The stateless cookie exchange (RFC 6347 §4.2.1), done before the TLS library sees anything.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;

use super::record::ClientHello;
use crate::clock::Instant;

/// HMAC-SHA-256 of `parts` under `key`; each part comes with its length.
pub(super) fn mac(key: &[u8; 32], parts: &[&[u8]]) -> [u8; 32] {
    // HMAC fills a key up to a block with zeros (RFC 2104 §2).
    let mut block = [0; 64];
    block[..32].copy_from_slice(key);
    let mut mac = Hmac::<Sha256>::new(&block.into());
    for part in parts {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac.finalize().into_bytes().into()
}

/// A cookie: half of an HMAC-SHA-256, because every byte costs the radio and small stacks take 16.
pub(super) type Cookie = [u8; 16];

/// Makes cookies and knows them again.
///
/// A cookie is bound to the peer's address and port, to the `ClientHello`'s random, and to a period of
/// time: it is good for the period of its making and the one after. RFC 6347 has the client repeat its
/// random. Nothing is remembered of a cookie that was shown, so it may begin more than one handshake:
/// those are rationed on their own.
#[derive(Debug, Clone)]
pub(super) struct Cookies {
    key: [u8; 32],
    period: Duration,
}

impl Cookies {
    pub(super) fn new(key: [u8; 32], period: Duration) -> Self {
        Self { key, period }
    }

    /// The cookies of this period and of the one before, in this order.
    pub(super) fn expected(
        &self,
        now: Instant,
        peer: SocketAddr,
        hello: &ClientHello<'_>,
    ) -> [Cookie; 2] {
        let length = u64::try_from(self.period.as_millis()).unwrap_or(u64::MAX);
        let period = now.as_millis() / length.max(1);
        [period, period.saturating_sub(1)].map(|period| {
            let whole = match peer.ip().to_canonical() {
                IpAddr::V4(ip) => self.mac(period, &ip.octets(), peer.port(), hello),
                IpAddr::V6(ip) => self.mac(period, &ip.octets(), peer.port(), hello),
            };
            // the first half of 32 bytes
            std::array::from_fn(|at| whole[at])
        })
    }

    fn mac(&self, period: u64, ip: &[u8], port: u16, hello: &ClientHello<'_>) -> [u8; 32] {
        let parts: [&[u8]; 4] = [
            &period.to_be_bytes(),
            ip,
            &port.to_be_bytes(),
            &hello.random,
        ];
        mac(&self.key, &parts)
    }
}

/// Whether `cookie` is one of the expected ones, in a time that does not tell how much of it is.
pub(super) fn is_expected(expected: &[Cookie; 2], cookie: &[u8]) -> bool {
    let [current, previous] = expected.map(|expected| expected.ct_eq(cookie));
    (current | previous).into()
}

/// The `HelloVerifyRequest` that answers `hello`: 44 bytes, fewer than any `ClientHello` has.
///
/// It repeats the number of the `ClientHello`'s record, and names DTLS 1.0 whatever will be negotiated
/// (RFC 6347 §4.2.1).
pub(super) fn hello_verify_request(hello: &ClientHello<'_>, cookie: Cookie) -> Vec<u8> {
    const VERSION: [u8; 2] = [0xfe, 0xff];
    const BODY_LEN: u8 = 2 + 1 + 16;
    let mut bytes = Vec::with_capacity(13 + 12 + usize::from(BODY_LEN));
    bytes.push(22);
    bytes.extend(VERSION);
    bytes.extend([0, 0]); // epoch
    bytes.extend(hello.sequence);
    bytes.extend([0, 12 + BODY_LEN]);
    // type, length, message number, offset and length of the fragment
    bytes.extend([3, 0, 0, BODY_LEN, 0, 0, 0, 0, 0, 0, 0, BODY_LEN]);
    bytes.extend(VERSION);
    bytes.push(16);
    bytes.extend(cookie);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Instant = Instant::from_millis(1_000_000);

    fn hello(random: u8) -> ClientHello<'static> {
        ClientHello {
            sequence: [0; 6],
            random: [random; 32],
            cookie: &[],
        }
    }

    #[test]
    fn a_cookie_is_good_for_one_address_one_hello_and_two_periods() {
        let period = Duration::from_mins(1);
        let cookies = Cookies::new([1; 32], period);
        let peer: SocketAddr = "192.0.2.1:5000".parse().unwrap();
        let [cookie, _] = cookies.expected(NOW, peer, &hello(1));
        let good =
            |now, peer, random| is_expected(&cookies.expected(now, peer, &hello(random)), &cookie);
        assert!(good(NOW, peer, 1));
        assert!(good(NOW, "[::ffff:192.0.2.1]:5000".parse().unwrap(), 1));
        assert!(good(NOW + period, peer, 1));
        assert!(!good(NOW + 2 * period, peer, 1));
        assert!(!good(NOW, peer, 2));
        assert!(!good(NOW, "192.0.2.1:5001".parse().unwrap(), 1));
        assert!(!good(NOW, "192.0.2.2:5000".parse().unwrap(), 1));
        assert!(!is_expected(
            &cookies.expected(NOW, peer, &hello(1)),
            &cookie[..15]
        ));
        assert!(!is_expected(&cookies.expected(NOW, peer, &hello(1)), b""));
    }
}
