use std::{net::SocketAddr, sync::Arc, time::Duration};

use ipnet::IpNet;
use reqwest::{
    Client, Response, StatusCode,
    dns::{Addrs, Name, Resolve, Resolving},
    header::{CONTENT_TYPE, RETRY_AFTER},
    redirect::Policy,
};
use tokio::time::timeout;

use super::address::{Target, permit};

/// What is read of an answer, so that the connection can be used again. More closes it.
const MAX_ANSWER: usize = 16 * 1024;
/// As does what takes longer.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
const IDLE_PER_RECEIVER: usize = 2;
const IDLE: Duration = Duration::from_secs(30);
/// Longest error text that is kept, bytes.
const MAX_ERROR: usize = 500;

/// What came of posting to a receiver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Posted {
    /// It has it: 2xx.
    Accepted,
    /// It does not want this one, and works otherwise: 3xx, 4xx.
    Refused(String),
    /// It never wants it: 410.
    Gone(String),
    /// It does not work now; if it said so, when it should be tried again.
    Failed(String, Option<Duration>),
}

/// Posts to webhooks, and to nowhere else: follows no redirection, uses no proxy, and connects to addresses that
/// are allowed only, whatever a name server says.
#[derive(Debug, Clone)]
pub(super) struct Poster {
    client: Client,
    allowed: Arc<[IpNet]>,
}

impl Poster {
    /// Posts within `limit`, from the look-up of the name to the end of the answer.
    ///
    /// # Errors
    /// The TLS library cannot be used.
    pub(super) fn new(allowed: &[IpNet], limit: Duration) -> Result<Self, reqwest::Error> {
        let allowed: Arc<[IpNet]> = allowed.into();
        let client = Client::builder()
            .user_agent(concat!("cellwise/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            .no_proxy()
            .timeout(limit)
            .pool_max_idle_per_host(IDLE_PER_RECEIVER)
            .pool_idle_timeout(IDLE)
            .dns_resolver(Arc::new(PublicNames(allowed.clone())))
            .build()?;
        Ok(Self { client, allowed })
    }

    /// Posts `body`, with the headers that Standard Webhooks names.
    pub(super) async fn post(
        &self,
        url: &str,
        headers: [(&'static str, String); 3],
        body: String,
    ) -> Posted {
        let target = match Target::parse(url, &self.allowed) {
            Ok(target) => target,
            Err(error) => return Posted::Failed(error.to_string(), None),
        };
        let mut request = self
            .client
            .post(target.url().clone())
            .header(CONTENT_TYPE, "application/json")
            .body(body);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        match request.send().await {
            Ok(response) => judge(response).await,
            Err(error) => Posted::Failed(told(&error), None),
        }
    }
}

async fn judge(mut response: Response) -> Posted {
    let status = response.status();
    let wait = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(Duration::from_secs);
    let rest = async {
        let mut read = 0;
        while read <= MAX_ANSWER
            && let Ok(Some(chunk)) = response.chunk().await
        {
            read += chunk.len();
        }
    };
    let _ = timeout(ANSWER_WITHIN, rest).await; // the status says it all
    let answer = format!("the receiver answered {status}");
    match status {
        _ if status.is_success() => Posted::Accepted,
        StatusCode::GONE => Posted::Gone(answer),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Posted::Failed(answer, wait),
        _ if status.is_redirection() => {
            Posted::Refused(format!("{answer}; redirections are not followed"))
        }
        _ if status.is_client_error() => Posted::Refused(answer),
        _ => Posted::Failed(answer, wait),
    }
}

/// The error with its causes, without the URL, which may be secret.
fn told(error: &reqwest::Error) -> String {
    let mut text = if error.is_timeout() {
        "the receiver did not answer in time".to_owned()
    } else if error.is_connect() {
        "the receiver cannot be reached".to_owned()
    } else {
        "the receiver gave no proper answer".to_owned()
    };
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    let end = text.floor_char_boundary(MAX_ERROR);
    text.truncate(end);
    text
}

/// Looks names up, and leaves out addresses that are not allowed.
#[derive(Debug)]
struct PublicNames(Arc<[IpNet]>);

impl Resolve for PublicNames {
    fn resolve(&self, name: Name) -> Resolving {
        let allowed = self.0.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let (permitted, refused): (Vec<_>, Vec<_>) = found
                .map(|address| (address, permit(address.ip(), &allowed)))
                .partition(|(_, permitted)| permitted.is_ok());
            if let ([], [(_, Err(error)), ..]) = (&*permitted, &*refused) {
                return Err((*error).into());
            }
            let addresses: Vec<SocketAddr> =
                permitted.into_iter().map(|(address, _)| address).collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
