//! `/v1/devices`.

pub(super) mod add;
mod attributes;
pub(super) mod count;
mod csv;
mod mqtt;
mod psk;
mod told;
pub(super) mod unknown;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::{Deserialize, Serialize};
use utoipa::{
    IntoParams, ToSchema,
    openapi::{
        Object, ObjectBuilder,
        schema::{SchemaType, Type},
    },
};

use attributes::{Given, tag_changes, tags, time_zone_or_null};
use mqtt::{ConnectedBody, MqttBody, MqttShownBody, MqttUpdate};
use psk::{PskBody, PskUpdate};

use super::{
    ApiState, etag,
    extract::{self, Fields, ListBody, Paging, Path, Query},
    heard::Live,
    problem::Problem,
    scoped::{self, Seen},
    traffic::MonthUsageBody,
};
use crate::{
    access::Scope,
    config::{PER_GATEWAY, check_product_name},
    filter::Filter,
    ledger::{
        Appointment, CoverageReading, CoverageSource, QueueMode, Registration, Via, ViaError,
        WakeUps,
    },
    store::{DeviceDetail, DeviceFilter, DeviceUpdate, GroupId, StoreError, UpdateDeviceError},
    tenant::{self, TenantId},
};

/// A device that was added may register when the answer says so; the rollout takes milliseconds.
const ENGINE_KNOWS_WITHIN: Duration = Duration::from_secs(2);

/// Devices that are reached through a gateway, as far as its page names them.
const CHILDREN_SHOWN: u32 = 100;

/// The path of a device whose name may be added. `/v1/devices/unknown` is a list and `/v1/devices/count` a number: devices of
/// these names are reached with an escaped letter (RFC 3986 §2.1).
pub(crate) fn path(endpoint: &str) -> String {
    let segment = match endpoint {
        "unknown" => "%75nknown",
        "count" => "%63ount",
        endpoint => endpoint,
    };
    format!("/v1/devices/{segment}")
}

/// A device.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeviceBody {
    /// The LwM2M endpoint name.
    endpoint: String,
    /// Another number after each change that an operator makes: the `ETag` of `GET /v1/devices/{endpoint}`.
    revision: i64,
    /// Whose it is; not there where it is the tenant `default`.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    /// The product it belongs to.
    product: String,
    /// What it speaks: `lwm2m`, `iotda`, `thingspanel` or `quecthing`. All but the first over MQTT.
    #[schema(pattern = "^(lwm2m|iotda|thingspanel|quecthing)$")]
    protocol: &'static str,
    /// How it shows who it is where it speaks MQTT; `null` where it does not.
    #[schema(required)]
    mqtt: Option<MqttShownBody>,
    /// The endpoint name of the gateway through which it is reached; `null` where it is reached by itself, or its gateway is not
    /// known, or not there for the caller.
    #[schema(required)]
    via: Option<String>,
    /// The devices that are reached through it; `null` in lists, where there are none, and for callers that see some devices only.
    #[schema(required)]
    children: Option<ChildrenBody>,
    /// How many of the devices that are reached through it may upgrade at once, where that is said of it alone; `null`: as its product
    /// says (`per_gateway`), or as many as of any gateway (`admission.per_gateway`).
    #[schema(required, minimum = 1, maximum = 1_000_000)]
    gateway_limit: Option<u32>,
    /// How it is connected over MQTT at the moment; `null` where it is not, or where the device side did not answer in time.
    #[schema(required)]
    connected: Option<ConnectedBody>,
    /// It is refused where nothing is encrypted.
    secure: bool,
    /// The identity of its pre-shared key; `null` when it has none. The key is never shown.
    #[schema(required)]
    psk_identity: Option<String>,
    /// Whether it is registered.
    registered: bool,
    /// Its registration, `null` when it has none.
    #[schema(required)]
    registration: Option<RegistrationBody>,
    /// When it was heard last, by any message; `null` when it never was.
    #[schema(required, format = DateTime)]
    last_heard_at: Option<String>,
    /// `last_heard_at` is only what was stored, which may be hours before the truth: the device was not heard since the
    /// server started, or the device side did not answer in time.
    last_heard_is_stored: bool,
    /// When it wakes up by itself, as far as that is learnt; `null` when it does not sleep, or slept once only.
    #[schema(required)]
    wake_ups: Option<WakeUpsBody>,
    /// The lifetime that it was given so that it comes at a time (`appointments` of its product), until its own is written
    /// back; `null` when it has its own.
    #[schema(required)]
    appointment: Option<AppointmentBody>,
    /// The version it reported last.
    #[schema(required)]
    version: Option<String>,
    /// The radio coverage it reported last.
    #[schema(required)]
    coverage: Option<CoverageBody>,
    /// The upgrade that runs on it.
    #[schema(required)]
    upgrade_id: Option<i64>,
    /// What is sold, as the operator says.
    #[schema(required)]
    model: Option<String>,
    /// The revision of its hardware, as the operator says.
    #[schema(required)]
    hardware: Option<String>,
    /// Where it is, as the operator says.
    #[schema(required)]
    site: Option<String>,
    /// The time zone there, as the operator says.
    #[schema(required, schema_with = time_zone_or_null)]
    time_zone: Option<String>,
    /// Its tags.
    #[schema(schema_with = tags)]
    tags: BTreeMap<String, String>,
    /// What its upgrades have cost on the air this month, in all tasks; `null` in lists.
    #[schema(required)]
    month: Option<MonthUsageBody>,
    /// Why it is not to be upgraded, while it is excluded (`/v1/exclusions`); `null` when it is not.
    #[schema(required)]
    exclusion_reason: Option<String>,
    /// When it was added.
    #[schema(format = DateTime)]
    created_at: String,
}

