//! Addresses in settings.

use std::net::SocketAddr;

use serde::{Deserialize, Deserializer, de::Error};

/// Reads an address, and says what one looks like where there is none.
pub(super) fn read<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    String::deserialize(deserializer)?
        .parse()
        .map_err(|_| D::Error::custom("expected ADDRESS:PORT, such as 0.0.0.0:5683"))
}
