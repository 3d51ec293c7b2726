//! What can stand next in a filter (docs/fleet-and-filters.md).

use serde::Serialize;

use crate::filter::MAX_CHARACTERS;

/// Suggestions that are made at once.
const MOST: usize = 20;

/// What a field is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Number,
    Flag,
    Time,
}

/// The fields, but the tags. A test compares them with those of the language.
const FIELDS: [(&str, Kind); 21] = [
    ("endpoint", Kind::Text),
    ("product", Kind::Text),
    ("model", Kind::Text),
    ("hardware", Kind::Text),
    ("site", Kind::Text),
    ("time_zone", Kind::Text),
    ("version", Kind::Text),
    ("cell", Kind::Number),
    ("rsrp", Kind::Number),
    ("sinr", Kind::Number),
    ("lwm2m_version", Kind::Text),
    ("binding", Kind::Text),
    ("protocol", Kind::Text),
    ("via", Kind::Text),
    ("queue_mode", Kind::Flag),
    ("registered", Kind::Flag),
    ("secure", Kind::Flag),
    ("last_heard", Kind::Time),
    ("created", Kind::Time),
    ("wake_every", Kind::Number),
    ("tenant", Kind::Text),
];

/// What stands before the key of a tag.
const TAG: &str = "tag.";
/// The signs, the longer ones before those that they begin with.
const SIGNS: [&str; 12] = [
    "==", "!=", "=in=", "=out=", "=lt=", "=le=", "=gt=", "=ge=", "<=", ">=", "<", ">",
];
/// Those that are suggested: the others say the same.
const SUGGESTED: [&str; 8] = ["==", "!=", "<", "<=", ">", ">=", "=in=(", "=out=("];
/// Times that people ask for.
const AGO: [&str; 5] = ["-1h", "-1d", "-7d", "-30d", "-90d"];
const PROTOCOLS: [&str; 4] = ["lwm2m", "iotda", "thingspanel", "quecthing"];

/// What is expected where the cursor is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A field, which begins so.
    Field(String),
    /// A sign behind this field, which begins so.
    Sign(String, String),
    /// The list of `=in=`.
    List,
    /// A value of this field, which begins so.
    Value(String, String),
    /// What goes on behind a value of a list.
    Further,
    /// What joins comparisons, which begins so; whether a parenthesis is open.
    Joint(String, bool),
}

/// Where something is expected, and what of it is there: characters of the text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) wanted: Wanted,
    from: usize,
    to: usize,
}

/// What may be put in, as the script takes it: places are in units of UTF-16.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Suggestion {
    shown: String,
    text: String,
    from: usize,
    to: usize,
}

/// Why it is not read on.
enum Stop {
    /// The text ends, and something is expected there.
    At(Place),
    /// It is no filter.
    NoFilter,
}

/// Reads what stands before the cursor.
struct Reader<'t> {
    text: &'t [char],
    at: usize,
}

impl Reader<'_> {
    fn rest(&self) -> &[char] {
        &self.text[self.at..]
    }

    /// Here the text ends; `wanted` has begun at `from`.
    fn stop(&self, from: usize, wanted: Wanted) -> Stop {
        Stop::At(Place {
            wanted,
            from,
            to: self.at,
        })
    }

    fn is_at_end(&self) -> bool {
        self.at == self.text.len()
    }

    /// Passes over blanks; the next character.
    fn peek(&mut self) -> Option<char> {
        while self.rest().first().is_some_and(|c| c.is_whitespace()) {
            self.at += 1;
        }
        self.rest().first().copied()
    }

    fn word(&mut self, of: fn(char) -> bool) -> String {
        let word: String = self.rest().iter().take_while(|c| of(**c)).collect();
        self.at += word.chars().count();
        word
    }

    /// A value, and whether it may go on where the text ends.
    fn value(&mut self) -> (String, bool) {
        let quote = self.rest().first().copied().filter(|c| "'\"".contains(*c));
        self.at += usize::from(quote.is_some());
        let mut value = String::new();
        while let Some(c) = self.rest().first().copied() {
            match (c, quote) {
                ('\\', _) => {
                    self.at += 1;
                    value.extend(self.rest().first());
                }
                (c, Some(quote)) if c == quote => {
                    self.at += 1;
                    return (value, false);
                }
                (c, None) if c.is_whitespace() || "\"'(),;=!<>".contains(c) => {
                    return (value, false);
                }
                (c, _) => value.push(c),
            }
            self.at = (self.at + 1).min(self.text.len());
        }
        (value, true)
    }
}