/// Devices that are reached through a gateway.
#[derive(Debug, Serialize, ToSchema)]
struct ChildrenBody {
    /// How many there are.
    total: u64,
    /// The endpoint names of the first of them, in order. `?filter=via==NAME` lists all.
    #[schema(max_items = 100)]
    first: Vec<String>,
}

/// When a device that sleeps wakes up by itself.
#[derive(Debug, Serialize, ToSchema)]
struct WakeUpsBody {
    /// The last time, as far as stored.
    #[schema(format = DateTime)]
    last_at: String,
    /// Seconds from one to the next, on average.
    period_seconds: u32,
    /// Mean deviation from that, seconds.
    spread_seconds: u32,
    /// Periods in a row that were about as long, up to 255.
    seen: u8,
}

impl WakeUpsBody {
    fn of(wake_ups: WakeUps) -> Option<Self> {
        (wake_ups.period_s > 0).then(|| Self {
            last_at: wake_ups.last_at.to_string(),
            period_seconds: wake_ups.period_s,
            spread_seconds: wake_ups.spread_s,
            seen: wake_ups.seen,
        })
    }
}

/// What a device was given so that it comes at a time.
#[derive(Debug, Serialize, ToSchema)]
struct AppointmentBody {
    /// When it is expected by appointment; `null` when nothing is left to do but to write its own lifetime back.
    #[schema(required, format = DateTime)]
    expected_at: Option<String>,
    /// The lifetime that it was given (/1/0/1), seconds.
    lifetime_seconds: u32,
    /// Its own, seconds: written back at the next contact after the upgrade.
    usual_lifetime_seconds: u32,
}

impl From<Appointment> for AppointmentBody {
    fn from(appointment: Appointment) -> Self {
        Self {
            expected_at: appointment.at.map(|at| at.to_string()),
            lifetime_seconds: appointment.written_s,
            usual_lifetime_seconds: appointment.usual_s,
        }
    }
}

