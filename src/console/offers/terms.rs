//! The terms of an offer, as a form has them.

use serde_json::{Map, Value, json};

use super::super::{
    fields::Fields,
    sheet::{Group, Input},
    viewer::Viewer,
};

/// The languages that a form has texts in. Texts in others stay as they are.
const LANGUAGES: [&str; 2] = ["en", "zh"];
/// The texts, as the API calls them.
const TEXTS: [&str; 5] = ["description", "channel", "waiting", "upgrading", "remind"];
/// Parts of a device, by their numbers.
const CHANNELS: [&str; 17] = [
    "0", "1", "2", "3", "5", "6", "9", "10", "11", "12", "13", "14", "15", "16", "17", "18", "19",
];
const KINDS: [&str; 3] = ["0", "2", "3"];
/// Stages that there may be.
const MAX_STAGES: usize = 10;
/// Empty rows for more of them.
const FURTHER: usize = 2;

/// The terms as a form sends them.
pub(super) fn entered(at: &Viewer, terms: &Value) -> Fields {
    let mut fields = Vec::new();
    let mut add = |name: String, value: &Value| {
        let text = match value {
            Value::Null => String::new(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        fields.push((name, text));
    };
    for name in ["channel", "kind", "mode", "percent"] {
        add(name.to_owned(), &terms[name]);
    }
    if terms["controllable"] == true {
        add("controllable".to_owned(), &Value::from("1"));
    }
    for name in ["battery_percent", "rsrp_dbm"] {
        add(name.to_owned(), &terms["conditions"][name]);
    }
    let from = terms["conditions"]["from"].as_array();
    let from = from.into_iter().flatten().filter_map(Value::as_str);
    let from: Vec<_> = from.collect();
    add("from".to_owned(), &Value::from(from.join("\n")));
    for text in TEXTS {
        for language in LANGUAGES {
            add(
                format!("{text}.{language}"),
                &terms["texts"][text][language],
            );
        }
    }
    for stage in terms["stages"].as_array().into_iter().flatten() {
        let time = stage["from"].as_str().unwrap_or_default();
        let time = time.parse().map(|time| at.zone.for_input(time));
        add(
            "stage_from".to_owned(),
            &Value::from(time.unwrap_or_default()),
        );
        add("stage_percent".to_owned(), &stage["percent"]);
    }
    // what the form has no inputs for goes through it
    add(
        "further".to_owned(),
        &Value::from(further(&terms["texts"]).to_string()),
    );
    Fields(fields)
}

/// The texts in languages that the form does not have.
fn further(texts: &Value) -> Value {
    let mut kept = Map::new();
    for (text, said) in texts.as_object().into_iter().flatten() {
        let said = said.as_object().into_iter().flatten();
        let said = said.filter(|(language, _)| !LANGUAGES.contains(&language.as_str()));
        let said: Map<_, _> = said.map(|(k, v)| (k.clone(), v.clone())).collect();
        if !said.is_empty() {
            kept.insert(text.clone(), said.into());
        }
    }
    Value::Object(kept)
}

/// What one of the terms that are numbers is called: `channel`, `kind`, `mode`.
pub(super) fn called(at: &Viewer, name: &str) -> String {
    match name {
        "channel" => at.t("offer-channel"),
        "kind" => at.t("offer-kind"),
        _ => at.t("offer-mode"),
    }
}

/// What a number means there.
pub(super) fn number_told(at: &Viewer, name: &str, number: &str) -> String {
    match name {
        "channel" => at.word("offer-channel", number),
        "kind" => at.word("offer-kind", number),
        _ => at.word("offer-mode", number),
    }
}

/// The inputs, with what was entered.
pub(super) fn groups(at: &Viewer, entered: &Fields) -> Vec<Group> {
    let numbered = |name: &'static str, known: &[&str]| {
        let choices = known
            .iter()
            .map(|it| ((*it).to_owned(), number_told(at, name, it)));
        Input::choice(name, called(at, name), choices.collect()).value(entered.get(name))
    };
    let number = |name: &'static str, text| {
        Input::typed(name, at.t(text), "number").value(entered.get(name))
    };
    let what = vec![
        numbered("channel", &CHANNELS),
        numbered("kind", &KINDS),
        numbered("mode", &["0", "1"]),
        Input::tick("controllable", at.t("offer-controllable"))
            .ticked(entered.ticked("controllable")),
    ];
    let conditions = vec![
        Input::area("from", at.t("offer-from"))
            .value(entered.get("from"))
            .hint(at.t("offer-from-hint")),
        number("battery_percent", "offer-battery").hint(at.t("empty-none")),
        number("rsrp_dbm", "offer-rsrp").hint(at.t("empty-none")),
    ];
    let mut groups = vec![
        Group::of(what),
        Group {
            legend: at.t("offer-conditions"),
            inputs: conditions,
        },
    ];
    groups.extend(LANGUAGES.map(|language| {
        Group {
            legend: at.word("offer-texts", language),
            inputs: TEXTS
                .map(|text| {
                    let name = format!("{text}.{language}");
                    let value = entered.get(&name).to_owned();
                    Input::area(name, at.word("offer-text", text)).value(value)
                })
                .into(),
        }
    }));
    groups.push(stages(at, entered));
    groups
}

