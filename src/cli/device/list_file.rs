//! A file of devices: a name a line, or comma-separated values, with or without a header.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde_json::{Value, json};

use super::described::Described;

use crate::{
    api::{Problem, check_endpoint},
    cli::{client::CommandError, output},
    config::check_product_name,
    ledger::{AttributeColumn, AttributesChange},
};

/// Columns that are no attributes.
const OWN: [&str; 9] = [
    "endpoint", "product", "identity", "key", "style", "secret", "token", "password", "via",
];

/// Longer than a list of a million devices with their keys.
const MAX_BYTES: u64 = 512 * 1024 * 1024;

/// A device of a list.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::cli) struct Entry {
    /// The line on which it stands.
    line: usize,
    pub(in crate::cli) endpoint: String,
    product: Option<String>,
    /// Identity and key.
    psk: Option<(String, String)>,
    /// What it shows over MQTT, as the API takes it.
    mqtt: Option<Value>,
    /// The gateway through which it is reached.
    via: Option<String>,
    /// Attributes and tags.
    attributes: Vec<(Arc<AttributeColumn>, String)>,
}

impl Entry {
    /// What the API is told of it. What it does not say itself, `others` say.
    pub(super) fn to_json(&self, product: &str, others: &Described) -> Value {
        let product = self.product.as_deref().unwrap_or(product);
        let mut device = json!({"endpoint": self.endpoint, "product": product});
        others.add_to(&mut device);
        if let Some((identity, key)) = &self.psk {
            device["psk"] = json!({"identity": identity, "key": key});
        }
        if let Some(mqtt) = &self.mqtt {
            device["mqtt"].clone_from(mqtt);
        }
        if let Some(via) = &self.via {
            device["via"] = json!(via);
        }
        for (column, value) in &self.attributes {
            match &**column {
                AttributeColumn::Attribute(attribute) => device[attribute.name()] = json!(value),
                AttributeColumn::Tag(key) => device["tags"][key] = json!(value),
            }
        }
        device
    }
}

/// Reads the list in a file, or on standard input where the path is `-`.
pub(in crate::cli) fn read(path: &Path) -> Result<Vec<Entry>, CommandError> {
    let unreadable = |source| CommandError::File {
        path: PathBuf::from(path),
        source,
    };
    let from: Box<dyn Read> = if path.as_os_str() == "-" {
        Box::new(io::stdin())
    } else {
        Box::new(File::open(path).map_err(unreadable)?)
    };
    let mut text = String::new();
    from.take(MAX_BYTES + 1)
        .read_to_string(&mut text)
        .map_err(unreadable)?;
    if text.len() as u64 > MAX_BYTES {
        let longer = format!("it is longer than {MAX_BYTES} bytes; cut it into parts");
        return Err(unreadable(io::Error::other(longer)));
    }
    parse(&text).map_err(CommandError::Arguments)
}

/// An error names the line and does not show it: it may hold a key.
fn parse(text: &str) -> Result<Vec<Entry>, String> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut lines = (1..)
        .zip(text.lines().map(str::trim))
        .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        .peekable();
    let header = match lines.peek() {
        Some((number, line)) => Header::of(line).map_err(|problem| on_line(*number, &problem))?,
        None => None,
    };
    if header.is_some() {
        lines.next();
    }
    lines
        .map(|(number, line)| {
            let entry = match &header {
                Some(header) => header.entry(number, line),
                None => plain(number, line),
            };
            entry
                .and_then(Entry::checked)
                .map_err(|problem| on_line(number, &problem))
        })
        .collect()
}

fn on_line(number: usize, problem: &str) -> String {
    format!("line {number} of the list: {problem}")
}

impl Entry {
    fn checked(self) -> Result<Self, String> {
        if self.endpoint.eq_ignore_ascii_case("endpoint") {
            return Err("a header; it is possible on the first line only".to_owned());
        }
        check_endpoint(self.endpoint.as_bytes()).map_err(|error| error.to_string())?;
        if let Some(product) = &self.product {
            check_product_name(product)?;
        }
        let mut attributes = AttributesChange::default();
        for (column, value) in &self.attributes {
            (attributes.set_column(column, value.clone())).map_err(|error| error.to_string())?;
        }
        Ok(self)
    }
}