/// A device's registration.
#[derive(Debug, Serialize, ToSchema)]
struct RegistrationBody {
    /// Address and port it was heard from last.
    peer: String,
    /// It was heard over DTLS.
    secured: bool,
    /// Seconds without an update after which the registration ends.
    lifetime_seconds: u32,
    /// When it was made.
    #[schema(format = DateTime)]
    registered_at: String,
    /// When it ends unless it is updated, as far as stored: updates are stored once an hour, or once in half a
    /// lifetime, so that it may be that much later.
    #[schema(format = DateTime)]
    expires_at: String,
    /// The device sleeps and listens only for a while after its messages.
    queue_mode: bool,
    /// The version of LwM2M that it says it speaks: 1.0, 1.1 or 1.2. `null` when it does not say.
    #[schema(required)]
    lwm2m_version: Option<String>,
    /// The transports over which it says that it can be reached, and `Q` when it sleeps: `UQ`.
    binding: String,
    /// The objects and instances that it announces, with versions where it tells them, in CoRE link format (RFC 6690)
    /// without the root path: `</3/0>,</4>;ver=1.3,</4/0>`. `null` when it announces none.
    #[schema(required)]
    objects: Option<String>,
    /// The path below which it has its objects.
    root_path: String,
}

/// A device's radio coverage.
#[derive(Debug, Serialize, ToSchema)]
struct CoverageBody {
    /// The cell (/4/0/8).
    #[schema(required)]
    cell_id: Option<u32>,
    /// Signal strength, dBm (/4/0/2).
    #[schema(required)]
    rsrp_dbm: Option<i32>,
    /// Signal to noise, dB (/4/0/11).
    #[schema(required)]
    sinr_db: Option<i32>,
    /// When it was reported.
    #[schema(format = DateTime)]
    measured_at: String,
    /// How it came; `null` when that was not noted.
    #[schema(required, schema_with = coverage_source)]
    source: Option<&'static str>,
}

fn coverage_source() -> Object {
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
        .description(Some(
            "How it came. `object`: in answer to a read of /4/0. `resources`: in answers to reads of /4/0/2 and /4/0/11. \
             `cell`: the cell in answer to a read of /4/0/8 alone, because the reads before did not tell it. `send`: by \
             itself (LwM2M Send). `null` when that was not noted.",
        ))
        .enum_values(Some(
            (CoverageSource::ALL.into_iter())
                .map(|source| Some(source.name()))
                .chain([None]),
        ))
        .build()
}

impl DeviceBody {
    /// Asks when it was heard last, and what it has spent this month.
    async fn of(
        state: &ApiState,
        scope: &Scope,
        mut detail: DeviceDetail,
    ) -> Result<Self, StoreError> {
        let live = Live::of(state, &detail).await;
        hide_gateways(state, scope, std::slice::from_mut(&mut detail)).await?;
        let endpoint = &detail.device.endpoint;
        let month = state.store.month_usage(endpoint, state.now()).await?;
        // who sees some devices only may not see these
        let (total, first) = if scope.has_all_of(tenant::owner(&detail.device.product)) {
            state.store.children(endpoint, CHILDREN_SHOWN).await?
        } else {
            (0, Vec::new())
        };
        Ok(Self {
            month: month.map(MonthUsageBody::from),
            children: (total > 0).then_some(ChildrenBody { total, first }),
            ..Self::new(detail, live)
        })
    }

