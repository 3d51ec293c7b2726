//! The settings of a product, as the API shows and takes them.
#![expect(
    clippy::option_option,
    reason = "what is left out stays, what is null is as for all products"
)]

use arrayvec::ArrayString;
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{DeserializeOwned, Error as _},
};
use serde_json::Value;
use utoipa::{
    ToSchema,
    openapi::{Object, Type, schema::SchemaType},
};

use crate::{
    api::extract::{Fields, nullable, nullable_whole},
    config::{
        Appointments, Delivery, OtaEvents, OtaKind, ProductChange, ProductConfig, ResourceText,
        RsrpUnit, SinrUnit, UpdateBy, UriScheme, each_product_setting,
    },
    package::CheckCodeKind,
};

const CHECK_CODES: [&str; 2] = ["crc", "zero"];
const RSRP_UNITS: [&str; 3] = ["dbm", "index", "tenths"];
const SINR_UNITS: [&str; 2] = ["db", "tenths"];
const APPOINTMENTS: [&str; 2] = ["never", "lifetime"];
const OTA_KINDS: [&str; 2] = ["firmware", "software"];
const OTA_EVENTS: [&str; 2] = ["v1", "v2"];
const UPDATE_BY: [&str; 5] = ["auto", "pcp", "firmware", "software", "components"];
const DELIVERIES: [&str; 3] = ["auto", "pull", "push"];
const URI_SCHEMES: [&str; 4] = ["coap", "coaps", "http", "https"];

fn words(words: impl IntoIterator<Item = &'static str>) -> Object {
    Object::builder()
        .schema_type(Type::String)
        .enum_values(Some(words))
        .build()
}

fn check_codes() -> Object {
    words(CHECK_CODES)
}

fn rsrp_units() -> Object {
    words(RSRP_UNITS)
}

fn sinr_units() -> Object {
    words(SINR_UNITS)
}

fn appointments() -> Object {
    words(APPOINTMENTS)
}

fn ota_kinds() -> Object {
    words(OTA_KINDS)
}

fn ota_events() -> Object {
    words(OTA_EVENTS)
}

fn update_by() -> Object {
    words(UPDATE_BY)
}

fn deliveries() -> Object {
    words(DELIVERIES)
}

/// One of the words, or `null`.
fn uri_schemes() -> Object {
    let words = URI_SCHEMES.map(Value::from).into_iter();
    Object::builder()
        .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
        .enum_values(Some(words.chain([Value::Null])))
        .build()
}

/// What is peculiar to a product's devices (docs/products.md). What is `null` is as for all products.
#[derive(Debug, Serialize, ToSchema)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is a setting of its own"
)]
pub(in crate::api) struct ProductSettingsBody {
    /// How the versionCheckCode of packages that are uploaded is made: `crc`: PCP's check code of the package; `zero`: always 0.
    #[schema(schema_with = check_codes)]
    check_code: CheckCodeKind,
    /// Whether the last segment of packages that are uploaded is filled up with 0xFF.
    pad_last_segment: bool,
    /// What its devices tell as RSRP (/4/0/2).
    #[schema(schema_with = rsrp_units)]
    rsrp_unit: RsrpUnit,
    /// What its devices tell as SINR (/4/0/11).
    #[schema(schema_with = sinr_units)]
    sinr_unit: SinrUnit,
    /// How long a device listens after its last message, seconds, until its devices show otherwise.
    #[schema(required)]
    awake_window_s: Option<u64>,
    /// CoAP's `ACK_TIMEOUT` (RFC 7252 §4.8), milliseconds.
    #[schema(required)]
    ack_timeout_ms: Option<u64>,
    /// CoAP's `MAX_RETRANSMIT`.
    #[schema(required)]
    max_retransmit: Option<u32>,
    /// Whether pmin = 0 is written to /19/0/0 before it is observed.
    pmin_zero: bool,
    /// How its devices that sleep are made to come when there is a slot for them.
    #[schema(schema_with = appointments)]
    appointments: Appointments,
    /// Whether the limit of a crowded cell follows how crowded it is, for its devices.
    #[schema(required)]
    adaptive: Option<bool>,
    /// What of its devices of IoTDA is upgraded.
    #[schema(schema_with = ota_kinds)]
    ota: OtaKind,
    /// How its devices of IoTDA are offered a package.
    #[schema(schema_with = ota_events)]
    ota_events: OtaEvents,
    /// Whether its devices of IoTDA may be offered packages of more than 999,999,999 bytes.
    iotda_large_downloads: bool,
    /// Whether its gateways do not say which devices are behind them (docs/gateways.md).
    fixed_children: bool,
    /// How many devices of a gateway of it upgrade at once; `null`: as many as of any gateway (`admission.per_gateway`).
    #[schema(required)]
    per_gateway: Option<u32>,
    /// The part of its devices of ThingsPanel that is upgraded, the component of those with QuecThing; `null`: the whole (`default`).
    #[schema(required, value_type = Option<String>)]
    module: Option<ArrayString<64>>,
    /// By which of their objects its devices over LwM2M are upgraded (docs/objects.md); `auto`: by what they announce.
    #[schema(schema_with = update_by)]
    update_by: UpdateBy,
    /// How packages get to devices that are upgraded by objects 5, 9 or 33629: they fetch them, or they are written to them.
    #[schema(schema_with = deliveries)]
    delivery: Delivery,
    /// Larger packages are not written to its devices; `null`: 1,048,576.
    #[schema(required)]
    push_max_bytes: Option<u64>,
    /// What its devices fetch packages by; `null`: the server chooses among what they say that they can.
    #[schema(required, schema_with = uri_schemes)]
    uri_scheme: Option<UriScheme>,
    /// The resource where its devices tell the version that they run; `null`: where their object tells it.
    #[schema(required, value_type = Option<String>)]
    version_resource: Option<ResourceText>,
}

