//! The settings of a product, as arguments and as text.

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use crate::config::{ProductConfig, each_product_setting};

/// What is said of a product.
#[derive(Debug, Args)]
#[group(skip)]
pub(super) struct SaidArgs {
    /// Whether its packages have to be signed.
    #[arg(long, value_enum)]
    signatures: Option<SignaturesArg>,
    /// versionCheckCode of packages that are uploaded: PCP's check code of the package, or always 0.
    #[arg(long, value_enum)]
    check_code: Option<CheckCodeArg>,
    /// Fill the last segment of packages that are uploaded with 0xFF.
    #[arg(long, value_enum)]
    pad_last_segment: Option<Switch>,
    /// What its devices tell as RSRP.
    #[arg(long, value_enum)]
    rsrp_unit: Option<RsrpUnitArg>,
    /// What its devices tell as SINR.
    #[arg(long, value_enum)]
    sinr_unit: Option<SinrUnitArg>,
    /// How long a device listens after its last message, 1 to 86400 seconds; `default`: as for all products.
    #[arg(long, value_name = "SECONDS", value_parser = number)]
    awake_window_s: Option<Number>,
    /// CoAP's `ACK_TIMEOUT`, 10 to 600000 milliseconds; `default`: as for all products.
    #[arg(long, value_name = "MS", value_parser = number)]
    ack_timeout_ms: Option<Number>,
    /// CoAP's `MAX_RETRANSMIT`, 0 to 10; `default`: as for all products.
    #[arg(long, value_name = "N", value_parser = number)]
    max_retransmit: Option<Number>,
    /// Write pmin = 0 before notifications are asked for.
    #[arg(long, value_enum)]
    pmin_zero: Option<Switch>,
    /// Have its devices that sleep come when there is a slot for them, by the lifetime of their registration.
    #[arg(long, value_enum)]
    appointments: Option<AppointmentsArg>,
    /// Whether the limit of a crowded cell follows how crowded it is, for its devices; `default`: as for all products.
    #[arg(long, value_enum)]
    adaptive: Option<SwitchOrDefault>,
    /// What of its devices of `IoTDA` is upgraded.
    #[arg(long, value_enum)]
    ota: Option<OtaArg>,
    /// How its devices of `IoTDA` are offered a package: with a token beside the URL, or with a URL that carries the right.
    #[arg(long, value_enum)]
    ota_events: Option<OtaEventsArg>,
    /// Whether its devices of `IoTDA` may be offered packages of more than 999999999 bytes.
    #[arg(long, value_enum)]
    iotda_large_downloads: Option<Switch>,
    /// Whether its gateways do not say which devices are behind them.
    #[arg(long, value_enum)]
    fixed_children: Option<Switch>,
    /// How many devices of a gateway of it upgrade at once, 1 to 1000000; `default`: as many as of any gateway.
    #[arg(long, value_name = "N", value_parser = number)]
    per_gateway: Option<Number>,
    /// The part of its devices of `ThingsPanel` that is upgraded; `default`: the whole.
    #[arg(long)]
    module: Option<String>,
    /// By which of their objects its devices over `LwM2M` are upgraded: by what they announce, by PCP (object 19), or by object 5, 9 or 33629.
    #[arg(long, value_enum)]
    update_by: Option<UpdateByArg>,
    /// How packages get to devices that are upgraded by objects 5, 9 or 33629: they fetch them, or they are written to them.
    #[arg(long, value_enum)]
    delivery: Option<DeliveryArg>,
    /// Larger packages are not written to its devices, 1 to 1073741824; `default`: 1048576.
    #[arg(long, value_name = "BYTES", value_parser = number)]
    push_max_bytes: Option<Number>,
    /// What its devices fetch packages by; `default`: the server chooses among what they say that they can.
    #[arg(long, value_enum)]
    uri_scheme: Option<UriSchemeArg>,
    /// The resource where its devices tell the version that they run, such as /3/0/3; `default`: where their object tells it.
    #[arg(long, value_name = "PATH")]
    version_resource: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum SignaturesArg {
    Optional,
    Required,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CheckCodeArg {
    Crc,
    Zero,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RsrpUnitArg {
    Dbm,
    Index,
    Tenths,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SinrUnitArg {
    Db,
    Tenths,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum AppointmentsArg {
    Never,
    Lifetime,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OtaArg {
    Firmware,
    Software,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OtaEventsArg {
    V1,
    V2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum UpdateByArg {
    Auto,
    Pcp,
    Firmware,
    Software,
    Components,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum DeliveryArg {
    Auto,
    Pull,
    Push,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum UriSchemeArg {
    Coap,
    Coaps,
    Http,
    Https,
    Default,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Switch {
    On,
    Off,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SwitchOrDefault {
    On,
    Off,
    Default,
}

/// A number, or what holds for all products. The server knows which numbers are possible.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Number(Option<u64>);

fn number(text: &str) -> Result<Number, String> {
    if text == "default" {
        return Ok(Number(None));
    }
    let number = text.parse().map(|number| Number(Some(number)));
    number.map_err(|_| "neither a number nor `default`".to_owned())
}

/// The value of an argument, as the API takes it.
trait Said {
    fn said(&self) -> Value;
}

/// The word of an argument is the word of the API.
fn word(arg: &impl ValueEnum) -> Value {
    let value = arg.to_possible_value();
    value.map_or(Value::Null, |value| json!(value.get_name()))
}

macro_rules! words {
    ($($kind:ty),*) => {
        $(impl Said for $kind {
            fn said(&self) -> Value {
                word(self)
            }
        })*
    };
}
words!(
    CheckCodeArg,
    RsrpUnitArg,
    SinrUnitArg,
    AppointmentsArg,
    OtaArg,
    OtaEventsArg,
    UpdateByArg,
    DeliveryArg
);

impl Said for UriSchemeArg {
    fn said(&self) -> Value {
        match self {
            Self::Default => Value::Null,
            named => word(named),
        }
    }
}

impl Said for Switch {
    fn said(&self) -> Value {
        json!(*self == Self::On)
    }
}

impl Said for SwitchOrDefault {
    fn said(&self) -> Value {
        match self {
            Self::On => json!(true),
            Self::Off => json!(false),
            Self::Default => Value::Null,
        }
    }
}

impl Said for Number {
    fn said(&self) -> Value {
        json!(self.0)
    }
}

/// A part of a device, which calls the whole `default`, or a resource.
impl Said for String {
    fn said(&self) -> Value {
        match self.as_str() {
            "default" => Value::Null,
            name => json!(name),
        }
    }
}

macro_rules! gathered {
    ($($name:ident: $kind:ty,)*) => {
        impl SaidArgs {
            /// The settings that are given.
            fn settings(&self) -> Map<String, Value> {
                let given = [
                    $((stringify!($name), self.$name.as_ref().map(Said::said)),)*
                ];
                let given = given.into_iter().filter_map(|(name, value)| Some((name, value?)));
                given.map(|(name, value)| (name.to_owned(), value)).collect()
            }
        }
    };
}
each_product_setting!(gathered);

impl SaidArgs {
    /// Whether packages without a signature are refused from now on.
    pub(super) fn requires_signatures(&self) -> bool {
        self.signatures == Some(SignaturesArg::Required)
    }

    /// What is said, as the API takes it; `None` where nothing is.
    pub(super) fn body(&self) -> Option<Map<String, Value>> {
        let settings = self.settings();
        let mut body = Map::new();
        if !settings.is_empty() {
            body.insert("settings".to_owned(), Value::Object(settings));
        }
        let signatures = self.signatures.as_ref().map(word);
        body.extend(signatures.map(|word| ("signatures".to_owned(), word)));
        (!body.is_empty()).then_some(body)
    }
}

/// The settings that are not as usual, each with its value.
pub(super) fn peculiar(settings: &Map<String, Value>) -> Vec<(&str, String)> {
    let usual = serde_json::to_value(ProductConfig::default()).unwrap_or_default();
    (settings.iter())
        .filter(|(name, value)| usual.get(name).unwrap_or(&Value::Null) != *value)
        .map(|(name, value)| {
            let text = value.as_str().map(str::to_owned);
            (name.as_str(), text.unwrap_or_else(|| value.to_string()))
        })
        .collect()
}