    fn new(detail: DeviceDetail, live: Live) -> Self {
        let (device, heard) = (detail.device, live.heard);
        Self {
            endpoint: device.endpoint,
            revision: detail.revision,
            tenant: tenant::told(&device.product),
            product: tenant::product_name(&device.product).to_owned(),
            protocol: device.protocol.name(),
            mqtt: MqttShownBody::of(device.protocol, detail.mqtt_credential),
            via: device.via.gateway().map(str::to_owned),
            children: None,
            gateway_limit: detail.gateway_limit,
            connected: live.connected.map(ConnectedBody::from),
            secure: device.secure,
            psk_identity: detail.psk_identity,
            registered: device.registration.is_some(),
            registration: device.registration.map(RegistrationBody::from),
            last_heard_at: heard.at.map(|at| at.to_string()),
            last_heard_is_stored: heard.is_stored,
            wake_ups: device.wake_ups.and_then(WakeUpsBody::of),
            appointment: device.appointment.map(AppointmentBody::from),
            version: device.version.map(|version| version.to_string()),
            coverage: (device.coverage)
                .map(|reading| CoverageBody::new(&reading, detail.coverage_source)),
            upgrade_id: detail.upgrade.map(|id| id.0),
            model: detail.attributes.model,
            hardware: detail.attributes.hardware,
            site: detail.attributes.site,
            time_zone: detail.attributes.time_zone,
            tags: detail.attributes.tags,
            month: None,
            exclusion_reason: detail.excluded,
            created_at: detail.created_at.to_string(),
        }
    }
}

/// Leaves out the gateways that are not there for the caller.
async fn hide_gateways(
    state: &ApiState,
    scope: &Scope,
    details: &mut [DeviceDetail],
) -> Result<(), StoreError> {
    let gateways = details.iter().filter_map(|it| it.device.via.gateway());
    let gateways: BTreeSet<&str> = gateways.collect();
    if gateways.is_empty() {
        return Ok(());
    }
    let seen = Seen::of(state, scope, gateways).await?;
    for detail in details {
        let via = &mut detail.device.via;
        if via.gateway().is_some_and(|gateway| !seen.has(gateway)) {
            *via = Via::Gateway(None);
        }
    }
    Ok(())
}

impl From<Registration> for RegistrationBody {
    fn from(registration: Registration) -> Self {
        let sleeps = registration.queue_mode == QueueMode::On;
        let (objects, root_path) =
            (registration.announced).map_or((String::new(), None), |it| (it.objects, it.root_path));
        Self {
            peer: registration.peer.address.to_string(),
            secured: registration.peer.secured,
            lifetime_seconds: registration.lifetime_s,
            registered_at: registration.registered_at.to_string(),
            expires_at: registration.expires_at.to_string(),
            queue_mode: sleeps,
            lwm2m_version: registration
                .lwm2m_version
                .map(|version| version.to_string()),
            binding: format!("{}{}", registration.binding, if sleeps { "Q" } else { "" }),
            objects: Some(objects).filter(|objects| !objects.is_empty()),
            root_path: root_path.unwrap_or_else(|| "/".to_owned()),
        }
    }
}

impl CoverageBody {
    fn new(reading: &CoverageReading, source: Option<CoverageSource>) -> Self {
        Self {
            cell_id: reading.coverage.cell,
            rsrp_dbm: reading.coverage.rsrp_dbm,
            sinr_db: reading.coverage.sinr_db,
            measured_at: reading.at.to_string(),
            source: source.map(CoverageSource::name),
        }
    }
}

/// Which devices to list.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    /// Only devices of this product.
    product: Option<String>,
    /// Only devices that are registered, or that are not.
    registered: Option<bool>,
    /// Only devices whose endpoint name begins so.
    q: Option<String>,
    /// Only devices that this lets through: RSQL, such as `site==north*;version<V2`, up to 4,096 characters
    /// (docs/fleet-and-filters.md). When a device was heard last, as `last_heard` asks, is known only as it is stored, which
    /// may be hours before the truth.
    #[param(
        max_length = 4096,
        format = "rsql",
        example = "site==north*;version<V2"
    )]
    filter: Option<String>,
    /// Only devices that belong to the group of this number.
    group: Option<i64>,
    /// Items in the answer, 1 to 1000; 100 when not given.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next_cursor` of the page before; the first page when not given.
    cursor: Option<String>,
}

/// The key of a product that is asked for.
pub(super) fn key_of(scope: &Scope, product: Option<String>) -> Result<Option<String>, Problem> {
    let key = product.map(|product| scoped::product_key(scope, &product));
    key.transpose()
}