fn in_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || "._-".contains(c)
}

fn kind(field: &str) -> Option<Kind> {
    if field.len() > TAG.len() && field.starts_with(TAG) {
        return Some(Kind::Text);
    }
    let found = FIELDS.iter().find(|(name, _)| *name == field);
    found.map(|(_, kind)| *kind)
}

/// What is expected at the cursor, which stands before the unit `at` of UTF-16. `None`: what stands before it is no filter.
pub(super) fn place(text: &str, at: usize) -> Option<Place> {
    let all: Vec<char> = text.chars().take(MAX_CHARACTERS).collect();
    let cursor = characters(&all, at);
    let mut reader = Reader {
        text: &all[..cursor],
        at: 0,
    };
    match read(&mut reader) {
        Stop::At(place) => Some(reach(place, &all)),
        Stop::NoFilter => None,
    }
}

/// Reads comparisons and what joins them, to the end of the text.
fn read(reader: &mut Reader<'_>) -> Stop {
    let mut depth = 0;
    loop {
        let read = comparison(reader, &mut depth).and_then(|()| joint(reader, &mut depth));
        if let Err(stop) = read {
            return stop;
        }
    }
}

/// How many characters the first units are.
fn characters(text: &[char], units: usize) -> usize {
    let mut left = units;
    let fits = |c: &&char| {
        let rest = left.checked_sub(c.len_utf16());
        left = rest.unwrap_or(0);
        rest.is_some()
    };
    text.iter().take_while(fits).count()
}

/// A name is replaced as a whole, also where the cursor is within it.
fn reach(mut place: Place, all: &[char]) -> Place {
    if matches!(place.wanted, Wanted::Field(_)) {
        let rest = all[place.to..].iter();
        place.to += rest.take_while(|c| in_name(**c)).count();
    }
    place
}

/// Reads a comparison.
fn comparison(reader: &mut Reader<'_>, depth: &mut usize) -> Result<(), Stop> {
    while reader.peek() == Some('(') {
        reader.at += 1;
        *depth += 1;
    }
    let from = reader.at;
    let field = reader.word(in_name);
    if reader.is_at_end() {
        return Err(reader.stop(from, Wanted::Field(field)));
    }
    if kind(&field).is_none() {
        return Err(Stop::NoFilter);
    }
    reader.peek();
    let from = reader.at;
    let rest: String = reader.rest().iter().take("=out=".len()).collect();
    let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) else {
        let begins = SIGNS.into_iter().any(|sign| sign.starts_with(&rest));
        reader.at = reader.text.len();
        return Err(if begins {
            reader.stop(from, Wanted::Sign(field, rest))
        } else {
            Stop::NoFilter
        });
    };
    reader.at += sign.len();
    if !matches!(sign, "=in=" | "=out=") {
        return value(reader, field);
    }
    match reader.peek() {
        None => return Err(reader.stop(reader.at, Wanted::List)),
        Some('(') => reader.at += 1,
        Some(_) => return Err(Stop::NoFilter),
    }
    loop {
        value(reader, field.clone())?;
        match reader.peek() {
            None => return Err(reader.stop(reader.at, Wanted::Further)),
            Some(',') => reader.at += 1,
            Some(')') => break,
            Some(_) => return Err(Stop::NoFilter),
        }
    }
    reader.at += 1;
    Ok(())
}