macro_rules! shown {
    ($($name:ident: $kind:ty,)*) => {
        impl From<ProductConfig> for ProductSettingsBody {
            fn from(settings: ProductConfig) -> Self {
                Self {
                    $($name: settings.$name,)*
                }
            }
        }
    };
}
each_product_setting!(shown);

/// Settings of a product to be changed, or to be set where it is created. What is not given stays as it is, or is as usual.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::api) struct UpdateProductSettings {
    /// How the versionCheckCode of packages that are uploaded is made.
    #[serde(deserialize_with = "given")]
    #[schema(schema_with = check_codes)]
    check_code: Option<CheckCodeKind>,
    /// Whether the last segment of packages that are uploaded is filled up with 0xFF.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = bool)]
    pad_last_segment: Option<bool>,
    /// What its devices tell as RSRP (/4/0/2).
    #[serde(deserialize_with = "given")]
    #[schema(schema_with = rsrp_units)]
    rsrp_unit: Option<RsrpUnit>,
    /// What its devices tell as SINR (/4/0/11).
    #[serde(deserialize_with = "given")]
    #[schema(schema_with = sinr_units)]
    sinr_unit: Option<SinrUnit>,
    /// How long a device listens after its last message, seconds; `null`: as for all products.
    #[serde(deserialize_with = "nullable_whole")]
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 86_400)]
    awake_window_s: Option<Option<u64>>,
    /// CoAP's `ACK_TIMEOUT` (RFC 7252 §4.8), milliseconds; `null`: as for all products.
    #[serde(deserialize_with = "nullable_whole")]
    #[schema(value_type = Option<u64>, minimum = 10, maximum = 600_000)]
    ack_timeout_ms: Option<Option<u64>>,
    /// CoAP's `MAX_RETRANSMIT`; `null`: as for all products.
    #[serde(deserialize_with = "nullable_whole")]
    #[schema(value_type = Option<u32>, minimum = 0, maximum = 10)]
    max_retransmit: Option<Option<u32>>,
    /// Whether pmin = 0 is written to /19/0/0 before it is observed.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = bool)]
    pmin_zero: Option<bool>,
    /// How its devices that sleep are made to come when there is a slot for them.
    #[serde(deserialize_with = "given")]
    #[schema(schema_with = appointments)]
    appointments: Option<Appointments>,
    /// Whether the limit of a crowded cell follows how crowded it is, for its devices; `null`: as for all products.
    #[serde(deserialize_with = "nullable")]
    #[schema(value_type = Option<bool>)]
    adaptive: Option<Option<bool>>,
    /// What of its devices of IoTDA is upgraded.
    #[serde(deserialize_with = "given")]
    #[schema(schema_with = ota_kinds)]
    ota: Option<OtaKind>,
    /// How its devices of IoTDA are offered a package: with a token beside the URL, or with a URL that carries the right.
    #[serde(deserialize_with = "given")]
    #[schema(schema_with = ota_events)]
    ota_events: Option<OtaEvents>,
    /// Whether its devices of IoTDA may be offered packages of more than 999,999,999 bytes.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = bool)]
    iotda_large_downloads: Option<bool>,
    /// Whether its gateways do not say which devices are behind them (docs/gateways.md).
    #[serde(deserialize_with = "given")]
    #[schema(value_type = bool)]
    fixed_children: Option<bool>,
    /// How many devices of a gateway of it upgrade at once; `null`: as many as of any gateway.
    #[serde(deserialize_with = "nullable_whole")]
    #[schema(value_type = Option<u32>, minimum = 1, maximum = 1_000_000)]
    per_gateway: Option<Option<u32>>,
    /// The part of its devices of ThingsPanel that is upgraded, 1 to 64 bytes without control characters; `null`: the whole.
    #[serde(deserialize_with = "nullable")]
    #[schema(value_type = Option<String>, min_length = 1, max_length = 64, pattern = r"^[^\u0000-\u001f\u007f-\u009f]{1,64}$")]
    module: Option<Option<ArrayString<64>>>,
    /// By which of their objects its devices over LwM2M are upgraded (docs/objects.md).
    #[serde(deserialize_with = "given")]
    #[schema(schema_with = update_by)]
    update_by: Option<UpdateBy>,
    /// How packages get to devices that are upgraded by objects 5, 9 or 33629.
    #[serde(deserialize_with = "given")]
    #[schema(schema_with = deliveries)]
    delivery: Option<Delivery>,
    /// Larger packages are not written to its devices; `null`: 1,048,576.
    #[serde(deserialize_with = "nullable_whole")]
    #[schema(value_type = Option<u64>, minimum = 1, maximum = 1_073_741_824)]
    push_max_bytes: Option<Option<u64>>,
    /// What its devices fetch packages by; `null`: the server chooses among what they say that they can.
    #[serde(deserialize_with = "nullable")]
    #[schema(schema_with = uri_schemes)]
    uri_scheme: Option<Option<UriScheme>>,
    /// The resource where its devices tell the version that they run, such as `/3/0/3`; `null`: where their object tells it.
    #[serde(deserialize_with = "nullable")]
    #[schema(value_type = Option<String>, max_length = 18, pattern = r"^/[0-9]+/[0-9]+/[0-9]+$")]
    version_resource: Option<Option<ResourceText>>,
}