/// Reads a filter. An error says at which character it ceases to be one.
pub(super) fn parse_filter(text: &str) -> Result<Filter, Problem> {
    Filter::parse(text).map_err(|error| Problem::field("filter", error))
}

/// The group, if there is one of that number.
pub(super) async fn known_group(
    state: &ApiState,
    scope: &Scope,
    group: Option<i64>,
) -> Result<Option<GroupId>, Problem> {
    let group = group.map(GroupId);
    if let Some(group) = group {
        scoped::group(state, scope, group).await?;
    }
    Ok(group)
}

/// List devices, ordered by endpoint name.
///
/// With a filter a page may have fewer items than `limit`, or none, although others follow (`next_cursor` is not `null`): a
/// hundred thousand devices are looked at for a page, and no more.
#[utoipa::path(get, path = "/v1/devices", operation_id = "list_devices", tag = "devices", params(ListParams),
    responses(
        (status = 200, description = "A page", body = ListBody<DeviceBody>),
        (status = 400, description = "A parameter is unknown or of the wrong type", body = Problem),
        (status = 404, description = "There is no such group", body = Problem),
        (status = 422, description = "A parameter is out of range, or the filter is none: the detail says at which \
            character, and what is expected there", body = Problem),
    ))]
pub(super) async fn list(
    State(state): State<ApiState>,
    scope: Scope,
    Query(params): Query<ListParams>,
) -> Result<Json<ListBody<DeviceBody>>, Problem> {
    let paging = Paging::new(params.limit, params.cursor);
    let filter = DeviceFilter {
        product: key_of(&scope, params.product)?,
        registered: params.registered,
        prefix: params.q,
        filter: scope.narrow(params.filter.as_deref().map(parse_filter).transpose()?),
        group: known_group(&state, &scope, params.group).await?,
        now: state.now(),
    };
    let after: Option<String> = state.cursors.after(&paging, "devices")?;
    let mut page = state
        .store
        .devices(&filter, after.as_deref(), paging.limit()?)
        .await?;
    let live = Live::of_page(&state, &page.items).await;
    hide_gateways(&state, &scope, &mut page.items).await?;
    let items = page.items.into_iter().zip(live);
    let items = items.map(|(detail, live)| DeviceBody::new(detail, live));
    let next = page.next.map(|name| state.cursors.seal("devices", &name));
    Ok(Json(ListBody::with_cursor(items, next.transpose()?)))
}

/// A device.
#[utoipa::path(get, path = "/v1/devices/{endpoint}", operation_id = "get_device", tag = "devices",
    params(("endpoint" = String, Path, description = "Its endpoint name, percent-encoded; with `%75nknown` and \
        `%63ount` for devices that are called `unknown` and `count`")),
    responses(
        (status = 200, description = "The device", body = DeviceBody, headers(("ETag" = String, description = "Its revision"))),
        (status = 404, description = "There is no such device", body = Problem),
    ))]
pub(super) async fn get(
    State(state): State<ApiState>,
    scope: Scope,
    Path(endpoint): Path<String>,
) -> Result<Response, Problem> {
    check_seen(&state, &scope, &endpoint).await?;
    shown(&state, &scope, &endpoint).await
}

/// A device, with its `ETag`.
async fn shown(state: &ApiState, scope: &Scope, endpoint: &str) -> Result<Response, Problem> {
    let device = state.store.device(endpoint).await?;
    let device = device.ok_or_else(|| no_device(endpoint))?;
    let revision = device.revision;
    Ok(etag::tagged(
        revision,
        DeviceBody::of(state, scope, device).await?,
    ))
}

