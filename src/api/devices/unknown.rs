//! `GET /v1/devices/unknown`.

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::{
    ToSchema,
    openapi::{Object, ObjectBuilder, schema::Type},
};

use crate::{
    api::ApiState,
    strangers::{Refusal, Stranger},
};

fn refusal() -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some(
            "`unknown_endpoint`: nobody added the endpoint. `unknown_identity`: no device has the identity of a \
             pre-shared key. `wrong_key`: a device has the identity, with another key. `not_encrypted`: the device has \
             to encrypt, and was heard where nothing is encrypted. `impostor`: whoever acted as the endpoint has shown \
             to be another. `unknown_mqtt_device`: nobody added a device of that name, or with that token, that speaks MQTT. \
             `wrong_mqtt_credential`: its password, its certificate, or the form of its client ID is not the device's. \
             `stale_mqtt_stamp`: the device's clock is more than an hour off. `others_child`: a gateway spoke for the device, \
             which is not reached through it.",
        ))
        .enum_values(Some(Refusal::ALL.map(Refusal::name)))
        .build()
}

/// Who was refused lately.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct UnknownBody {
    /// The newest 100, the one that was refused last first.
    #[schema(max_items = 100)]
    items: Vec<StrangerBody>,
}

/// Somebody who was refused.
#[derive(Debug, Serialize, ToSchema)]
struct StrangerBody {
    /// The endpoint name or the identity that was given. What is not printable ASCII, and the backslash, is told as
    /// `\xNN`; of longer ones there are the first 128 bytes and three dots.
    #[schema(example = "urn:imei:867723032612345")]
    name: String,
    /// Why it was refused.
    #[schema(schema_with = refusal)]
    reason: &'static str,
    /// Address and port it was heard from last.
    address: String,
    /// How often it was refused.
    count: u64,
    /// When first, since it is listed.
    #[schema(format = DateTime)]
    first_at: String,
    /// When last.
    #[schema(format = DateTime)]
    last_at: String,
}

impl From<Stranger> for StrangerBody {
    fn from(stranger: Stranger) -> Self {
        Self {
            name: stranger.name,
            reason: stranger.refusal.name(),
            address: stranger.address.to_string(),
            count: stranger.count,
            first_at: stranger.first_at.to_string(),
            last_at: stranger.last_at.to_string(),
        }
    }
}

/// List who was refused lately.
///
/// Registrations, handshakes and MQTT connections since the server started. A name goes from the list when a device of that name, or with
/// that identity, is added or changed.
#[utoipa::path(get, path = "/v1/devices/unknown", operation_id = "list_unknown_devices", tag = "devices",
    responses((status = 200, description = "The newest 100", body = UnknownBody)))]
pub(in crate::api) async fn list(State(state): State<ApiState>) -> Json<UnknownBody> {
    let strangers = state.strangers.newest_first();
    let items = strangers.into_iter().map(StrangerBody::from).collect();
    Json(UnknownBody { items })
}