/// A line of a list without header. The identity may contain commas.
fn plain(number: usize, line: &str) -> Result<Entry, String> {
    let (endpoint, psk) = match line.split_once(',') {
        None => (line, None),
        Some((endpoint, rest)) => {
            let Some((identity, key)) = rest.rsplit_once(',') else {
                return Err("it is neither ENDPOINT nor ENDPOINT,IDENTITY,KEY".to_owned());
            };
            let psk = (identity.trim().to_owned(), key.trim().to_owned());
            (endpoint.trim(), Some(psk))
        }
    };
    Ok(Entry {
        line: number,
        endpoint: endpoint.to_owned(),
        product: None,
        psk,
        mqtt: None,
        via: None,
        attributes: Vec::new(),
    })
}

/// What a device shows over MQTT. A style alone stands for a certificate, or for the gateway through which it is reached.
fn mqtt(
    style: Option<String>,
    shown: [(&'static str, Option<String>); 3],
    by_gateway: bool,
) -> Result<Option<Value>, String> {
    let Some(style) = style else {
        return match shown.iter().find(|(_, value)| value.is_some()) {
            Some((name, _)) => Err(format!("it has {name}, and no style")),
            None => Ok(None),
        };
    };
    let mut mqtt = json!({"style": style.to_lowercase()});
    for (name, value) in shown {
        if let Some(value) = value {
            mqtt[name] = json!(value);
        }
    }
    if mqtt["secret"].is_null() && mqtt["token"].is_null() {
        let shows = if by_gateway { "gateway" } else { "certificate" };
        mqtt[shows] = json!(true);
    }
    Ok(Some(mqtt))
}

/// Which column is what.
#[derive(Debug, Default)]
struct Header {
    columns: usize,
    endpoint: usize,
    product: Option<usize>,
    identity: Option<usize>,
    key: Option<usize>,
    style: Option<usize>,
    secret: Option<usize>,
    token: Option<usize>,
    password: Option<usize>,
    via: Option<usize>,
    attributes: Vec<(usize, Arc<AttributeColumn>)>,
}

impl Header {
    /// The columns that the first line names. One without `endpoint` is no header.
    fn of(line: &str) -> Result<Option<Self>, String> {
        let Ok(names) = fields(line) else {
            return Ok(None); // as a device, it will be told what is wrong with it
        };
        let written = names;
        let names: Vec<String> = written.iter().map(|name| name.to_lowercase()).collect();
        let place = |wanted: &str| names.iter().position(|name| name == wanted);
        let Some(endpoint) = place("endpoint") else {
            let other = (names.first()).and_then(|first| first.strip_prefix("endpoint"));
            return match other.and_then(|rest| rest.chars().next()) {
                Some(separator @ (';' | '\t' | '|')) => Err(format!(
                    "the columns are separated by {separator:?}; write commas"
                )),
                _ => Ok(None),
            };
        };
        for known in OWN {
            if names.iter().filter(|name| *name == known).count() > 1 {
                return Err(format!("the header names {known} twice"));
            }
        }
        let (identity, key) = (place("identity"), place("key"));
        if identity.is_some() != key.is_some() {
            return Err("the header names one of identity and key; they go together".to_owned());
        }
        let mut attributes: Vec<(usize, Arc<AttributeColumn>)> = Vec::new();
        let mut others = Vec::new();
        for (index, name) in written.iter().enumerate() {
            match AttributeColumn::named(name).map_err(|error| error.to_string())? {
                Some(column) if attributes.iter().any(|(_, other)| **other == column) => {
                    return Err(format!("the header names {name} twice"));
                }
                Some(column) => attributes.push((index, Arc::new(column))),
                None if OWN.contains(&names[index].as_str()) => {}
                None => others.push(name.as_str()),
            }
        }
        if !others.is_empty() {
            output::remark(&format!("columns that are not used: {}", others.join(", ")));
        }
        Ok(Some(Self {
            columns: names.len(),
            endpoint,
            product: place("product"),
            identity,
            key,
            style: place("style"),
            secret: place("secret"),
            token: place("token"),
            password: place("password"),
            via: place("via"),
            attributes,
        }))
    }

    fn entry(&self, number: usize, line: &str) -> Result<Entry, String> {
        let mut found = fields(line)?;
        if found.len() != self.columns {
            return Err(format!(
                "it has {} fields, and the header {}",
                found.len(),
                self.columns
            ));
        }
        let mut take = |column: Option<usize>| {
            column
                .and_then(|column| found.get_mut(column).map(std::mem::take))
                .filter(|field| !field.is_empty())
        };
        let psk = match (take(self.identity), take(self.key)) {
            (Some(identity), Some(key)) => Some((identity, key)),
            (None, None) => None,
            _ => return Err("it has one of identity and key; they go together".to_owned()),
        };
        let style = take(self.style);
        let shown = [
            ("secret", take(self.secret)),
            ("token", take(self.token)),
            ("password", take(self.password)),
        ];
        let via = take(self.via);
        let mqtt = mqtt(style, shown, via.is_some())?;
        let attributes = (self.attributes.iter())
            .filter_map(|(index, column)| Some((Arc::clone(column), take(Some(*index))?)));
        let attributes = attributes.collect();
        Ok(Entry {
            line: number,
            endpoint: take(Some(self.endpoint)).unwrap_or_default(),
            product: take(self.product),
            psk,
            mqtt,
            via,
            attributes,
        })
    }
}

/// The fields of a line. One in quotation marks may contain commas, and quotation marks twice (RFC 4180 §2).
fn fields(line: &str) -> Result<Vec<String>, String> {
    let mut found = Vec::new();
    let mut rest = line;
    loop {
        rest = rest.trim_start();
        let (field, after) = match rest.strip_prefix('"') {
            None => {
                let end = rest.find(',').unwrap_or(rest.len());
                (rest[..end].trim().to_owned(), &rest[end..])
            }
            Some(quoted) => {
                let mut field = String::new();
                let mut quoted = quoted;
                loop {
                    let (part, after) = quoted
                        .split_once('"')
                        .ok_or("a quotation mark is not closed")?;
                    field.push_str(part);
                    match after.strip_prefix('"') {
                        Some(after) => {
                            field.push('"');
                            quoted = after;
                        }
                        None => break (field, after.trim_start()),
                    }
                }
            }
        };
        found.push(field);
        match after.strip_prefix(',') {
            Some(after) => rest = after,
            None if after.is_empty() => return Ok(found),
            None => return Err("something follows a closed quotation mark".to_owned()),
        }
    }
}

/// A list whose devices are sent in parts, behind others.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sent<'l> {
    pub(super) list: &'l [Entry],
    /// Devices that were sent before the part.
    pub(super) before: usize,
    /// Devices before the list.
    pub(super) others: usize,
}

impl Sent<'_> {
    /// The line of `devices[7].psk`, and what follows.
    pub(super) fn line_of(self, field: &str) -> Option<(usize, &str)> {
        let (index, rest) = field.strip_prefix("devices[")?.split_once(']')?;
        let index = index.parse::<usize>().ok()?.checked_add(self.before)?;
        let entry = self.list.get(index.checked_sub(self.others)?)?;
        Some((entry.line, rest))
    }

    /// Tells of lines what the server told of places in a request.
    pub(super) fn by_line(self, problem: &mut Problem) {
        let mut moved = false;
        for error in &mut problem.errors {
            if let Some((line, rest)) = self.line_of(&error.field) {
                error.field = format!("line {line} of the list{rest}");
                moved = true;
            }
        }
        if moved {
            let details: Vec<String> = (problem.errors.iter())
                .map(|error| format!("{}: {}", error.field, error.detail))
                .collect();
            problem.detail = details.join("; ").into();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(line: usize, endpoint: &str, product: Option<&str>, psk: Option<[&str; 2]>) -> Entry {
        Entry {
            line,
            endpoint: endpoint.to_owned(),
            product: product.map(ToOwned::to_owned),
            psk: psk.map(|[identity, key]| (identity.to_owned(), key.to_owned())),
            mqtt: None,
            via: None,
            attributes: Vec::new(),
        }
    }

    #[test]
    fn columns_say_what_devices_show_over_mqtt() {
        let text = "endpoint,style,secret,token,password\na,iotda,s3cret,,\nb,ThingsPanel,,t0ken,w0rd\n\
             c,iotda,,,\nd,,,,\n";
        let told: Vec<Value> = (parse(text).unwrap().iter())
            .map(|entry| entry.to_json("p", &Described::default())["mqtt"].clone())
            .collect();
        let expected = [
            json!({"style": "iotda", "secret": "s3cret"}),
            json!({"style": "thingspanel", "token": "t0ken", "password": "w0rd"}),
            json!({"style": "iotda", "certificate": true}),
            Value::Null,
        ];
        assert_eq!(told, expected);
        let error = parse("endpoint,secret\na,s3cret\n").unwrap_err();
        assert_eq!(error, "line 2 of the list: it has secret, and no style");
    }

    #[test]
    fn columns_bring_attributes_and_tags() {
        let text = "Model,endpoint,tag.Owner,site\nM1,a,\"north, \"\"1\"\"\",\n,b,,\n";
        let entries = parse(text).unwrap();
        let others = Described {
            model: Some("M2".to_owned()),
            tags: vec!["Batch=7".parse().unwrap()],
            ..Described::default()
        };
        let told: Vec<Value> = (entries.iter())
            .map(|entry| entry.to_json("p", &others))
            .collect();
        let tags = json!({"Owner": "north, \"1\"", "Batch": "7"});
        assert_eq!(
            told,
            [
                json!({"endpoint": "a", "product": "p", "model": "M1", "tags": tags}),
                json!({"endpoint": "b", "product": "p", "model": "M2", "tags": {"Batch": "7"}}),
            ]
        );
        for (text, expected) in [
            (
                "endpoint,site,SITE\n",
                "line 1 of the list: the header names SITE twice",
            ),
            ("endpoint,tag.a b\n", "line 1 of the list: a tag's key has"),
            (
                "endpoint,time_zone\na,Bonn\n",
                "line 2 of the list: \"Bonn\" is no IANA name",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
        }
    }

    #[test]
    fn a_list_without_header_is_names_or_names_with_keys() {
        let text = "\u{feff}# meters\r\nurn:imei:1\r\n\r\n urn:imei:2 , of, two, 0A0B \n";
        let expected = [
            entry(2, "urn:imei:1", None, None),
            entry(4, "urn:imei:2", None, Some(["of, two", "0A0B"])),
        ];
        assert_eq!(parse(text).unwrap(), expected);
    }

    #[test]
    fn a_header_says_which_column_is_what_and_is_no_device() {
        let text = "\u{feff}Product,note,ENDPOINT,key,identity\n\
             meter,,urn:imei:1,0a,\"one, \"\"first\"\"\"\n,\"x\",urn:imei:2,,\n";
        let expected = [
            entry(
                2,
                "urn:imei:1",
                Some("meter"),
                Some(["one, \"first\"", "0a"]),
            ),
            entry(3, "urn:imei:2", None, None),
        ];
        assert_eq!(parse(text).unwrap(), expected);
        assert_eq!(parse("endpoint\n").unwrap(), []);
        assert_eq!(parse("").unwrap(), []);
    }

    #[test]
    fn what_is_wrong_is_told_by_line_without_the_key() {
        for (text, expected) in [
            ("a\n\na,5e", "line 3 of the list: it is neither ENDPOINT"),
            ("# x\na b", "line 2 of the list: ' ' is not possible"),
            ("..", "line 1 of the list: \".\" and \"..\" cannot be"),
            (
                "endpoint;product\na;m\n",
                "line 1 of the list: the columns are separated by ';'; write commas",
            ),
            ("a\nendpoint\n", "line 2 of the list: a header"),
            ("a\nendpoint,x,5e\n", "line 2 of the list: a header"),
            (
                "endpoint,key\na,5e",
                "line 1 of the list: the header names one of",
            ),
            (
                "endpoint,endpoint\n",
                "line 1 of the list: the header names endpoint twice",
            ),
            (
                "endpoint,product\na\n",
                "line 2 of the list: it has 1 fields, and the header 2",
            ),
            (
                "endpoint,product\na,m m\n",
                "line 2 of the list: a product's name",
            ),
            (
                "endpoint,product\n,m\n",
                "line 2 of the list: an endpoint name has 1 to",
            ),
            (
                "endpoint,identity,key\na,b,\n",
                "line 2 of the list: it has one of",
            ),
            (
                "endpoint,identity,key\na,\"b,5e\n",
                "line 2 of the list: a quotation mark is not",
            ),
            (
                "endpoint,identity,key\na,\"b\"c,5e\n",
                "line 2 of the list: something follows",
            ),
        ] {
            let error = parse(text).unwrap_err();
            assert!(error.starts_with(expected), "{text:?}: {error}");
            assert!(!error.contains("5e"), "{error}");
        }
    }
}
