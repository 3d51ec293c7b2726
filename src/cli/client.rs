//! The admin API from the outside.

use std::{
    fmt::Write,
    fs,
    io::{self, Read},
    path::PathBuf,
    time::Duration,
};

use clap::Args;
use serde::de::DeserializeOwned;
use serde_json::Value;
use thiserror::Error;
use ureq::{
    Agent, Body, SendBody,
    http::{Response, StatusCode},
};

use crate::api::{self, Problem};

/// Long enough for a task of a million devices.
const TIMEOUT: Duration = Duration::from_mins(2);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longer than any page of a thousand items.
const MAX_ANSWER_BYTES: u64 = 64 * 1024 * 1024;
/// Items of a page.
const PAGE: usize = 1_000;

/// Where the server is, and how to be let in.
#[derive(Debug, Clone, Args)]
pub struct ApiArgs {
    /// Address of the server's admin API.
    #[arg(
        long,
        env = "CELLWISE_API",
        value_name = "URL",
        default_value = "http://127.0.0.1:8080"
    )]
    pub api: String,
    /// The operator's token. Better given by the environment or a file: others on this machine see
    /// arguments.
    #[arg(long, env = "CELLWISE_TOKEN", hide_env_values = true)]
    pub token: Option<String>,
    /// File that holds the operator's token.
    #[arg(
        long,
        env = "CELLWISE_TOKEN_FILE",
        value_name = "FILE",
        default_value = "cellwise-data/admin.token"
    )]
    pub token_file: PathBuf,
}

/// Why a command failed.
#[derive(Debug, Error)]
pub enum CommandError {
    /// The token's file cannot be read.
    #[error(
        "cannot read the token from {path}: {source}; give --token-file, or CELLWISE_TOKEN in the environment"
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
    /// No answer came.
    #[error(
        "no answer from {api}: {source}; does the server run, and is this its address (--api)?"
    )]
    Connection {
        /// The server.
        api: String,
        /// What happened.
        source: Box<ureq::Error>,
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

/// A connection to the admin API.
#[derive(Debug)]
pub struct Client {
    agent: Agent,
    api: String,
    authorization: String,
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
        "unknown" => api::device_path(endpoint),
        endpoint => format!("/v1/devices/{}", segment(endpoint)),
    }
}

impl Client {
    /// Prepares a connection. Reads the token, but does not connect yet.
    pub fn new(args: &ApiArgs) -> Result<Self, CommandError> {
        let token = match &args.token {
            Some(token) => token.clone(),
            None => fs::read_to_string(&args.token_file).map_err(|source| CommandError::Token {
                path: args.token_file.clone(),
                source,
            })?,
        };
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            // the token is for the server alone
            .proxy(None)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(TIMEOUT))
            .timeout_recv_body(Some(TIMEOUT))
            .build()
            .new_agent();
        Ok(Self {
            agent,
            api: args.api.trim_end_matches('/').to_owned(),
            authorization: format!("Bearer {}", token.trim()),
        })
    }

    /// `GET path?query`.
    pub fn get(&self, path: &str, query: &[(&str, String)]) -> Result<Value, CommandError> {
        let answer = self
            .agent
            .get(format!("{}{path}", self.api))
            .query_pairs(query.iter().map(|(name, value)| (*name, value.as_str())))
            .header("authorization", &self.authorization)
            .call();
        self.answer(answer)
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
        let answer = self
            .agent
            .post(format!("{}{path}", self.api))
            .header("authorization", &self.authorization)
            .send_json(body);
        self.answer(answer)
    }

    /// `DELETE path`.
    pub fn delete(&self, path: &str) -> Result<(), CommandError> {
        let answer = self
            .agent
            .delete(format!("{}{path}", self.api))
            .header("authorization", &self.authorization)
            .call();
        self.answer(answer).map(|_| ())
    }

    /// `POST path?query` with a file of `len` bytes. Also tells whether something new was created.
    pub fn upload(
        &self,
        path: &str,
        query: &[(&str, String)],
        len: u64,
        content: &mut dyn Read,
    ) -> Result<(Value, bool), CommandError> {
        let answer = self
            .agent
            .post(format!("{}{path}", self.api))
            .query_pairs(query.iter().map(|(name, value)| (*name, value.as_str())))
            .header("authorization", &self.authorization)
            .header("content-type", "application/octet-stream")
            .header("content-length", len)
            // so that a refusal comes before the file is sent
            .header("expect", "100-continue")
            .send(SendBody::from_reader(content));
        let created = answer.as_ref().is_ok_and(|answer| answer.status() == 201);
        Ok((self.answer(answer)?, created))
    }

    fn answer(&self, answer: Result<Response<Body>, ureq::Error>) -> Result<Value, CommandError> {
        let connection = |source| CommandError::Connection {
            api: self.api.clone(),
            source: Box::new(source),
        };
        let mut response = answer.map_err(connection)?;
        let status = response.status();
        let text = response
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER_BYTES)
            .lossy_utf8(true)
            .read_to_string()
            .map_err(connection)?;
        let foreign = |what: String| CommandError::Foreign {
            api: self.api.clone(),
            status: status.as_u16(),
            what,
        };
        if status == StatusCode::NO_CONTENT {
            return Ok(Value::Null);
        }
        if status.is_success() {
            return serde_json::from_str(&text).map_err(|error| foreign(error.to_string()));
        }
        match serde_json::from_str(&text) {
            Ok(problem) => Err(CommandError::Refused(Box::new(problem))),
            Err(error) => Err(foreign(error.to_string())),
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
