//! Requests to the identity provider, bounded in size and time.

use std::{error::Error, future::Future, pin::Pin, time::Duration};

use openidconnect::{AsyncHttpClient, HttpRequest, HttpResponse};
use reqwest::{Certificate, redirect::Policy};
use thiserror::Error;

/// For a request to the provider, from the look-up of the name to the end of the answer.
const WITHIN: Duration = Duration::from_secs(10);
/// Longest answer of the provider, bytes.
const MAX_ANSWER: usize = 512 * 1024;

/// Longest text that is told of what the provider says, bytes.
const MOST_TOLD: usize = 500;

/// An error with what has caused it.
pub(super) fn told(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    short(&text)
}

/// What others say, as it is told on: in one line of 500 bytes at most.
pub(super) fn short(text: &str) -> String {
    let printable = text.chars().filter(|c| !c.is_control());
    let mut text: String = printable.take(MOST_TOLD).collect();
    text.truncate(text.floor_char_boundary(MOST_TOLD));
    text
}

/// Asks the provider, within bounds, and follows no redirection.
#[derive(Debug, Clone)]
pub(super) struct Http(reqwest::Client);

/// Why there is no answer of the provider.
#[derive(Debug, Error)]
pub(super) enum FetchError {
    #[error("no answer of the provider: {0}")]
    Request(#[from] reqwest::Error),
    #[error("the provider's answer is longer than {MAX_ANSWER} bytes")]
    TooLong,
    #[error("the provider's answer makes no sense: {0}")]
    Http(#[from] openidconnect::http::Error),
}

impl Http {
    pub(super) fn new(authorities: Option<&[u8]>) -> Result<Self, reqwest::Error> {
        let mut client = reqwest::Client::builder()
            .user_agent(concat!("cellwise/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .timeout(WITHIN);
        if let Some(pem) = authorities {
            client = client.tls_certs_only(Certificate::from_pem_bundle(pem)?);
        }
        client.build().map(Self)
    }

    async fn fetch(&self, request: HttpRequest) -> Result<HttpResponse, FetchError> {
        let request = reqwest::Request::try_from(request)?;
        let mut response = self.0.execute(request).await?;
        let mut answer = openidconnect::http::Response::builder().status(response.status());
        for (name, value) in response.headers() {
            answer = answer.header(name, value);
        }
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await? {
            if body.len() + part.len() > MAX_ANSWER {
                return Err(FetchError::TooLong);
            }
            body.extend_from_slice(&part);
        }
        Ok(answer.body(body)?)
    }
}

impl<'c> AsyncHttpClient<'c> for Http {
    type Error = FetchError;
    type Future = Pin<Box<dyn Future<Output = Result<HttpResponse, FetchError>> + Send + 'c>>;

    fn call(&'c self, request: HttpRequest) -> Self::Future {
        Box::pin(self.fetch(request))
    }
}