/// A field that may be left out and is never `null`. What is no word at all is told as a wrong word is.
fn given<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    let value = Value::deserialize(deserializer)?;
    serde_json::from_value(value)
        .map(Some)
        .map_err(D::Error::custom)
}

macro_rules! change {
    ($($name:ident: $kind:ty,)*) => {
        impl From<UpdateProductSettings> for ProductChange {
            fn from(given: UpdateProductSettings) -> Self {
                Self {
                    $($name: given.$name,)*
                }
            }
        }
    };
}
each_product_setting!(change);

impl UpdateProductSettings {
    /// The change, of which all is told that cannot be worked with.
    pub(super) fn checked(self, fields: &mut Fields) -> ProductChange {
        let change = ProductChange::from(self);
        // each setting is what it may be, whatever the others are
        for problem in change.apply(&ProductConfig::default()).problems() {
            let field = format!("settings.{}", problem.setting);
            fields.check(&field, false, problem.problem);
        }
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_described_as_they_are_read() {
        fn read<T: for<'de> Deserialize<'de>>(words: &[&str]) {
            for word in words {
                serde_json::from_value::<T>((*word).into()).unwrap();
            }
            // what is not possible is told with all that is
            let error = serde_json::from_value::<T>("?".into()).err().unwrap();
            let told = error.to_string();
            assert_eq!(told.matches('`').count(), 2 * words.len() + 2, "{told}");
        }
        read::<CheckCodeKind>(&CHECK_CODES);
        read::<RsrpUnit>(&RSRP_UNITS);
        read::<SinrUnit>(&SINR_UNITS);
        read::<Appointments>(&APPOINTMENTS);
        read::<OtaKind>(&OTA_KINDS);
        read::<OtaEvents>(&OTA_EVENTS);
        read::<UpdateBy>(&UPDATE_BY);
        read::<Delivery>(&DELIVERIES);
        read::<UriScheme>(&URI_SCHEMES);
    }
}
