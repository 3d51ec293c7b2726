//! `POST /v1/devices`.

use std::collections::BTreeMap;

use axum::{
    Json,
    extract::{FromRequest, Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    DeviceBody,
    attributes::{Given, tags, time_zone},
    csv::{self, DeviceFile, UploadedBody},
    mqtt::{self, MqttBody},
    psk::{self, PskBody},
    told,
};
use crate::{
    access::Scope,
    api::{
        ApiState,
        extract::{self, Fields},
        packages::default_product,
        problem::{FieldError, Problem},
        scoped,
    },
    config::check_product_name,
    lwm2m::check_endpoint,
    store::{AddedDevice, NewDevice},
    tenant::TenantId,
};

/// Devices of one request.
const MAX_DEVICES: usize = 10_000;

/// One device, or many.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct AddDevices {
    endpoint: Option<String>,
    product: Option<String>,
    psk: Option<PskBody>,
    mqtt: Option<MqttBody>,
    via: Option<String>,
    model: Option<String>,
    hardware: Option<String>,
    site: Option<String>,
    time_zone: Option<String>,
    tags: Option<BTreeMap<String, String>>,
    devices: Option<Vec<AddDevice>>,
}

/// One device, or many.
#[derive(ToSchema)]
#[schema(as = AddDevices)]
#[serde(untagged)]
#[expect(
    dead_code,
    clippy::large_enum_variant,
    reason = "stands in the description only"
)]
pub(in crate::api) enum AddDevicesBody {
    One(AddOneDevice),
    Many(AddDeviceList),
}

/// One device.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "stands in the description only")]
pub(in crate::api) struct AddOneDevice {
    /// The endpoint name, as in a list of many.
    #[schema(
        min_length = 1,
        max_length = 128,
        pattern = r"^(?!\.{1,2}$)[A-Za-z0-9._~:@!$'()*+,;=-]{1,128}$",
        example = "urn:imei:867723032612345"
    )]
    endpoint: String,
    /// The product, `default` when not given.
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._-]{1,64}$")]
    product: Option<String>,
    /// Its pre-shared key; with one it is refused where nothing is encrypted.
    psk: Option<PskBody>,
    /// That it speaks MQTT, and how it shows who it is; it speaks LwM2M when not given.
    mqtt: Option<MqttBody>,
    /// The endpoint name of the gateway through which it is reached. Both speak the same; one that speaks MQTT has `gateway` in
    /// `mqtt`.
    #[schema(min_length = 1, max_length = 128)]
    via: Option<String>,
    /// What is sold, 1 to 64 characters.
    #[schema(
        min_length = 1,
        max_length = 64,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]{1,64}$"
    )]
    model: Option<String>,
    /// The revision of its hardware, 1 to 64 characters.
    #[schema(
        min_length = 1,
        max_length = 64,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]{1,64}$"
    )]
    hardware: Option<String>,
    /// Where it is, 1 to 128 characters.
    #[schema(
        min_length = 1,
        max_length = 128,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]{1,128}$"
    )]
    site: Option<String>,
    /// The time zone there, an IANA name.
    #[schema(schema_with = time_zone)]
    time_zone: Option<String>,
    /// Up to 32 tags. A key has 1 to 64 of A-Z a-z 0-9 . _ -, a value up to 256 characters.
    #[schema(schema_with = tags)]
    tags: Option<BTreeMap<String, String>>,
}

/// Many devices.
#[derive(ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "stands in the description only")]
pub(in crate::api) struct AddDeviceList {
    /// At most 10,000.
    #[schema(min_items = 1, max_items = 10_000)]
    devices: Vec<AddDevice>,
}

