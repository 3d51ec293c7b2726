//! One request to one server, over TCP or TLS, and its answer.
//!
//! An answer is read whenever it comes. A server that refuses a file answers while the file is being sent, and closes the
//! connection: what cannot be sent any more is no error then.

use std::{fs, io, path::Path, time::Duration};

use http_body_util::BodyExt;
use hyper::{
    Request, StatusCode,
    client::conn::http1,
    header::{CONNECTION, HOST, HeaderValue, SET_COOKIE},
};
use hyper_util::rt::TokioIo;
use native_tls::{Certificate, Protocol, TlsConnector};
use reqwest::Url;
use thiserror::Error;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    runtime::Runtime,
    time::timeout,
};

use super::{
    listening::Listening,
    outgoing::{Outgoing, Progress, silence},
};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Without a byte in either direction. Long enough for a task of a million devices.
const SILENCE: Duration = Duration::from_mins(2);
/// Longer than any page of a thousand items.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum Failure {
    /// The name leads nowhere, or nobody listens there.
    #[error("cannot connect: {0}")]
    Connect(#[source] io::Error),
    /// No encrypted connection came to be.
    #[error("no TLS connection: {0}; does the server speak HTTPS there?")]
    Tls(#[source] native_tls::Error),
    /// Whoever answered has shown a certificate that nobody vouches for.
    #[error("its certificate is not trusted ({0})")]
    Untrusted(String),
    /// The connection ended, or this is not HTTP.
    #[error("{0}")]
    Http(#[from] hyper::Error),
    /// What was to be sent cannot be read.
    #[error("what is to be sent cannot be read: {0}")]
    Content(#[source] io::Error),
    /// What comes cannot be written.
    #[error("what comes cannot be written: {0}")]
    Unkept(#[source] io::Error),
    /// Nothing happened.
    #[error("nothing came for {} s", .0.as_secs())]
    Silence(Duration),
    /// Nobody sends as much.
    #[error("the answer is longer than {MAX_ANSWER_BYTES} bytes")]
    TooLong,
}

/// Why a server cannot be asked at all.
#[derive(Debug, Error)]
pub enum Unusable {
    /// It is no URL of a server.
    #[error(
        "{url:?} is no address of a server: expected http://ADDRESS:PORT or https://NAME, such as http://127.0.0.1:8080"
    )]
    Url {
        /// What was given.
        url: String,
    },
    /// The file with the authorities.
    #[error("{path}: {problem}")]
    Authorities {
        /// The file.
        path: String,
        /// What is wrong with it.
        problem: String,
    },
    /// Neither threads nor TLS.
    #[error("the system does not allow it: {0}")]
    System(String),
}

/// A server, and how it is reached.
#[derive(Debug)]
pub(super) struct Server {
    host: String,
    port: u16,
    /// What the server is called in requests.
    authority: HeaderValue,
    /// What stands before every path.
    base: String,
    tls: Option<TlsConnector>,
    runtime: Runtime,
}

/// What was answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) body: Vec<u8>,
    /// That of a session that has begun.
    pub(super) cookie: Option<String>,
}

impl Server {
    /// The server at `url`. Of the authorities in `ca_file`, and of no others, it may have its certificate; without it, of
    /// those that the system trusts.
    pub(super) fn new(url: &str, ca_file: Option<&Path>) -> Result<Self, Unusable> {
        let wrong = || Unusable::Url {
            url: url.to_owned(),
        };
        let parsed = Url::parse(url).map_err(|_| wrong())?;
        let is_plain = parsed.username().is_empty()
            && parsed.password().is_none()
            && parsed.query().is_none()
            && parsed.fragment().is_none();
        let (Some(host), Some(port), true) =
            (parsed.host_str(), parsed.port_or_known_default(), is_plain)
        else {
            return Err(wrong());
        };
        let tls = match parsed.scheme() {
            "http" => None,
            "https" => Some(connector(ca_file)?),
            _ => return Err(wrong()),
        };
        let authority = match parsed.port() {
            Some(port) => format!("{host}:{port}"),
            None => host.to_owned(),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Unusable::System(error.to_string()))?;
        Ok(Self {
            // an IPv6 address stands in brackets only where a port follows
            host: host.trim_matches(['[', ']']).to_owned(),
            port,
            authority: HeaderValue::try_from(authority).map_err(|_| wrong())?,
            base: parsed.path().trim_end_matches('/').to_owned(),
            tls,
            runtime,
        })
    }

    /// The path of a request.
    pub(super) fn path(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    /// Sends a request, whose URI is a path, and reads the answer.
    pub(super) fn exchange(&self, request: Request<Outgoing>) -> Result<Answer, Failure> {
        self.exchange_into(request, None)
    }

    /// The same, with what a good answer brings written to `sink`, however long it is.
    pub(super) fn exchange_into(
        &self,
        mut request: Request<Outgoing>,
        sink: Option<&mut dyn io::Write>,
    ) -> Result<Answer, Failure> {
        let headers = request.headers_mut();
        headers.insert(HOST, self.authority.clone());
        headers.insert(CONNECTION, HeaderValue::from_static("close"));
        let (progress, unread) = {
            let body = request.body();
            (body.progress.clone(), body.unread.clone())
        };
        let answered = self.runtime.block_on(async {
            let late = || Failure::Connect(io::ErrorKind::TimedOut.into());
            let stream = timeout(CONNECT_TIMEOUT, self.connect());
            let stream = stream.await.map_err(|_| late())??;
            tokio::select! {
                answered = carry_out(stream, request, &progress, sink) => answered,
                () = silence(&progress, SILENCE) => Err(Failure::Silence(SILENCE)),
            }
        });
        match unread.take() {
            // hyper says only that it was not its fault
            Some(error) if answered.is_err() => Err(Failure::Content(error)),
            _ => answered,
        }
    }

    async fn connect(&self) -> Result<Box<dyn Stream>, Failure> {
        let tcp = TcpStream::connect((self.host.as_str(), self.port)).await;
        let tcp = Listening::to(tcp.map_err(Failure::Connect)?);
        let Some(tls) = &self.tls else {
            return Ok(Box::new(tcp));
        };
        let tls = tokio_native_tls::TlsConnector::from(tls.clone());
        match tls.connect(&self.host, tcp).await {
            Ok(stream) => Ok(Box::new(stream)),
            Err(error) => Err(mistrust(&error).unwrap_or(Failure::Tls(error))),
        }
    }
}

/// The library tells by its text alone that a certificate was the reason, and which one, in brackets at the end.
fn mistrust(error: &native_tls::Error) -> Option<Failure> {
    let text = error.to_string();
    if !text.contains("certificate verify failed") {
        return None;
    }
    let reason = text.rsplit_once('(').map_or(&*text, |(_, reason)| reason);
    Some(Failure::Untrusted(reason.trim_end_matches(')').to_owned()))
}

fn connector(ca_file: Option<&Path>) -> Result<TlsConnector, Unusable> {
    let mut builder = TlsConnector::builder();
    builder.min_protocol_version(Some(Protocol::Tlsv12));
    if let Some(path) = ca_file {
        let unusable = |problem: String| Unusable::Authorities {
            path: path.display().to_string(),
            problem,
        };
        let pem = fs::read(path).map_err(|error| unusable(error.to_string()))?;
        let found = Certificate::stack_from_pem(&pem).unwrap_or_default();
        if found.is_empty() {
            let problem = "there is no certificate in it; expected authorities in PEM";
            return Err(unusable(problem.to_owned()));
        }
        builder.disable_built_in_roots(true);
        for authority in found {
            builder.add_root_certificate(authority);
        }
    }
    builder
        .build()
        .map_err(|error| Unusable::System(error.to_string()))
}

async fn carry_out(
    stream: Box<dyn Stream>,
    request: Request<Outgoing>,
    progress: &Progress,
    mut sink: Option<&mut dyn io::Write>,
) -> Result<Answer, Failure> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let exchange = async {
        let response = sender.send_request(request).await?;
        progress.step();
        let status = response.status();
        let cookie = response.headers().get(SET_COOKIE);
        let cookie = cookie.and_then(|cookie| Some(cookie.to_str().ok()?.to_owned()));
        let mut incoming = response.into_body();
        let mut body = Vec::new();
        while let Some(frame) = incoming.frame().await {
            progress.step();
            if let Ok(data) = frame?.into_data() {
                if let Some(sink) = sink.as_mut().filter(|_| status.is_success()) {
                    sink.write_all(&data).map_err(Failure::Unkept)?;
                    continue;
                }
                if body.len() + data.len() > MAX_ANSWER_BYTES {
                    return Err(Failure::TooLong);
                }
                body.extend_from_slice(&data);
            }
        }
        Ok(Answer {
            status,
            body,
            cookie,
        })
    };
    tokio::pin!(exchange);
    tokio::select! {
        answered = &mut exchange => answered,
        // By now the exchange has been handed its answer, or what went wrong.
        _ = connection => exchange.await,
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin {}

impl<S: AsyncRead + AsyncWrite + Unpin> Stream for S {}
