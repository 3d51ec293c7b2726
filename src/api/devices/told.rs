//! What is told of devices that were to be added.

use crate::{
    ledger::Protocol,
    store::{AddedDevice, NewDevice},
};

/// What devices are called: their endpoint names, and the identities of their keys.
pub(super) fn names(devices: &[NewDevice]) -> impl Iterator<Item = &str> {
    devices.iter().flat_map(|device| {
        let identity = device.psk.as_ref().map(|psk| &*psk.identity);
        identity.into_iter().chain([&*device.endpoint])
    })
}

/// It is there with another product.
pub(super) fn other_product(endpoint: &str, product: &str) -> String {
    format!(
        "device {endpoint} is there with product {product:?}; change its product with PATCH, or delete it first"
    )
}

/// Another device has the identity of its key.
pub(super) fn identity_taken(identity: &str, holder: &str) -> String {
    format!("device {holder} has the identity {identity:?} already; each needs one of its own")
}

/// Another device has its token.
pub(super) fn token_taken(holder: &str) -> String {
    format!("device {holder} has the token already; each needs one of its own")
}

/// It is there and speaks something else.
pub(super) fn other_protocol(endpoint: &str, protocol: Protocol) -> String {
    format!(
        "device {endpoint} is there and speaks {}; change that with PATCH, or delete it first",
        protocol.name()
    )
}

/// Why a device was left alone, and the field that it is about; none when it is about the whole device.
pub(super) fn refusal(endpoint: &str, added: &AddedDevice) -> Option<(&'static str, String)> {
    match added {
        AddedDevice::Added
        | AddedDevice::Unchanged
        | AddedDevice::Updated
        | AddedDevice::KeySet => None,
        AddedDevice::IdentityTaken { identity, endpoint } => {
            Some(("psk", identity_taken(identity, endpoint)))
        }
        AddedDevice::TokenTaken(endpoint) => Some(("mqtt", token_taken(endpoint))),
        AddedDevice::OtherProtocol(protocol) => Some(("mqtt", other_protocol(endpoint, *protocol))),
        AddedDevice::OtherProduct(product) => Some(("", other_product(endpoint, product))),
        AddedDevice::Attributes(error) => Some(("tags", error.to_string())),
    }
}
