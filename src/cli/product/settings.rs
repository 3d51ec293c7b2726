//! The settings of a product, as arguments and as text.

use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use crate::config::ProductConfig;

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
    /// The part of its devices of `ThingsPanel` that is upgraded; `default`: the whole.
    #[arg(long)]
    module: Option<String>,
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

/// The word of an argument is the word of the API.
fn word(arg: Option<impl ValueEnum>) -> Option<Value> {
    let value = arg?.to_possible_value()?;
    Some(json!(value.get_name()))
}

fn switch(arg: Option<Switch>) -> Option<Value> {
    arg.map(|arg| json!(arg == Switch::On))
}

impl SaidArgs {
    /// Whether packages without a signature are refused from now on.
    pub(super) fn requires_signatures(&self) -> bool {
        self.signatures == Some(SignaturesArg::Required)
    }

    /// What is said, as the API takes it; `None` where nothing is.
    pub(super) fn body(&self) -> Option<Map<String, Value>> {
        let mut settings = Map::new();
        let mut give = |field: &str, value: Option<Value>| {
            settings.extend(value.map(|value| (field.to_owned(), value)));
        };
        let number = |arg: Option<Number>| arg.map(|Number(number)| json!(number));
        give("check_code", word(self.check_code));
        give("pad_last_segment", switch(self.pad_last_segment));
        give("rsrp_unit", word(self.rsrp_unit));
        give("sinr_unit", word(self.sinr_unit));
        give("awake_window_s", number(self.awake_window_s));
        give("ack_timeout_ms", number(self.ack_timeout_ms));
        give("max_retransmit", number(self.max_retransmit));
        give("pmin_zero", switch(self.pmin_zero));
        give("appointments", word(self.appointments));
        let adaptive = self.adaptive.map(|arg| match arg {
            SwitchOrDefault::On => json!(true),
            SwitchOrDefault::Off => json!(false),
            SwitchOrDefault::Default => Value::Null,
        });
        give("adaptive", adaptive);
        give("ota", word(self.ota));
        give("ota_events", word(self.ota_events));
        give("iotda_large_downloads", switch(self.iotda_large_downloads));
        give("fixed_children", switch(self.fixed_children));
        // a device calls the whole `default`
        let module = (self.module.as_deref()).map(|name| match name {
            "default" => Value::Null,
            name => json!(name),
        });
        give("module", module);
        let mut body = Map::new();
        if !settings.is_empty() {
            body.insert("settings".to_owned(), Value::Object(settings));
        }
        body.extend(word(self.signatures).map(|word| ("signatures".to_owned(), word)));
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