/// What to change about a device. What is not given stays as it is.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(clippy::option_option, reason = "these are three cases")]
pub(super) struct UpdateDevice {
    /// Whose it is from now on; it leaves the groups that it is in, and its exclusion ends. For callers that are granted everything.
    #[schema(
        min_length = 1,
        max_length = 32,
        pattern = "^[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?$"
    )]
    tenant: Option<String>,
    /// The product it belongs to from now on.
    #[schema(min_length = 1, max_length = 64, pattern = "^[A-Za-z0-9._-]{1,64}$")]
    product: Option<String>,
    /// Whether it is refused where nothing is encrypted. A device is when it gets a key.
    secure: Option<bool>,
    /// Its pre-shared key from now on; `null` takes it away. What it had encrypted with the old one ends.
    #[serde(default)]
    #[schema(value_type = Option<PskBody>)]
    psk: PskUpdate,
    /// That it speaks MQTT from now on, and how it shows who it is; `null`: that it speaks LwM2M. What it speaks does not change
    /// while an upgrade runs on it. Its connection ends.
    #[serde(default)]
    #[schema(value_type = Option<MqttBody>)]
    mqtt: MqttUpdate,
    /// The endpoint name of the gateway through which it is reached from now on; `null`: through none. Over MQTT an
    /// upgrade that runs on it goes on through that one, from the version query; over LwM2M it keeps the slots that it has.
    #[serde(default, deserialize_with = "extract::nullable")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 128)]
    via: Option<Option<String>>,
    /// How many of the devices that are reached through it may upgrade at once, from now on; `null`: as its product says (`per_gateway`),
    /// or as many as of any gateway. Whoever has a slot keeps it.
    #[serde(default, deserialize_with = "extract::nullable_whole")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1_000_000)]
    gateway_limit: Option<Option<u32>>,
    /// What is sold, 1 to 64 characters; `null` takes it away.
    #[serde(default, deserialize_with = "extract::nullable")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 64,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]{1,64}$")]
    model: Option<Option<String>>,
    /// The revision of its hardware, 1 to 64 characters; `null` takes it away.
    #[serde(default, deserialize_with = "extract::nullable")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 64,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]{1,64}$")]
    hardware: Option<Option<String>>,
    /// Where it is, 1 to 128 characters; `null` takes it away.
    #[serde(default, deserialize_with = "extract::nullable")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 128,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]{1,128}$")]
    site: Option<Option<String>>,
    /// The time zone there, an IANA name; `null` takes it away.
    #[serde(default, deserialize_with = "extract::nullable")]
    #[schema(schema_with = time_zone_or_null)]
    time_zone: Option<Option<String>>,
    /// Sets these tags, or takes those away that are `null`; the others stay.
    #[serde(default)]
    #[schema(schema_with = tag_changes)]
    tags: BTreeMap<String, Option<String>>,
}

impl UpdateDevice {
    /// Whether anything is to be changed but how it is described.
    fn changes(&self) -> bool {
        self.product.is_some()
            || self.tenant.is_some()
            || self.secure.is_some()
            || !matches!(self.psk, PskUpdate::Keep)
            || !matches!(self.mqtt, MqttUpdate::Keep)
            || self.via.is_some()
            || self.gateway_limit.is_some()
    }
}

/// Change a device's product, its key, whether it has to use it, its attributes, or its tags.
///
/// With `If-Match` it is changed only if no operator has changed it since: the `ETag` of its answers, which nothing that a device
/// tells changes.
/// Upgrades that wait or run go on with the package they have.
#[utoipa::path(patch, path = "/v1/devices/{endpoint}", operation_id = "update_device", tag = "devices", request_body = UpdateDevice,
    params(("endpoint" = String, Path, description = "Its endpoint name, percent-encoded; with `%75nknown` and \
        `%63ount` for devices that are called `unknown` and `count`"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that the caller has seen")),
    responses(
        (status = 200, description = "The device", body = DeviceBody, headers(("ETag" = String, description = "Its revision"))),
        (status = 400, description = "The path is not UTF-8, or the body is not JSON", body = Problem),
        (status = 404, description = "There is no such device", body = Problem),
        (status = 409, description = "Another device has the identity or the token, dtls.credential_key is not set, or an upgrade \
            runs that goes by what the device speaks; the device cannot be given to another tenant while an upgrade of it waits or \
            runs; it cannot be reached through that gateway, or others are reached through it", body = Problem),
        (status = 412, description = "Somebody has changed it meanwhile", body = Problem),
    ))]
