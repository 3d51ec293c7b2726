//! The admin API from the outside.

mod http;
mod listening;
mod outgoing;
mod place;

use std::{
    fmt::Write,
    fs,
    io::{self, Read},
    path::PathBuf,
};

use clap::Args;
use hyper::{
    Method, Request, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, HeaderName, HeaderValue, IF_MATCH},
};
use reqwest::Url;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use thiserror::Error;

pub use self::http::{Failure, Unusable};
use self::{
    http::{Answer, Server},
    outgoing::Outgoing,
    place::Place,
};
use crate::api::{self, Problem};

/// Items of a page.
const PAGE: usize = 1_000;

/// What the caller has seen of what is changed.
#[derive(Debug, Clone, Copy, Default, Args)]
pub struct SeenArgs {
    /// Change it only if it has this revision still, as `revision` in JSON shows it: nobody has changed it since.
    #[arg(long, value_name = "N")]
    pub if_revision: Option<i64>,
}

/// Where the server is, and how to be let in.
#[derive(Debug, Clone, Default, Args)]
pub struct ApiArgs {
    /// Address of the server's admin API: http://… or https://…. When not given, that of admin.listen in the settings file,
    /// or 127.0.0.1:8080.
    #[arg(long, env = "CELLWISE_API", value_name = "URL")]
    pub api: Option<String>,
    /// The operator's token. Better given by the environment or a file: others on this machine see
    /// arguments.
    #[arg(long, env = "CELLWISE_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// File that holds the operator's token. When not given, admin.token in the data directory that the settings file
    /// names, or in cellwise-data.
    #[arg(long, env = "CELLWISE_TOKEN_FILE", value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The authorities, in PEM, of which the server may have its certificate; those that the system trusts when not given.
    #[arg(long, env = "CELLWISE_CA_FILE", value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// The tenant for which it is done, where there are several.
    #[arg(long, env = "CELLWISE_TENANT", value_name = "TENANT")]
    pub tenant: Option<String>,
    /// The server's settings file; `cellwise.toml` in this directory is read when there is one.
    #[arg(long, env = "CELLWISE_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Why a command failed.
#[derive(Debug, Error)]
pub enum CommandError {
    /// The token's file cannot be read.
    #[error(
        "cannot read the token from {path}: {source}; give --token-file, CELLWISE_TOKEN in the environment, or the \
         server's settings by --config"
    )]
    Token {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A file that was named cannot be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The settings file does not say where the server is.
    #[error("{path}: {problem}; give --api and --token-file, or another file by --config")]
    Settings {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The server cannot be asked at all.
    #[error(transparent)]
    Unusable(#[from] Unusable),
    /// No answer came.
    #[error(
        "no answer from {api}: {source}; does the server run, and is this its address (--api)?"
    )]
    Connection {
        /// The server.
        api: String,
        /// What happened.
        source: Box<Failure>,
    },
    /// A file that was being sent broke off.
    #[error("{0}; nothing was uploaded")]
    Sending(Box<Failure>),
    /// Whoever answers is not the server, as far as can be told.
    #[error(
        "{api} cannot be trusted: {source}; if it is the right server, name the authority of its certificate by \
         --ca-file or CELLWISE_CA_FILE"
    )]
    Untrusted {
        /// The server.
        api: String,
        /// What happened.
        source: Box<Failure>,
    },
    /// The server refused.
    #[error("{title}: {detail} (HTTP {status})", title = .0.title, detail = .0.detail, status = .0.status)]
    Refused(Box<Problem>),
    /// The answer is not one of ours.
    #[error(
        "{api} answered HTTP {status}, but not as Cellwise does: {what}; is it the right address (--api)?"
    )]
    Foreign {
        /// The server.
        api: String,
        /// The HTTP status.
        status: u16,
        /// What is odd.
        what: String,
    },
    /// The arguments do not make sense together.
    #[error("{0}")]
    Arguments(String),
    /// Results could not be written.
    #[error("cannot write the result: {0}")]
    Output(#[from] io::Error),
}

/// What a log-in answers, as far as it is needed.
#[derive(Debug, Deserialize)]
struct SessionView {
    csrf_token: String,
}