fn stages(at: &Viewer, entered: &Fields) -> Group {
    let percent = Input::typed("percent", at.t("offer-percent"), "number")
        .value(entered.get("percent"))
        .hint(at.t("offer-percent-hint"));
    let mut inputs = vec![percent];
    let mut rows = rows(entered);
    let shown = (rows.len() + FURTHER).min(MAX_STAGES).max(rows.len());
    rows.resize(shown, ("", ""));
    for (i, (from, percent)) in rows.into_iter().enumerate() {
        let from_text = at.t1("offer-stage-from", "number", i + 1);
        let percent_text = at.t1("offer-stage-percent", "number", i + 1);
        inputs.push(Input::typed("stage_from", from_text, "datetime-local").value(from));
        inputs.push(Input::typed("stage_percent", percent_text, "number").value(percent));
    }
    Group {
        legend: at.t("offer-stages"),
        inputs,
    }
}

/// The stages of a form.
fn rows(fields: &Fields) -> Vec<(&str, &str)> {
    let percents = fields.all("stage_percent");
    let rows = fields.all("stage_from").zip(percents);
    let rows = rows.take(MAX_STAGES + FURTHER);
    rows.filter(|(from, percent)| !from.is_empty() || !percent.is_empty())
        .collect()
}

/// A number; what is none goes on as it is, and the API says so.
fn number(text: &str) -> Value {
    text.parse::<i64>()
        .map_or_else(|_| Value::from(text), Value::from)
}

/// What a form says, as the API takes it.
pub(super) fn read(at: &Viewer, fields: &Fields) -> Value {
    let mut terms = Map::new();
    for name in ["channel", "kind", "mode", "percent"] {
        if let Some(text) = fields.some(name) {
            terms.insert(name.to_owned(), number(text));
        }
    }
    terms.insert(
        "controllable".to_owned(),
        fields.ticked("controllable").into(),
    );
    let from = fields.get("from").lines().map(str::trim);
    let from: Vec<_> = from.filter(|line| !line.is_empty()).collect();
    let mut conditions = json!({ "from": from });
    for name in ["battery_percent", "rsrp_dbm"] {
        if let Some(text) = fields.some(name) {
            conditions[name] = number(text);
        }
    }
    terms.insert("conditions".to_owned(), conditions);
    terms.insert("texts".to_owned(), texts(fields));
    let stages = rows(fields).into_iter().map(|(from, percent)| {
        let from = at.zone.of_input(from).unwrap_or_else(|| from.to_owned());
        json!({"from": from, "percent": number(percent)})
    });
    terms.insert("stages".to_owned(), stages.collect());
    Value::Object(terms)
}

fn texts(fields: &Fields) -> Value {
    let kept: Value = serde_json::from_str(fields.get("further")).unwrap_or_default();
    let mut texts = Map::new();
    for text in TEXTS {
        let kept = kept.get(text).and_then(Value::as_object);
        let mut said = kept.cloned().unwrap_or_default();
        for language in LANGUAGES {
            if let Some(it) = fields.some(&format!("{text}.{language}")) {
                said.insert(language.to_owned(), it.replace("\r\n", "\n").into());
            }
        }
        if !said.is_empty() {
            texts.insert(text.to_owned(), said.into());
        }
    }
    Value::Object(texts)
}
