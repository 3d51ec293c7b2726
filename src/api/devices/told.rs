//! What is told of devices that were to be added.

use crate::{
    access::Scope,
    api::{ApiState, scoped::Seen},
    ledger::Protocol,
    store::{AddedDevice, NewDevice, StoreError},
    tenant,
};

/// What devices are called: their endpoint names, and the identities of their keys.
pub(super) fn names(devices: &[NewDevice]) -> impl Iterator<Item = &str> {
    devices.iter().flat_map(|device| {
        let identity = device.psk.as_ref().map(|psk| &*psk.identity);
        identity.into_iter().chain([&*device.endpoint])
    })
}

/// It is there with another product, whose key this is; an empty one is of a device that is not there for the caller.
pub(super) fn other_product(endpoint: &str, product: &str) -> String {
    if product.is_empty() {
        return format!(
            "the endpoint name {endpoint} is taken; no two devices have the same, whosesoever they are"
        );
    }
    let owner = tenant::told(product).map(|owner| format!(" of tenant {owner}"));
    format!(
        "device {endpoint} is there with product {:?}{}; change its product with PATCH, or delete it first",
        tenant::product_name(product),
        owner.unwrap_or_default()
    )
}

/// Another device has the identity of its key; an empty name is of one that is not there for the caller.
pub(super) fn identity_taken(identity: &str, holder: &str) -> String {
    if holder.is_empty() {
        return format!("the identity {identity:?} is taken; each device needs one of its own");
    }
    format!("device {holder} has the identity {identity:?} already; each needs one of its own")
}

/// Another device has its token; an empty name is of one that is not there for the caller.
pub(super) fn token_taken(holder: &str) -> String {
    if holder.is_empty() {
        return "the token is taken; each device needs one of its own".to_owned();
    }
    format!("device {holder} has the token already; each needs one of its own")
}

/// It is there and speaks something else.
pub(super) fn other_protocol(endpoint: &str, protocol: Protocol) -> String {
    format!(
        "device {endpoint} is there and speaks {}; change that with PATCH, or delete it first",
        protocol.name()
    )
}

/// Leaves out of the answers what they tell of devices that are not there for the caller.
pub(super) async fn hide_others(
    state: &ApiState,
    scope: &Scope,
    answers: &mut [AddedDevice],
) -> Result<(), StoreError> {
    if *scope == Scope::Whole {
        return Ok(());
    }
    let holders: Vec<String> = answers
        .iter()
        .filter_map(|answer| match answer {
            AddedDevice::IdentityTaken { endpoint, .. } | AddedDevice::TokenTaken(endpoint) => {
                Some(endpoint.clone())
            }
            _ => None,
        })
        .collect();
    let seen = Seen::of(state, scope, holders.iter().map(String::as_str)).await?;
    for answer in answers {
        match answer {
            AddedDevice::IdentityTaken { endpoint, .. } | AddedDevice::TokenTaken(endpoint)
                if !seen.has(endpoint) =>
            {
                endpoint.clear();
            }
            AddedDevice::OtherProduct(product) if !scope.has(tenant::owner(product)) => {
                product.clear();
            }
            _ => {}
        }
    }
    Ok(())
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
        AddedDevice::Via(error) => Some(("via", error.to_string())),
        AddedDevice::Attributes(error) => Some(("tags", error.to_string())),
    }
}