/// The admin API of a server.
#[derive(Debug)]
pub struct Client {
    server: Server,
    api: String,
    /// By what it is let in: a token, or a session with what changes something besides.
    credential: Vec<(HeaderName, HeaderValue)>,
    tenant: Option<String>,
}

/// A text as one segment of a path (RFC 3986 §2.1).
pub(super) fn segment(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}"); // writing to a String does not fail
        }
    }
    encoded
}

/// The path of a device.
pub(super) fn device_path(endpoint: &str) -> String {
    match endpoint {
        "unknown" | "count" => api::device_path(endpoint),
        endpoint => format!("/v1/devices/{}", segment(endpoint)),
    }
}

/// A path with parameters.
fn with_query(path: &str, query: &[(&str, String)]) -> String {
    if query.is_empty() {
        return path.to_owned();
    }
    // only the URL's type knows how parameters are written
    let Ok(mut url) = Url::parse("http://host") else {
        return path.to_owned();
    };
    url.query_pairs_mut().extend_pairs(query);
    format!("{path}?{}", url.query().unwrap_or_default())
}

impl Client {
    /// Prepares to ask. Reads the token, and where the server is, but does not connect yet.
    pub fn new(args: &ApiArgs) -> Result<Self, CommandError> {
        let place = Place::of(args, |name| std::env::var(name).ok())?;
        let token = match &args.token {
            Some(token) => token.clone(),
            None => {
                fs::read_to_string(&place.token_file).map_err(|source| CommandError::Token {
                    path: place.token_file,
                    source,
                })?
            }
        };
        let authorization = HeaderValue::try_from(format!("Bearer {}", token.trim()))
            .map_err(|_| CommandError::Arguments("the token is not a line of text".to_owned()))?;
        Ok(Self {
            server: Server::new(&place.api, args.ca_file.as_deref())?,
            api: place.api,
            credential: vec![(AUTHORIZATION, authorization)],
            tenant: args.tenant.clone(),
        })
    }

    /// Logs a user in. The session is to be ended by [`Self::log_out`].
    pub fn log_in(args: &ApiArgs, name: &str, password: &str) -> Result<Self, CommandError> {
        let place = Place::of(args, |name| std::env::var(name).ok())?;
        let mut client = Self {
            server: Server::new(&place.api, args.ca_file.as_deref())?,
            api: place.api,
            credential: Vec::new(),
            tenant: args.tenant.clone(),
        };
        let body = json!({"name": name, "password": password}).to_string();
        let (kind, body) = (Some("application/json"), Outgoing::text(body));
        let answer = client.answer(Method::POST, "/v1/session", kind, body, None)?;
        let session: SessionView = client.view(&client.read(&answer)?)?;
        let foreign = |what: &str| CommandError::Foreign {
            api: client.api.clone(),
            status: answer.status.as_u16(),
            what: what.to_owned(),
        };
        let cookie = answer.cookie.as_deref().and_then(|it| it.split(';').next());
        let cookie = cookie.and_then(|cookie| HeaderValue::try_from(cookie).ok());
        let csrf = HeaderValue::try_from(session.csrf_token).ok();
        let (Some(cookie), Some(csrf)) = (cookie, csrf) else {
            return Err(foreign("a session without a cookie"));
        };
        let header = HeaderName::from_static("x-csrf-token");
        client.credential = vec![(COOKIE, cookie), (header, csrf)];
        Ok(client)
    }

    /// Ends the session of [`Self::log_in`].
    pub fn log_out(&self) -> Result<(), CommandError> {
        self.delete("/v1/session")
    }

    /// Where a path of the server is.
    pub(super) fn address_of(&self, path: &str) -> String {
        format!("{}{path}", self.api)
    }

    /// `GET path?query`.
    pub fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Value, CommandError> {
        let path = with_query(path, query);
        self.ask(Method::GET, &path, None, Outgoing::nothing())
            .map(|(value, _)| value)
    }

    /// `GET path?query` of what is no JSON document.
    pub fn text(&self, path: &str, query: &[(&str, String)]) -> Result<String, CommandError> {
        let path = with_query(path, query);
        let answer = self.answer(Method::GET, &path, None, Outgoing::nothing(), None)?;
        if answer.status.is_success() {
            return Ok(String::from_utf8_lossy(&answer.body).into_owned());
        }
        self.read(&answer).map(|value| value.to_string())
    }

