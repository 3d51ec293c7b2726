use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
};

use arrayvec::ArrayString;
use thiserror::Error;
use toml::{Table, Value};

use super::{Config, ProductConfig, ResourceText, UriScheme};

/// Read when no file is named, if it is there.
pub const DEFAULT_FILE: &str = "cellwise.toml";

const PREFIX: &str = "CELLWISE_";

/// Variables with our prefix that are no settings: the commands read them.
const NOT_SETTINGS: [&str; 7] = [
    "CELLWISE_API",
    "CELLWISE_CA_FILE",
    "CELLWISE_TOKEN",
    "CELLWISE_TOKEN_FILE",
    "CELLWISE_CONFIG",
    "CELLWISE_WEBHOOK_SECRET",
    "CELLWISE_SIM_PSK",
];

/// Why there are no settings to start with.
#[derive(Debug, Error)]
pub enum ConfigError {
    /// The file is not there or not readable.
    #[error("{}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file is no TOML, or has a key or a value that no setting has.
    #[error("{}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Where and what.
        problem: String,
    },
    /// Variables that are no settings, or values out of range: all of them.
    #[error("{}", lines(.0))]
    Invalid(Vec<Problem>),
}

/// One setting that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The key, as in `coap.listen`, or the variable, as in `CELLWISE_COAP__LISTEN`.
    pub setting: String,
    /// What is wrong with it, and what is allowed.
    pub problem: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.setting, self.problem)
    }
}

fn lines(problems: &[Problem]) -> String {
    let lines: Vec<String> = problems.iter().map(Problem::to_string).collect();
    lines.join("\n")
}

/// Reads the settings: `file` (or `cellwise.toml` if there is one and no other is named), overlaid by
/// the variables of `env` that begin with `CELLWISE_`, and checks them.
///
/// A variable's value is written as in TOML, strings with or without quotation marks.
pub fn load(
    file: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
) -> Result<Config, ConfigError> {
    match look(file, env)? {
        (Some(config), problems) if problems.is_empty() => Ok(config),
        (_, problems) => Err(ConfigError::Invalid(problems)),
    }
}

/// As [`load`], with all that is wrong beside the settings without it, where those make sense.
pub fn look(
    file: Option<&Path>,
    env: impl Iterator<Item = (String, String)>,
) -> Result<(Option<Config>, Vec<Problem>), ConfigError> {
    let mut problems = Vec::new();
    let mut table = match read(file)? {
        Some((path, text)) => parse(&path, &text, &mut problems)?,
        None => Table::new(),
    };
    let mut variables: Vec<_> = env
        .filter(|(name, _)| name.starts_with(PREFIX) && !NOT_SETTINGS.contains(&name.as_str()))
        .collect();
    variables.sort();
    for (name, value) in variables {
        if let Err(problem) = overlay(&mut table, &name, &value) {
            problems.push(Problem {
                setting: name,
                problem,
            });
        }
    }
    // every part was checked alone, so that only the sum of the parts is read here
    let config: Option<Config> = match table.try_into::<Config>() {
        Ok(config) => {
            problems.extend(config.problems());
            Some(config)
        }
        Err(error) => {
            problems.push(Problem {
                setting: "settings".into(),
                problem: one_line(&error),
            });
            None
        }
    };
    Ok((config, problems))
}

/// The process's environment, without what is not UTF-8: no setting is.
pub fn environment() -> impl Iterator<Item = (String, String)> {
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
}

fn read(file: Option<&Path>) -> Result<Option<(PathBuf, String)>, ConfigError> {
    let path = file.unwrap_or(Path::new(DEFAULT_FILE)).to_owned();
    match fs::read_to_string(&path) {
        Ok(text) => Ok(Some((path, text))),
        Err(e) if e.kind() == io::ErrorKind::NotFound && file.is_none() => Ok(None),
        Err(source) => Err(ConfigError::Read { path, source }),
    }
}

/// The file's settings without those that are none, which are told.
fn parse(path: &Path, text: &str, problems: &mut Vec<Problem>) -> Result<Table, ConfigError> {
    let table: Table = toml::from_str(text).map_err(|e| ConfigError::File {
        path: path.to_owned(),
        problem: e.to_string().trim_end().to_owned(),
    })?;
    // As a whole first: only so an error can say in which line it is.
    let Err(first) = toml::from_str::<Config>(text) else {
        return Ok(table);
    };
    let mut fit = Table::new();
    let before = problems.len();
    keep_fit(
        &table,
        &mut Vec::new(),
        &mut fit,
        &mut |setting, problem| {
            problems.push(Problem {
                setting: format!("{}: {setting}", path.display()),
                problem,
            });
        },
    );
    if problems.len() <= before + 1 {
        // of a single one the line says more
        problems.truncate(before);
        problems.push(Problem {
            setting: path.display().to_string(),
            problem: first.to_string().trim_end().to_owned(),
        });
    }
    Ok(fit)
}