/// A device to be added.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct AddDevice {
    /// The endpoint name: 1 to 128 of the characters that a path segment of a URL may hold as they are, but `&`
    /// (A-Z a-z 0-9 - . _ ~ : @ ! $ ' ( ) * + , ; =), and neither `.` nor `..`.
    #[schema(
        min_length = 1,
        max_length = 128,
        pattern = r"^(?!\.{1,2}$)[A-Za-z0-9._~:@!$'()*+,;=-]{1,128}$",
        example = "urn:imei:867723032612345"
    )]
    endpoint: String,
    /// The product, `default` when not given.
    #[serde(default = "default_product")]
    #[schema(
        default = "default",
        min_length = 1,
        max_length = 64,
        pattern = "^[A-Za-z0-9._-]{1,64}$"
    )]
    product: String,
    /// Its pre-shared key; with one it is refused where nothing is encrypted.
    psk: Option<PskBody>,
    /// That it speaks MQTT, and how it shows who it is; it speaks LwM2M when not given.
    mqtt: Option<MqttBody>,
    /// The endpoint name of the gateway through which it is reached. Both speak the same; one that speaks MQTT has `gateway` in
    /// `mqtt`.
    #[schema(min_length = 1, max_length = 128)]
    via: Option<String>,
    /// What is sold, 1 to 64 characters.
    #[schema(
        min_length = 1,
        max_length = 64,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]{1,64}$"
    )]
    model: Option<String>,
    /// The revision of its hardware, 1 to 64 characters.
    #[schema(
        min_length = 1,
        max_length = 64,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]{1,64}$"
    )]
    hardware: Option<String>,
    /// Where it is, 1 to 128 characters.
    #[schema(
        min_length = 1,
        max_length = 128,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]{1,128}$"
    )]
    site: Option<String>,
    /// The time zone there, an IANA name.
    #[schema(schema_with = time_zone)]
    time_zone: Option<String>,
    /// Up to 32 tags. A key has 1 to 64 of A-Z a-z 0-9 . _ -, a value up to 256 characters.
    #[schema(schema_with = tags)]
    tags: Option<BTreeMap<String, String>>,
}

/// What became of many devices.
#[derive(Debug, Serialize, ToSchema)]
struct AddedBody {
    /// Devices that are new.
    added: usize,
    /// Devices that were there already, of the same product, as they were given.
    unchanged: usize,
    /// Devices that were there already, and have given attributes or tags now that they did not have.
    updated: usize,
    /// Devices that were there already, and have the given key now, and the attributes.
    keys_set: usize,
    /// Devices that were refused, and why.
    refused: Vec<FieldError>,
}

/// Add a device, up to 10,000 at once, or up to 1,000,000 in a list of comma-separated values.
///
/// A device that is there with the same product is no error: it gets the attributes and tags that are given, and keeps
/// the others. Of many devices, those that are there with another product are listed as refused, and the others are added.
///
/// A list (`text/csv`, RFC 4180) begins with a line that names its columns: `endpoint`, and if need be `product`, `model`,
/// `hardware`, `site`, `time_zone`, `identity`, `key`, `style`, `secret`, `token`, `password`, `via`, and `tag.KEY` for each tag.
/// `style` has a device speak MQTT, and by itself means a certificate, or with `via` a gateway. An empty field says nothing. Rows that
/// are wrong are refused one by one. The others are stored in batches while the list comes: one that breaks off leaves those
/// that were stored, and may be sent again.
#[utoipa::path(post, path = "/v1/devices", operation_id = "add_device", tag = "devices",
    request_body(content((AddDevicesBody = "application/json"), (DeviceFile = "text/csv"))),
    responses(
        (status = 201, description = "One device: it was added", body = DeviceBody,
            headers(("Location" = String, description = "Path of the device"))),
        (status = 200, description = "One device: it was there (a device). Many, or a list: what became of them (counts)",
            body = AddAnswer),
        (status = 400, description = "The body is not JSON, or a list broke off", body = Problem),
        (status = 413, description = "The body is too large, or a list has more than 1,000,000 rows", body = Problem),
        (status = 415, description = "The content type is neither application/json nor text/csv", body = Problem),
        (status = 422, description = "A field is not valid, or the first line of a list does not name its columns",
            body = Problem),
        (status = 409, description = "One device: it is there with another product or protocol, another has the identity or \
            the token, or it cannot be reached through that gateway. Secrets are given, and dtls.credential_key is not set", body = Problem),
    ))]