    /// Up to `max` items of a list, from as many pages as that takes, and whether there are more.
    pub fn list(
        &self,
        path: &str,
        query: &[(&str, String)],
        max: usize,
    ) -> Result<(Vec<Value>, bool), CommandError> {
        let mut items = Vec::new();
        let mut cursor = None;
        loop {
            let mut query = query.to_vec();
            query.push(("limit", (max - items.len()).clamp(1, PAGE).to_string()));
            query.extend(cursor.take().map(|cursor| ("cursor", cursor)));
            let mut page = self.get(path, &query)?;
            if let Some(Value::Array(more)) = page.get_mut("items").map(Value::take) {
                items.extend(more);
            }
            cursor = page
                .get("next_cursor")
                .and_then(Value::as_str)
                .map(str::to_owned);
            if cursor.is_none() || items.len() >= max {
                return Ok((items, cursor.is_some()));
            }
        }
    }

    /// `POST path` with a JSON body.
    pub fn post(&self, path: &str, body: &Value) -> Result<Value, CommandError> {
        let body = Outgoing::text(body.to_string());
        self.ask(Method::POST, path, Some("application/json"), body)
            .map(|(value, _)| value)
    }

    /// `PATCH path` with a JSON body.
    pub fn patch(&self, path: &str, body: &Value) -> Result<Value, CommandError> {
        let body = Outgoing::text(body.to_string());
        self.ask(Method::PATCH, path, Some("application/json"), body)
            .map(|(value, _)| value)
    }

    /// `PUT path` with a JSON document of `len` bytes.
    pub fn put_json(
        &self,
        path: &str,
        len: u64,
        content: impl Read + 'static,
    ) -> Result<Value, CommandError> {
        let body = Outgoing::of(Box::new(content), len);
        self.ask(Method::PUT, path, Some("application/json"), body)
            .map(|(value, _)| value)
    }

    /// `GET path?query`, with the answer written to `sink`, however long it is.
    pub fn download(
        &self,
        path: &str,
        query: &[(&str, String)],
        sink: &mut dyn io::Write,
    ) -> Result<(), CommandError> {
        let path = with_query(path, query);
        let request = Request::builder()
            .uri(self.server.path(&path))
            .body(Outgoing::nothing())
            .map_err(|error| CommandError::Arguments(format!("{path}: {error}")))?;
        let answer = (self.server)
            .exchange_into(self.let_in(request), Some(sink))
            .map_err(|failure| self.failed(failure))?;
        if answer.status.is_success() {
            return Ok(());
        }
        self.read(&answer).map(drop)
    }

    /// `DELETE path`, which tells what it has done.
    pub fn delete_with_answer(&self, path: &str) -> Result<Value, CommandError> {
        self.ask(Method::DELETE, path, None, Outgoing::nothing())
            .map(|(value, _)| value)
    }

    /// The same, only if what is changed has the revision that was seen, where one is given.
    pub fn patch_seen(
        &self,
        path: &str,
        body: &Value,
        seen: SeenArgs,
    ) -> Result<Value, CommandError> {
        self.send_seen(Method::PATCH, path, body, seen)
    }

    /// `PUT path` with a JSON body, in the same way.
    pub fn put_seen(
        &self,
        path: &str,
        body: &Value,
        seen: SeenArgs,
    ) -> Result<Value, CommandError> {
        self.send_seen(Method::PUT, path, body, seen)
    }

    /// `POST path`, only if what it is about has the revision that was seen, where one is given.
    pub fn post_seen(
        &self,
        path: &str,
        body: &Value,
        seen: SeenArgs,
    ) -> Result<Value, CommandError> {
        self.send_seen(Method::POST, path, body, seen)
    }

    fn send_seen(
        &self,
        method: Method,
        path: &str,
        body: &Value,
        seen: SeenArgs,
    ) -> Result<Value, CommandError> {
        let body = Outgoing::text(body.to_string());
        let tag = seen.if_revision.map(|revision| format!("\"{revision}\""));
        self.ask_seen(method, path, Some("application/json"), body, tag)
            .map(|(value, _)| value)
    }

    /// `POST path` with comma-separated values.
    pub fn post_csv(&self, path: &str, rows: String) -> Result<Value, CommandError> {
        self.ask(Method::POST, path, Some("text/csv"), Outgoing::text(rows))
            .map(|(value, _)| value)
    }

