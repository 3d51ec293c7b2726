//! What records are sealed with, out of a handshake's secret (RFC 5246 §6.3).

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// How a suite seals records. All have AES-128, and SHA-256 for whatever is hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Suite {
    /// CCM with tags of 8 bytes (RFC 6655).
    Ccm8,
    /// GCM (RFC 5288).
    Gcm,
    /// CBC under HMAC-SHA-256 (RFC 5487).
    Cbc,
}

impl Suite {
    /// By OpenSSL's name of it.
    pub(super) fn named(name: &str) -> Option<Self> {
        match name {
            "PSK-AES128-CCM8" | "ECDHE-ECDSA-AES128-CCM8" => Some(Self::Ccm8),
            "PSK-AES128-GCM-SHA256" | "ECDHE-ECDSA-AES128-GCM-SHA256" => Some(Self::Gcm),
            "PSK-AES128-CBC-SHA256" => Some(Self::Cbc),
            _ => None,
        }
    }
}

/// The keys of one direction.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) cipher: [u8; 16],
    /// The fixed part of nonces; none with CBC.
    pub(super) salt: [u8; 4],
    /// CBC has one.
    pub(super) mac: Option<Box<[u8; 32]>>,
}

/// The keys of an association.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Keys {
    pub(super) suite: Suite,
    pub(super) client: Key,
    pub(super) server: Key,
}

impl Keys {
    pub(super) fn derive(
        suite: Suite,
        master: &[u8; 48],
        client_random: &[u8; 32],
        server_random: &[u8; 32],
    ) -> Self {
        let mut block = [0; 128];
        let seed = [b"key expansion", &server_random[..], client_random];
        expand(master, &seed, &mut block);
        let mut rest = &block[..];
        let macs = (suite == Suite::Cbc).then(|| (take::<32>(&mut rest), take::<32>(&mut rest)));
        let (client_mac, server_mac) = macs.unzip();
        let ciphers = [take::<16>(&mut rest), take::<16>(&mut rest)];
        let salts = match suite {
            Suite::Cbc => [[0; 4]; 2],
            Suite::Ccm8 | Suite::Gcm => [take::<4>(&mut rest), take::<4>(&mut rest)],
        };
        let key = |at: usize, mac: Option<[u8; 32]>| Key {
            cipher: ciphers[at],
            salt: salts[at],
            mac: mac.map(Box::new),
        };
        Self {
            suite,
            client: key(0, client_mac),
            server: key(1, server_mac),
        }
    }
}

/// The block is longer than all that is taken from it.
fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
    let Some((first, after)) = rest.split_first_chunk() else {
        return [0; N];
    };
    *rest = after;
    *first
}

/// `P_SHA256` (RFC 5246 §5), to fill `output`.
fn expand(secret: &[u8; 48], seed: &[&[u8]], output: &mut [u8]) {
    // HMAC fills a key up to a block with zeros (RFC 2104 §2).
    let mut block = [0; 64];
    block[..48].copy_from_slice(secret);
    let mac = |first: &[u8], rest: &[&[u8]]| -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new(&block.into());
        mac.update(first);
        for part in rest {
            mac.update(part);
        }
        mac.finalize().into_bytes().into()
    };
    let mut link = mac(&[], seed);
    for place in output.chunks_mut(32) {
        place.copy_from_slice(&mac(&link, seed)[..place.len()]);
        link = mac(&link, &[]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector that the TLS working group's list has for `P_SHA256`: its secret and seed are shorter than ours, so
    /// the secret is filled up as HMAC does.
    #[test]
    fn the_pseudorandom_function_is_that_of_tls() {
        let mut secret = [0; 48];
        secret[..16].copy_from_slice(&hex::decode("9bbe436ba940f017b17652849a71db35").unwrap());
        let seed = hex::decode("a0ba9f936cda311827a6f796ffd5198c").unwrap();
        let mut output = [0; 100];
        expand(&secret, &[b"test label", &seed], &mut output);
        let expected = "e3f229ba727be17b8d122620557cd453c2aab21d07c3d495329b52d4e61edb5a\
                        6b301791e90d35c9c9a46b4e14baf9af0fa022f7077def17abfd3797c0564bab\
                        4fbc91666e9def9b97fce34f796789baa48082d122ee42c5a72e5a5110fff701\
                        87347b66";
        assert_eq!(hex::encode(output), expected);
    }

    #[test]
    fn only_suites_of_the_server_have_keys() {
        assert_eq!(Suite::named("PSK-AES128-CCM8"), Some(Suite::Ccm8));
        assert_eq!(Suite::named("PSK-AES256-GCM-SHA384"), None);
    }
}