fn value(reader: &mut Reader<'_>, field: String) -> Result<(), Stop> {
    reader.peek();
    let from = reader.at;
    let (typed, goes_on) = reader.value();
    if goes_on {
        return Err(reader.stop(from, Wanted::Value(field, typed)));
    }
    // there is none before something else
    (reader.at > from).then_some(()).ok_or(Stop::NoFilter)
}

/// Reads what joins comparisons.
fn joint(reader: &mut Reader<'_>, depth: &mut usize) -> Result<(), Stop> {
    loop {
        let next = reader.peek();
        let from = reader.at;
        match next {
            Some(';' | ',') => {
                reader.at += 1;
                return Ok(());
            }
            Some(')') if *depth > 0 => {
                reader.at += 1;
                *depth -= 1;
            }
            _ => {
                let word = reader.word(|c| c.is_ascii_alphabetic());
                if reader.is_at_end() {
                    return Err(reader.stop(from, Wanted::Joint(word, *depth > 0)));
                }
                let is_joint = ["and", "or"]
                    .iter()
                    .any(|it| it.eq_ignore_ascii_case(&word));
                return is_joint.then_some(()).ok_or(Stop::NoFilter);
            }
        }
    }
}

impl Place {
    /// What may stand there. `known`: values of the field, or keys of tags, which the fleet has.
    pub(super) fn suggestions(&self, text: &str, known: &[String]) -> Vec<Suggestion> {
        let chars: Vec<char> = text.chars().take(MAX_CHARACTERS).collect();
        let units = |count: usize| chars.iter().take(count).map(|c| c.len_utf16()).sum();
        let (from, to) = (units(self.from), units(self.to));
        let texts = self.texts(known).into_iter().take(MOST);
        let suggestion = |text: String| Suggestion {
            shown: text.trim().to_owned(),
            text,
            from,
            to,
        };
        texts.map(suggestion).collect()
    }

    fn texts(&self, known: &[String]) -> Vec<String> {
        let plain = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
        match &self.wanted {
            Wanted::Field(typed) => fields(typed, known),
            Wanted::Sign(field, typed) => signs(field, typed),
            Wanted::List => plain(&["("]),
            Wanted::Further => plain(&[",", ")"]),
            Wanted::Joint(typed, is_open) => {
                let typed = typed.to_ascii_lowercase();
                let mut texts: Vec<&str> = ["and ", "or "]
                    .into_iter()
                    .filter(|word| word.starts_with(&typed))
                    .collect();
                if *is_open && typed.is_empty() {
                    texts.push(")");
                }
                plain(&texts)
            }
            Wanted::Value(field, typed) => values(field, typed, known),
        }
    }
}

fn fields(typed: &str, keys: &[String]) -> Vec<String> {
    if let Some(kind) = kind(typed) {
        return possible(kind)
            .map(|sign| format!("{typed}{sign}"))
            .collect();
    }
    let names = FIELDS.iter().map(|(name, _)| (*name).to_owned());
    let tags = keys.iter().map(|key| format!("{TAG}{key}"));
    let names = names.chain(tags);
    names.filter(|name| name.starts_with(typed)).collect()
}

/// Flags are compared by two signs only.
fn possible(kind: Kind) -> impl Iterator<Item = &'static str> {
    let signs = SUGGESTED.into_iter();
    signs.filter(move |sign| kind != Kind::Flag || ["==", "!="].contains(sign))
}

fn signs(field: &str, typed: &str) -> Vec<String> {
    let signs = kind(field).into_iter().flat_map(possible);
    let signs = signs.filter(|sign| sign.starts_with(typed));
    signs.map(str::to_owned).collect()
}

fn values(field: &str, typed: &str, known: &[String]) -> Vec<String> {
    let fixed: &[&str] = match kind(field) {
        Some(Kind::Flag) => &["true", "false"],
        Some(Kind::Time) => &AGO,
        _ if field == "protocol" => &PROTOCOLS,
        _ => &[],
    };
    let known = known.iter().map(String::as_str);
    let all = fixed.iter().copied().chain(known);
    all.filter(|value| value.starts_with(typed))
        .map(quoted)
        .collect()
}

