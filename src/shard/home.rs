//! Which shard hears which address.

use std::net::{IpAddr, SocketAddr};

use crate::{
    engine::ShardId,
    ledger::{DeviceId, DeviceRecord},
};

/// Spreads what differs in the lowest bits over the highest (Knuth's multiplicative hash).
pub const SPREAD: u32 = 0x9E37_79B1;
/// The higher half of the product is the better one.
pub const SHIFT: u32 = 16;

/// The shard, out of `shards`, that hears what comes from `peer`. Whoever steers datagrams computes the same.
pub fn home(peer: SocketAddr, shards: u8) -> ShardId {
    let port = u32::from(peer.port());
    let sum = match peer.ip().to_canonical() {
        IpAddr::V4(ip) => ip.to_bits().wrapping_add(port),
        IpAddr::V6(ip) => (ip.octets().chunks_exact(4)).fold(port, |sum, word| {
            let word = word.try_into().unwrap_or_default(); // four bytes each
            sum.wrapping_add(u32::from_be_bytes(word))
        }),
    };
    let chosen = (sum.wrapping_mul(SPREAD) >> SHIFT) % u32::from(shards.max(1));
    ShardId(u8::try_from(chosen).unwrap_or(0)) // less than `shards`
}

/// The shard, out of `shards`, that will hear a device from before a restart; for one that is not registered, any.
pub fn home_of(id: DeviceId, device: &DeviceRecord, shards: u8) -> ShardId {
    match &device.registration {
        Some(registration) => home(registration.peer.address, shards),
        None => ShardId::by_chance(id, shards),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_spread_evenly() {
        let mut seen = [0; 8];
        for device in 0..80_000u32 {
            let ip = std::net::Ipv4Addr::from_bits(0x0a00_0000 + device / 4);
            let port = 10_000 + u16::try_from(device % 4).unwrap();
            seen[home(SocketAddr::from((ip, port)), 8).index()] += 1;
        }
        assert!(seen.iter().all(|n| (9_000..11_000).contains(n)), "{seen:?}");
    }
}