pub(super) async fn update(
    State(state): State<ApiState>,
    scope: Scope,
    Path(endpoint): Path<String>,
    headers: HeaderMap,
    extract::Json(body): extract::Json<UpdateDevice>,
) -> Result<Response, Problem> {
    let seen = etag::if_match(&headers)?;
    if crate::lwm2m::check_endpoint(endpoint.as_bytes()).is_err() {
        return Err(no_device(&endpoint)); // there can be none
    }
    check_seen(&state, &scope, &endpoint).await?;
    if let MqttUpdate::Set(mqtt) = &body.mqtt
        && let Some(token) = mqtt.token()
    {
        mqtt::check_token(&state, &endpoint, token).await?;
    }
    if matches!(body.mqtt, MqttUpdate::Set(_)) {
        mqtt::check_name(&state, &endpoint).await?;
    }
    let (product, looked_at) = product(&state, &scope, &endpoint, &body).await?.unzip();
    let update = DeviceUpdate {
        // the product is named as that of the tenant that was found
        seen: seen.or(looked_at),
        product,
        within: scoped::within(&state, &scope),
        ..to_update(body, &endpoint, &state)?
    };
    if let Some(Some(via)) = &update.via
        && !scoped::sees(&state, &scope, via).await?
    {
        let error = ViaError::NoGateway(via.clone());
        return Err(UpdateDeviceError::Via { endpoint, error }.into());
    }
    let updated = state.store.update_device(&endpoint, &update).await;
    let holder = match &updated {
        Err(
            UpdateDeviceError::IdentityTaken { endpoint, .. }
            | UpdateDeviceError::TokenTaken(endpoint),
        ) => Some(endpoint),
        _ => None,
    };
    if let Some(holder) = holder
        && !scoped::sees(&state, &scope, holder).await?
    {
        // whose it is does not concern whoever does not see it
        return Err(Problem::identity_taken(match &updated {
            Err(UpdateDeviceError::IdentityTaken { identity, .. }) => {
                told::identity_taken(identity, "")
            }
            _ => told::token_taken(""),
        }));
    }
    updated?;
    state.signals.members.changed();
    state.signals.devices_written(ENGINE_KNOWS_WITHIN).await;
    let identity = update.psk.iter().flatten().map(|psk| &*psk.identity);
    state.strangers.forget(identity.chain([&*endpoint]));
    shown(&state, &scope, &endpoint).await
}

/// Fails unless the device is there for the caller, or for nobody.
async fn check_seen(state: &ApiState, scope: &Scope, endpoint: &str) -> Result<(), Problem> {
    if scoped::sees(state, scope, endpoint).await? {
        Ok(())
    } else {
        Err(no_device(endpoint))
    }
}

fn no_device(endpoint: &str) -> Problem {
    Problem::not_found(format!("there is no device {endpoint:?}"))
}

/// The key of the product of a device that is to have another one, or another tenant; and the device's revision, of which that holds.
async fn product(
    state: &ApiState,
    scope: &Scope,
    endpoint: &str,
    body: &UpdateDevice,
) -> Result<Option<(String, i64)>, Problem> {
    if body.product.is_none() && body.tenant.is_none() {
        return Ok(None);
    }
    let device = state.store.device(endpoint).await?;
    let device = device.ok_or_else(|| no_device(endpoint))?;
    let (before, revision) = (device.device.product, device.revision);
    let mut owner = tenant::owner(&before);
    if let Some(to) = &body.tenant {
        if *scope != Scope::Whole && to != owner {
            let detail = "only callers that are granted everything give devices to another tenant";
            return Err(Problem::field("tenant", detail));
        }
        owner = to;
    }
    let no_tenant = || Problem::field("tenant", format!("there is no tenant {owner:?}"));
    let owner: TenantId = owner.parse().map_err(|_| no_tenant())?;
    if body.tenant.is_some() && state.store.tenant(&owner).await?.is_none() {
        return Err(no_tenant());
    }
    let name = body.product.as_deref();
    let name = name.unwrap_or_else(|| tenant::product_name(&before));
    Ok(Some((owner.product_key(name), revision)))
}