    /// `DELETE path`.
    pub fn delete(&self, path: &str) -> Result<(), CommandError> {
        self.ask(Method::DELETE, path, None, Outgoing::nothing())
            .map(|_| ())
    }

    /// The same, only if what is deleted has the revision that was seen, where one is given.
    pub fn delete_seen(&self, path: &str, seen: SeenArgs) -> Result<(), CommandError> {
        let tag = seen.if_revision.map(|revision| format!("\"{revision}\""));
        self.ask_seen(Method::DELETE, path, None, Outgoing::nothing(), tag)
            .map(|_| ())
    }

    /// `POST path?query` with a file of `len` bytes. Also tells whether something new was created.
    pub fn upload(
        &self,
        path: &str,
        query: &[(&str, String)],
        len: u64,
        content: impl Read + 'static,
    ) -> Result<(Value, bool), CommandError> {
        let path = with_query(path, query);
        let body = Outgoing::of(Box::new(content), len);
        let kind = Some("application/octet-stream");
        let (value, status) = self.ask(Method::POST, &path, kind, body)?;
        Ok((value, status == StatusCode::CREATED))
    }

    fn ask(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&'static str>,
        body: Outgoing,
    ) -> Result<(Value, StatusCode), CommandError> {
        self.ask_seen(method, path, content_type, body, None)
    }

    fn ask_seen(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&'static str>,
        body: Outgoing,
        tag: Option<String>,
    ) -> Result<(Value, StatusCode), CommandError> {
        let answer = self.answer(method, path, content_type, body, tag)?;
        let status = answer.status;
        self.read(&answer).map(|value| (value, status))
    }

    fn answer(
        &self,
        method: Method,
        path: &str,
        content_type: Option<&'static str>,
        body: Outgoing,
        tag: Option<String>,
    ) -> Result<Answer, CommandError> {
        let path = match &self.tenant {
            Some(tenant) if path.contains('?') => format!("{path}&tenant={}", segment(tenant)),
            Some(tenant) => format!("{path}?tenant={}", segment(tenant)),
            None => path.to_owned(),
        };
        let mut request = Request::builder()
            .method(method)
            .uri(self.server.path(&path));
        if let Some(content_type) = content_type {
            request = request.header(CONTENT_TYPE, content_type);
        }
        if let Some(tag) = tag {
            request = request.header(IF_MATCH, tag);
        }
        let request = request
            .body(body)
            .map_err(|error| CommandError::Arguments(format!("{path}: {error}")))?;
        let answer = self.server.exchange(self.let_in(request));
        answer.map_err(|failure| self.failed(failure))
    }

    /// The request with what its caller is let in by.
    fn let_in(&self, mut request: Request<Outgoing>) -> Request<Outgoing> {
        let headers = request.headers_mut();
        headers.extend(self.credential.iter().cloned());
        request
    }

    fn failed(&self, failure: Failure) -> CommandError {
        let (api, source) = (self.api.clone(), Box::new(failure));
        match *source {
            Failure::Untrusted(_) => CommandError::Untrusted { api, source },
            Failure::Content(_) => CommandError::Sending(source),
            Failure::Unkept(error) => CommandError::Output(error),
            _ => CommandError::Connection { api, source },
        }
    }

    fn read(&self, answer: &Answer) -> Result<Value, CommandError> {
        let foreign = |error: serde_json::Error| CommandError::Foreign {
            api: self.api.clone(),
            status: answer.status.as_u16(),
            what: error.to_string(),
        };
        if answer.status == StatusCode::NO_CONTENT {
            return Ok(Value::Null);
        }
        if answer.status.is_success() {
            return serde_json::from_slice(&answer.body).map_err(foreign);
        }
        match serde_json::from_slice(&answer.body) {
            Ok(problem) => Err(CommandError::Refused(Box::new(problem))),
            Err(error) => Err(foreign(error)),
        }
    }

    /// The parts of an answer that a command shows.
    pub(super) fn view<T: DeserializeOwned>(&self, value: &Value) -> Result<T, CommandError> {
        T::deserialize(value).map_err(|error| CommandError::Foreign {
            api: self.api.clone(),
            status: 200,
            what: error.to_string(),
        })
    }
}