/// A value as a filter has it.
pub(in crate::console::fleet) fn quoted(value: &str) -> String {
    let is_bare = |c: char| c.is_ascii_alphanumeric() || "-._~:@/".contains(c);
    if !value.is_empty() && value.chars().all(is_bare) {
        return value.to_owned();
    }
    let mut quoted = String::from("'");
    for c in value.chars() {
        if "'\\*".contains(c) {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('\'');
    quoted
}

/// The filter that lets through whose field begins so; `None` where its values are not asked for.
pub(super) fn beginning(field: &str, typed: &str) -> Option<String> {
    match kind(field)? {
        Kind::Text if field != "protocol" && typed.is_empty() => Some(format!("{field}==*")),
        Kind::Text if field != "protocol" => {
            let text = quoted(typed);
            Some(match text.strip_suffix('\'') {
                Some(open) => format!("{field}=={open}*'"),
                None => format!("{field}=={text}*"),
            })
        }
        Kind::Number if field == "cell" => Some("cell>=0".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::Filter;

    fn wanted(text: &str) -> Option<Wanted> {
        place(text, text.encode_utf16().count()).map(|place| place.wanted)
    }

    fn suggested(text: &str, known: &[&str]) -> Vec<String> {
        let known: Vec<String> = known.iter().map(|it| (*it).to_owned()).collect();
        let place = place(text, text.encode_utf16().count()).unwrap();
        let found = place.suggestions(text, &known);
        found.into_iter().map(|it| it.text).collect()
    }

    #[test]
    fn the_fields_are_those_of_the_language() {
        let error = Filter::parse("nothing==1").unwrap_err().reason;
        let (_, told) = error.split_once("one of ").unwrap();
        let mut told: Vec<&str> = told.split(',').map(str::trim).collect();
        told.retain(|name| *name != "tag.KEY");
        assert_eq!(told, FIELDS.map(|(name, _)| name));
        for (name, kind) in FIELDS {
            let value = match kind {
                Kind::Text => "x",
                Kind::Number => "1",
                Kind::Flag => "true",
                Kind::Time => AGO[0],
            };
            for sign in possible(kind) {
                let end = if sign.ends_with('(') { ")" } else { "" };
                let filter = format!("{name}{sign}{value}{end}");
                assert!(Filter::parse(&filter).is_ok(), "{filter}");
            }
        }
        for sign in SIGNS {
            let list = if sign.ends_with("n=") || sign == "=out=" {
                "(x)"
            } else {
                "x"
            };
            let filter = format!("site{sign}{list}");
            assert!(Filter::parse(&filter).is_ok(), "{filter}");
        }
    }

    #[test]
    fn what_is_expected_is_known_at_every_place() {
        let field = |typed: &str| Some(Wanted::Field(typed.into()));
        let sign = |field: &str, typed: &str| Some(Wanted::Sign(field.into(), typed.into()));
        let value = |field: &str, typed: &str| Some(Wanted::Value(field.into(), typed.into()));
        let joint = |typed: &str, open| Some(Wanted::Joint(typed.into(), open));
        for (text, expected) in [
            ("", field("")),
            ("  pro", field("pro")),
            ("((si", field("si")),
            ("product ", sign("product", "")),
            ("product=", sign("product", "=")),
            ("tag.owner =i", sign("tag.owner", "=i")),
            ("product==", value("product", "")),
            ("product==me", value("product", "me")),
            ("product=='me ter", value("product", "me ter")),
            ("site==a\\'b", value("site", "a'b")),
            ("site==a\\", value("site", "a")),
            ("product==meter ", joint("", false)),
            ("product=='meter'", joint("", false)),
            ("(product==meter ", joint("", true)),
            ("(product==meter) ", joint("", false)),
            ("product==meter an", joint("an", false)),
            ("product==meter and ", field("")),
            ("product==meter;version<", value("version", "")),
            ("product==meter or (site=in=", Some(Wanted::List)),
            ("site=in=(", value("site", "")),
            ("site=in=(a, b", value("site", "b")),
            ("site=in=(a ", Some(Wanted::Further)),
            ("site=in=(a,b) ", joint("", false)),
            // no filters
            ("nothing=", None),
            ("product==meter site", joint("site", false)),
            ("product==meter site ", None),
            ("=", None),
            ("site=x", None),
            ("site=in=x ", None),
            ("site==;", None),
            (")", None),
            ("site==a ) ", None),
        ] {
            assert_eq!(wanted(text), expected, "{text:?}");
        }
    }

    #[test]
    fn what_is_suggested_goes_on_with_what_is_there() {
        assert_eq!(suggested("si", &[]), ["site", "sinr"]);
        assert_eq!(suggested("tag.o", &["owner", "x"]), ["tag.owner"]);
        assert_eq!(suggested("secure", &[]), ["secure==", "secure!="]);
        assert_eq!(suggested("secure!", &[]).len(), 0);
        assert_eq!(suggested("site =", &[]), ["==", "=in=(", "=out=("]);
        assert_eq!(suggested("secure==t", &[]), ["true"]);
        assert_eq!(suggested("last_heard<-7", &[]), ["-7d"]);
        assert_eq!(suggested("protocol==i", &[]), ["iotda"]);
        assert_eq!(suggested("site==a a", &["a a"]), ["and "]);
        assert_eq!(suggested("site=='a a", &["a a", "b"]), ["'a a'"]);
        assert_eq!(suggested("(site==a ", &[]), ["and ", "or ", ")"]);
        assert_eq!(suggested("site==a o", &[]), ["or "]);
        let many: Vec<String> = (0..50).map(|i| format!("s{i}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(suggested("site==", &many).len(), MOST);
    }

    #[test]
    fn places_count_as_browsers_do() {
        let text = "site=='𝄞' and pro";
        let found = place(text, text.encode_utf16().count()).unwrap();
        let found = found.suggestions(text, &[]);
        assert_eq!((found[0].from, found[0].to), (15, 18));
        // in the middle of a name, and of a character
        let found = place("product==a", 3)
            .unwrap()
            .suggestions("product==a", &[]);
        assert_eq!((found[0].from, found[0].to), (0, 7));
        assert!(place("𝄞", 1).is_some());
        assert!(place("", usize::MAX).is_some());
    }

    #[test]
    fn a_value_is_read_back_as_it_is() {
        for value in [
            "meter", "a b", "it's", "a*b", "\\", "", "ü", "a,b;(c)", "\"", "-7",
        ] {
            let filter = Filter::parse(&format!("site=={}", quoted(value))).unwrap();
            let canonical = Filter::parse(&filter.to_string()).unwrap();
            assert_eq!(filter, canonical);
            let list = format!("site=in=({})", quoted(value));
            let list = Filter::parse(&list).unwrap().to_string();
            assert!(!list.is_empty());
            let begins = beginning("site", value).unwrap();
            assert!(Filter::parse(&begins).is_ok(), "{begins}");
        }
        assert_eq!(beginning("site", "a b").unwrap(), "site=='a b*'");
        assert_eq!(beginning("rsrp", "-1"), None);
        assert_eq!(beginning("nothing", ""), None);
    }

    #[test]
    fn no_text_is_too_odd() {
        let signs = [
            "(", ")", "'", "\\", "==", "=in=", "site", " ", ",", ";", "and", "𝄞",
        ];
        for a in signs {
            for b in signs {
                for c in signs {
                    for d in signs {
                        let text = format!("{a}{b}{c}{d}");
                        for at in 0..=text.encode_utf16().count() {
                            if let Some(place) = place(&text, at) {
                                place.suggestions(&text, &["x".to_owned()]);
                            }
                        }
                    }
                }
            }
        }
        let long = "(".repeat(100_000);
        assert!(place(&long, 100_000).is_some());
    }
}