pub(in crate::api) async fn add(
    State(state): State<ApiState>,
    scope: Scope,
    request: Request,
) -> Result<Response, Problem> {
    let tenant = scoped::home(&scope)?;
    if csv::is_list(request.headers()) {
        let added = csv::receive(&state, (&scope, &tenant), request.into_body()).await?;
        return Ok(Json(AddAnswer::List(added)).into_response());
    }
    let extract::Json(body) = extract::Json::<AddDevices>::from_request(request, &state).await?;
    let (devices, tokens, single) = to_devices(body, &tenant, &state)?;
    let mut added = mqtt::add(&state, &devices, &tokens).await?;
    told::hide_others(&state, &scope, &mut added).await?;
    state.signals.members.changed();
    state
        .signals
        .devices_written(super::ENGINE_KNOWS_WITHIN)
        .await;
    state.strangers.forget(told::names(&devices));
    if !single {
        return Ok(Json(AddAnswer::Many(summary(&devices, added))).into_response());
    }
    let (Some(device), Some(added)) = (devices.into_iter().next(), added.into_iter().next()) else {
        return Err(Problem::field("endpoint", "it is missing"));
    };
    let status = match added {
        AddedDevice::Added => StatusCode::CREATED,
        AddedDevice::Unchanged | AddedDevice::Updated | AddedDevice::KeySet => StatusCode::OK,
        AddedDevice::Attributes(error) => return Err(Problem::field("tags", error)),
        AddedDevice::Via(error) => {
            let title = "The device is not reached through that gateway";
            return Err(Problem::conflict("gateway-refused", title, error).about("via"));
        }
        AddedDevice::IdentityTaken { identity, endpoint } => {
            let detail = told::identity_taken(&identity, &endpoint);
            return Err(Problem::identity_taken(detail));
        }
        AddedDevice::TokenTaken(endpoint) => {
            return Err(Problem::identity_taken(told::token_taken(&endpoint)));
        }
        AddedDevice::OtherProtocol(protocol) => {
            let detail = told::other_protocol(&device.endpoint, protocol);
            let title = "The device is there already";
            return Err(Problem::conflict("device-exists", title, detail));
        }
        AddedDevice::OtherProduct(product) => {
            let detail = told::other_product(&device.endpoint, &product);
            let title = "The device is there already";
            return Err(Problem::conflict("device-exists", title, detail));
        }
    };
    let location = super::path(&device.endpoint);
    let Some(detail) = state.store.device(&device.endpoint).await? else {
        return Err(Problem::not_found("the device was removed meanwhile"));
    };
    let device = DeviceBody::of(&state, &scope, detail).await?;
    let body = Json(AddAnswer::One(Box::new(device)));
    Ok((status, [(header::LOCATION, location)], body).into_response())
}

/// The device that was there, or what became of many, or of a list.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
enum AddAnswer {
    One(Box<DeviceBody>),
    Many(AddedBody),
    List(UploadedBody),
}

/// The devices, their tokens, and whether one device was given by itself.
type Read = (Vec<NewDevice>, Vec<Option<String>>, bool);

/// Checks every name. Also tells the tokens that devices are given, and whether one device was given by itself.
fn to_devices(body: AddDevices, tenant: &TenantId, state: &ApiState) -> Result<Read, Problem> {
    let mut devices = body.devices.iter().flatten();
    let secret = |mqtt: &Option<MqttBody>| mqtt.as_ref().is_some_and(MqttBody::has_secret);
    if body.psk.is_some()
        || secret(&body.mqtt)
        || devices.any(|device| device.psk.is_some() || secret(&device.mqtt))
    {
        psk::check_vault(state)?;
    }
    let mut fields = Fields::default();
    let (devices, single) = given(body)?;
    let tokens = (devices.iter()).map(|device| device.mqtt.as_ref()?.token().map(str::to_owned));
    let tokens = tokens.collect();
    let devices = devices.into_iter().enumerate().map(|(i, device)| {
        let prefix = if single {
            String::new()
        } else {
            format!("devices[{i}].")
        };
        let device = checked(device, &prefix, &mut fields, state);
        NewDevice {
            product: tenant.product_key(&device.product),
            ..device
        }
    });
    let devices = devices.collect();
    fields.finish()?;
    Ok((devices, tokens, single))
}

