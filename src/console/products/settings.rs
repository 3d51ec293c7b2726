//! The settings of a product, as a form has them.

use serde_json::{Map, Value};

use super::super::{fields::Fields, sheet::Input, viewer::Viewer};

/// What a setting holds.
#[derive(Clone, Copy)]
enum Holds {
    /// Yes or no.
    Ticked,
    /// Yes, no, or as for all products.
    MaybeTicked,
    /// A number, or as for all products.
    MaybeNumber,
    /// A text, or none.
    MaybeText,
    /// One of these.
    One(&'static [&'static str]),
    /// One of these, or what the server chooses.
    MaybeOne(&'static [&'static str]),
}

/// All of them, as the API calls them. What they are called is said by the texts `product-setting-…`.
const SETTINGS: [(&str, Holds); 21] = [
    ("ota", Holds::One(&["firmware", "software"])),
    ("check_code", Holds::One(&["crc", "zero"])),
    ("pad_last_segment", Holds::Ticked),
    ("pmin_zero", Holds::Ticked),
    ("rsrp_unit", Holds::One(&["dbm", "index", "tenths"])),
    ("sinr_unit", Holds::One(&["db", "tenths"])),
    ("ack_timeout_ms", Holds::MaybeNumber),
    ("max_retransmit", Holds::MaybeNumber),
    ("awake_window_s", Holds::MaybeNumber),
    ("appointments", Holds::One(&["never", "lifetime"])),
    ("adaptive", Holds::MaybeTicked),
    ("ota_events", Holds::One(&["v1", "v2"])),
    ("iotda_large_downloads", Holds::Ticked),
    ("module", Holds::MaybeText),
    ("fixed_children", Holds::Ticked),
    ("per_gateway", Holds::MaybeNumber),
    (
        "update_by",
        Holds::One(&["auto", "pcp", "firmware", "software", "components"]),
    ),
    ("delivery", Holds::One(&["auto", "pull", "push"])),
    ("push_max_bytes", Holds::MaybeNumber),
    (
        "uri_scheme",
        Holds::MaybeOne(&["coap", "coaps", "http", "https"]),
    ),
    ("version_resource", Holds::MaybeText),
];

fn label(at: &Viewer, name: &str) -> String {
    at.word("product-setting", name)
}

/// What stands beside its name.
pub(super) fn told(at: &Viewer, value: &Value) -> String {
    match value {
        Value::Null => at.t("as-for-all"),
        Value::Bool(true) => at.t("set-yes"),
        Value::Bool(false) => at.t("set-no"),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Name and value of each, in the order of the form; what the form does not know comes last.
pub(super) fn facts(at: &Viewer, settings_of: &Map<String, Value>) -> Vec<(String, String)> {
    let known = SETTINGS
        .into_iter()
        .filter_map(|(name, _)| Some((name, settings_of.get(name)?)));
    let known: Vec<_> = known.collect();
    let further = settings_of
        .iter()
        .map(|(name, value)| (name.as_str(), value));
    let further = further.filter(|(name, _)| !known.iter().any(|(it, _)| it == name));
    let all = known.iter().copied().chain(further);
    all.map(|(name, value)| (label(at, name), told(at, value)))
        .collect()
}

/// The settings as a form sends them.
pub(super) fn entered(settings_of: &Map<String, Value>) -> Fields {
    let shown = |value: &Value| match value {
        Value::Null => String::new(),
        Value::Bool(ticked) => if *ticked { "yes" } else { "no" }.to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let fields = settings_of.iter();
    Fields(
        fields
            .map(|(name, value)| (name.clone(), shown(value)))
            .collect(),
    )
}

/// Words that are shown as the API calls them.
fn as_they_are(words: &'static [&'static str]) -> impl Iterator<Item = (String, String)> {
    words.iter().map(|w| ((*w).to_owned(), (*w).to_owned()))
}

/// The inputs, with what was entered.
pub(super) fn inputs(at: &Viewer, entered: &Fields) -> Vec<Input> {
    let input = |(name, holds): (&'static str, Holds)| {
        let choice = |choices: Vec<(String, String)>| Input::choice(name, label(at, name), choices);
        let yes_or_no =
            || [("yes", "set-yes"), ("no", "set-no")].map(|(v, t)| (v.to_owned(), at.t(t)));
        let hint = at.t("empty-as-for-all");
        let input = match holds {
            Holds::Ticked => choice(yes_or_no().into_iter().rev().collect()),
            Holds::MaybeTicked => {
                let mut choices = vec![(String::new(), at.t("as-for-all"))];
                choices.extend(yes_or_no());
                choice(choices)
            }
            Holds::One(words) => choice(as_they_are(words).collect()),
            Holds::MaybeOne(words) => {
                let unset = (String::new(), at.t("as-for-all"));
                choice([unset].into_iter().chain(as_they_are(words)).collect())
            }
            Holds::MaybeNumber => Input::typed(name, label(at, name), "number").hint(hint),
            Holds::MaybeText => Input::line(name, label(at, name)).hint(at.t("empty-none")),
        };
        input.value(entered.get(name))
    };
    SETTINGS.into_iter().map(input).collect()
}

/// What a form says, as the API takes it. What is no number goes on as it is: the API says so.
pub(super) fn read(fields: &Fields) -> Value {
    let value = |(name, holds): (&'static str, Holds)| {
        let text = fields.some(name);
        let value = match (holds, text) {
            (Holds::Ticked | Holds::MaybeTicked, Some(text)) => Value::from(text == "yes"),
            (Holds::Ticked | Holds::One(_), None) => return None,
            (_, None) => Value::Null,
            (Holds::MaybeNumber, Some(text)) => number(text),
            (Holds::One(_) | Holds::MaybeOne(_) | Holds::MaybeText, Some(text)) => {
                Value::from(text)
            }
        };
        Some((name.to_owned(), value))
    };
    Value::Object(SETTINGS.into_iter().filter_map(value).collect())
}

/// A number; what is none goes on as it is.
fn number(text: &str) -> Value {
    text.parse::<i64>()
        .map_or_else(|_| Value::from(text), Value::from)
}