fn to_update(
    body: UpdateDevice,
    endpoint: &str,
    state: &ApiState,
) -> Result<DeviceUpdate, Problem> {
    let mut fields = Fields::default();
    if let Some(product) = &body.product {
        fields.take("product", check_product_name(product));
    }
    let changes = body.changes();
    let given = Given {
        attributes: [body.model, body.hardware, body.site, body.time_zone],
        tags: body.tags,
    };
    let described = !given.tags.is_empty() || given.attributes.iter().any(Option::is_some);
    fields.check(
        "product",
        described || changes,
        "give product, tenant, secure, psk, mqtt, via, gateway_limit, model, hardware, site, time_zone or tags",
    );
    let attributes = given.check(&mut fields, "");
    let psk = match &body.psk {
        PskUpdate::Set(psk) => {
            psk::check_vault(state)?;
            fields.take("psk", psk.seal(state, endpoint)).map(Some)
        }
        PskUpdate::Remove => Some(None),
        PskUpdate::Keep => None,
    };
    let mqtt = match &body.mqtt {
        MqttUpdate::Set(mqtt) => {
            if mqtt.has_secret() {
                psk::check_vault(state)?;
            }
            fields.take("mqtt", mqtt.seal(state, endpoint)).map(Some)
        }
        MqttUpdate::Remove => Some(None),
        MqttUpdate::Keep => None,
    };
    if let Some(Some(via)) = &body.via {
        fields.take("via", crate::lwm2m::check_endpoint(via.as_bytes()));
    }
    if let Some(Some(limit)) = body.gateway_limit {
        let (least, most) = PER_GATEWAY.into_inner();
        let detail = format!("{limit} is out of range: {least} to {most} are possible");
        fields.check("gateway_limit", PER_GATEWAY.contains(&limit), detail);
    }
    fields.finish()?;
    let keyed = matches!(psk, Some(Some(_)));
    Ok(DeviceUpdate {
        product: None,
        secure: body.secure.or(keyed.then_some(true)),
        psk,
        mqtt,
        via: body.via,
        gateway_limit: body.gateway_limit,
        attributes,
        seen: None,
        within: None,
    })
}

/// Remove a device.
///
/// Its upgrades end as failed (`device_removed`). A gateway stays as long as others are reached through it. When it registers again it is refused or, where registration
/// is open, added anew as a device of product `default`.
#[utoipa::path(delete, path = "/v1/devices/{endpoint}", operation_id = "remove_device", tag = "devices",
    params(("endpoint" = String, Path, description = "Its endpoint name, percent-encoded; with `%75nknown` and \
        `%63ount` for devices that are called `unknown` and `count`"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that the caller has seen")),
    responses(
        (status = 204, description = "Removed"),
        (status = 404, description = "There is no such device", body = Problem),
        (status = 409, description = "Others are reached through it", body = Problem),
        (status = 412, description = "Somebody has changed it meanwhile", body = Problem),
    ))]
pub(super) async fn remove(
    State(state): State<ApiState>,
    scope: Scope,
    Path(endpoint): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let seen = etag::if_match(&headers)?;
    let within = scoped::within(&state, &scope);
    let removed = (state.store)
        .remove_device(&endpoint, seen, within.as_ref(), state.now())
        .await?;
    if !removed {
        return Err(no_device(&endpoint));
    }
    state.signals.devices_written(ENGINE_KNOWS_WITHIN).await;
    Ok(StatusCode::NO_CONTENT)
}