/// Puts into `fit` what of `table`, which stands under the keys `above`, can be a setting each by itself.
fn keep_fit(
    table: &Table,
    above: &mut Vec<String>,
    fit: &mut Table,
    tell: &mut impl FnMut(String, String),
) {
    for (key, value) in table {
        above.push(key.clone());
        match value {
            Value::Table(inner) if !inner.is_empty() && above.len() < 3 => {
                keep_fit(inner, above, fit, tell);
            }
            _ => {
                let path: Vec<&str> = above.iter().map(String::as_str).collect();
                let mut alone = Table::new();
                place(&mut alone, &path, value.clone());
                match alone.try_into::<Config>() {
                    Ok(_) => place(fit, &path, value.clone()),
                    Err(error) => tell(above.join("."), one_line(&error)),
                }
            }
        }
        above.pop();
    }
}

/// Sets a value under these keys as they are written.
fn place(table: &mut Table, path: &[&str], value: Value) {
    let Some((first, rest)) = path.split_first() else {
        return;
    };
    let key = (*first).to_owned();
    if rest.is_empty() {
        table.insert(key, value);
    } else if let Value::Table(inner) = table
        .entry(key)
        .or_insert_with(|| Value::Table(Table::new()))
    {
        place(inner, rest, value);
    }
}

/// Puts one variable into the settings, if it is one and its value can be one.
fn overlay(table: &mut Table, name: &str, value: &str) -> Result<(), String> {
    let key = name[PREFIX.len()..].to_lowercase();
    let path: Vec<&str> = key.split("__").collect();
    let known = known_keys(&path);
    let Some((_, example)) = known.iter().find(|(known, _)| *known == path) else {
        return Err(unknown(name, &known));
    };
    let value = literal(value, example);
    let mut alone = Table::new();
    insert(&mut alone, &path, value.clone());
    alone
        .try_into::<Config>()
        .map_err(|e| format!("{value}: {}", one_line(&e)))?;
    insert(table, &path, value);
    Ok(())
}

/// Every setting and a value that it may have, its default where it has one. Products are of the operator's naming: the
/// one that `path` names counts as known.
fn known_keys(path: &[&str]) -> Vec<(Vec<String>, Value)> {
    let mut config = Config::default();
    if let ["products", product, ..] = path
        && !product.is_empty()
    {
        // TOML has no form for what is not set.
        let example = ProductConfig {
            awake_window_s: Some(0),
            ack_timeout_ms: Some(0),
            max_retransmit: Some(0),
            adaptive: Some(false),
            per_gateway: Some(0),
            module: Some(ArrayString::new()),
            push_max_bytes: Some(0),
            uri_scheme: Some(UriScheme::Coap),
            version_resource: Some(ResourceText::new()),
            ..ProductConfig::default()
        };
        config.products.insert((*product).to_owned(), example);
    }
    let mut keys = Vec::new();
    if let Ok(table) = Table::try_from(config) {
        collect_keys(&table, &mut Vec::new(), &mut keys);
    }
    keys
}

fn collect_keys(table: &Table, above: &mut Vec<String>, keys: &mut Vec<(Vec<String>, Value)>) {
    for (key, value) in table {
        above.push(key.clone());
        match value {
            Value::Table(inner) => collect_keys(inner, above, keys),
            _ => keys.push((above.clone(), value.clone())),
        }
        above.pop();
    }
}

fn unknown(name: &str, known: &[(Vec<String>, Value)]) -> String {
    let key = &name[PREFIX.len()..];
    let nearest = known
        .iter()
        .map(|(path, _)| path.join("__").to_uppercase())
        .max_by(|a, b| strsim::jaro_winkler(key, a).total_cmp(&strsim::jaro_winkler(key, b)));
    match nearest {
        Some(nearest) => format!("no such setting; did you mean {PREFIX}{nearest}?"),
        None => "no such setting".to_owned(),
    }
}

/// The value as TOML. What is none, or is another type where a text is wanted, is a text.
fn literal(text: &str, example: &Value) -> Value {
    let parsed = toml::from_str::<Table>(&format!("value = {text}"))
        .ok()
        .filter(|table| table.len() == 1)
        .and_then(|mut table| table.remove("value"));
    match parsed {
        Some(value) if value.is_str() || !example.is_str() => value,
        _ => Value::String(text.to_owned()),
    }
}

/// Sets a value, where it stands already whatever the case of its key.
fn insert(table: &mut Table, path: &[&str], value: Value) {
    let Some((first, rest)) = path.split_first() else {
        return;
    };
    let key = table
        .keys()
        .find(|key| key.to_lowercase() == **first)
        .map_or_else(|| (*first).to_owned(), Clone::clone);
    if rest.is_empty() {
        table.insert(key, value);
    } else if let Value::Table(inner) = table
        .entry(key)
        .or_insert_with(|| Value::Table(Table::new()))
    {
        insert(inner, rest, value);
    }
}

fn one_line(error: &toml::de::Error) -> String {
    error.message().replace('\n', " ")
}

#[cfg(test)]
mod tests;