/// The devices that are given, and whether one is given by itself.
fn given(body: AddDevices) -> Result<(Vec<AddDevice>, bool), Problem> {
    let for_one = body.product.is_some()
        || body.psk.is_some()
        || body.mqtt.is_some()
        || body.via.is_some()
        || body.model.is_some()
        || body.hardware.is_some()
        || body.site.is_some()
        || body.time_zone.is_some()
        || body.tags.is_some();
    match (body.endpoint, body.devices) {
        (Some(endpoint), None) => {
            let device = AddDevice {
                endpoint,
                product: body.product.unwrap_or_else(default_product),
                psk: body.psk,
                mqtt: body.mqtt,
                via: body.via,
                model: body.model,
                hardware: body.hardware,
                site: body.site,
                time_zone: body.time_zone,
                tags: body.tags,
            };
            Ok((vec![device], true))
        }
        (None, Some(devices)) if !for_one => {
            if !(1..=MAX_DEVICES).contains(&devices.len()) {
                let detail = format!("{} devices; 1 to {MAX_DEVICES} are possible", devices.len());
                return Err(Problem::field("devices", detail));
            }
            Ok((devices, false))
        }
        (None, Some(_)) => Err(Problem::field(
            "product",
            "give each device its own product, psk, mqtt, via and attributes",
        )),
        _ => Err(Problem::field(
            "endpoint",
            "give either endpoint or devices",
        )),
    }
}

/// Notes what is wrong with a device; `prefix` stands before the names of its fields.
fn checked(device: AddDevice, prefix: &str, fields: &mut Fields, state: &ApiState) -> NewDevice {
    let (endpoint, product) = (device.endpoint, device.product);
    fields.take(
        &format!("{prefix}endpoint"),
        check_endpoint(endpoint.as_bytes()),
    );
    fields.take(&format!("{prefix}product"), check_product_name(&product));
    fields.check(
        &format!("{prefix}mqtt"),
        device.psk.is_none() || device.mqtt.is_none(),
        psk::OR_MQTT,
    );
    if let Some(via) = &device.via {
        fields.take(&format!("{prefix}via"), check_endpoint(via.as_bytes()));
    }
    let psk = (device.psk)
        .and_then(|psk| fields.take(&format!("{prefix}psk"), psk.seal(state, &endpoint)));
    let mqtt = (device.mqtt)
        .and_then(|mqtt| fields.take(&format!("{prefix}mqtt"), mqtt.seal(state, &endpoint)));
    let attributes = Given::set(
        [device.model, device.hardware, device.site, device.time_zone],
        device.tags,
    );
    NewDevice {
        attributes: attributes.check(fields, prefix),
        endpoint,
        product,
        psk,
        mqtt,
        via: device.via,
    }
}

fn summary(devices: &[NewDevice], added: Vec<AddedDevice>) -> AddedBody {
    let mut body = AddedBody {
        added: 0,
        unchanged: 0,
        updated: 0,
        keys_set: 0,
        refused: Vec::new(),
    };
    for (i, (device, added)) in devices.iter().zip(added).enumerate() {
        match added {
            AddedDevice::Added => body.added += 1,
            AddedDevice::Unchanged => body.unchanged += 1,
            AddedDevice::Updated => body.updated += 1,
            AddedDevice::KeySet => body.keys_set += 1,
            AddedDevice::IdentityTaken { .. }
            | AddedDevice::TokenTaken(_)
            | AddedDevice::OtherProduct(_)
            | AddedDevice::OtherProtocol(_)
            | AddedDevice::Via(_)
            | AddedDevice::Attributes(_) => {}
        }
        if let Some((field, detail)) = told::refusal(&device.endpoint, &added) {
            let dot = if field.is_empty() { "" } else { "." };
            body.refused
                .push(FieldError::new(format!("devices[{i}]{dot}{field}"), detail));
        }
    }
    body
}
