//! Traces of requests for a collector of OpenTelemetry: OTLP over HTTP, in the binary form (opentelemetry.io/docs/specs/otlp).
//!
//! Nothing waits for a collector. A span is put into a bounded queue, and is dropped where that is full. A thread sends what is in the
//! queue, and gives up on a batch after five seconds. A span has the method, the route, the operation and the status of a request, and
//! nothing that its caller says: no path, no query, no header, no name.

use std::{
    num::NonZeroU32,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use opentelemetry::{
    Context, KeyValue,
    propagation::{Extractor, TextMapPropagator as _},
    trace::{Span as _, SpanKind, Status, Tracer as _, TracerProvider as _},
};
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use opentelemetry_otlp::{ExporterBuildError, SpanExporter, WithExportConfig, WithHttpConfig as _};
use opentelemetry_sdk::{
    Resource,
    propagation::TraceContextPropagator,
    trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider},
};
use thiserror::Error;
use tokio::runtime::Handle;

use crate::config::TelemetryConfig;

/// Spans that wait to be sent; further ones are dropped.
const QUEUE: usize = 2_048;
/// Spans that are sent at once.
const BATCH: usize = 512;
/// Between two batches, where the queue does not fill before.
const EVERY: Duration = Duration::from_secs(5);
/// For one batch.
const WITHIN: Duration = Duration::from_secs(5);
/// For what is left at the stop.
const LAST_WITHIN: Duration = Duration::from_secs(2);
/// So much of an answer is looked at, bytes: a collector may say which spans it has refused.
const MAX_ANSWER: usize = 64 * 1024;
/// Lines a minute about a collector that does not take spans.
const LINES_PER_MINUTE: NonZeroU32 = NonZeroU32::new(1).unwrap();
/// The header by which a caller's trace goes on (W3C Trace Context §3.2).
const TRACEPARENT: &str = "traceparent";

/// Why there are no traces.
#[derive(Debug, Error)]
pub enum TracesError {
    /// The collector's address, or a variable of the environment.
    #[error("telemetry.otlp_endpoint, or a variable OTEL_EXPORTER_OTLP_… of the environment: {0}")]
    Exporter(#[from] ExporterBuildError),
    /// What would send them.
    #[error("telemetry.otlp_endpoint: traces cannot be sent: {0}")]
    Client(#[from] reqwest::Error),
}

/// Sends traces of one server.
#[derive(Debug, Clone)]
pub struct Traces {
    provider: SdkTracerProvider,
    tracer: SdkTracer,
}

impl Traces {
    /// Begins to send them, if the settings name a collector. Call it within a runtime, which sends them.
    ///
    /// # Errors
    /// The collector's address, or what the environment says of it, is not understood.
    pub fn start(config: &TelemetryConfig) -> Result<Option<Self>, TracesError> {
        if config.otlp_endpoint.is_empty() {
            return Ok(None);
        }
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Post::new()?)
            .with_endpoint(format!(
                "{}/v1/traces",
                config.otlp_endpoint.trim_end_matches('/')
            ))
            .with_timeout(WITHIN)
            .build()?;
        let batches = BatchConfigBuilder::default()
            .with_max_queue_size(QUEUE)
            .with_max_export_batch_size(BATCH)
            .with_scheduled_delay(EVERY)
            .build();
        let processor = BatchSpanProcessor::builder(exporter)
            .with_batch_config(batches)
            .build();
        let resource = Resource::builder()
            .with_service_name("cellwise")
            .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let provider = SdkTracerProvider::builder()
            .with_span_processor(processor)
            .with_resource(resource)
            .build();
        let tracer = provider.tracer("cellwise");
        Ok(Some(Self { provider, tracer }))
    }

    /// A request has begun. Where `traceparent` names a trace, its span belongs to that, and is sent only if the caller's is.
    pub fn begin(&self, request: &Traced<'_>) -> RequestSpan {
        let parent = TraceContextPropagator::new()
            .extract_with_context(&Context::new(), &Parent(request.traceparent));
        let name = format!("{} {}", request.method, request.route);
        let mut attributes = vec![
            KeyValue::new("http.request.method", request.method.to_owned()),
            KeyValue::new("http.route", request.route.to_owned()),
        ];
        if let Some(operation) = request.operation {
            attributes.push(KeyValue::new("cellwise.operation", operation));
        }
        let span = (self.tracer.span_builder(name))
            .with_kind(SpanKind::Server)
            .with_start_time(request.began)
            .with_attributes(attributes);
        RequestSpan(span.start_with_context(&self.tracer, &parent))
    }

    /// Sends what is left, for two seconds at most. It blocks meanwhile; the runtime has to go on.
    pub fn stop(&self) {
        if let Err(error) = self.provider.shutdown_with_timeout(LAST_WITHIN) {
            tracing::debug!(%error, "the last traces were not sent");
        }
    }
}

/// What is told of a request.
#[derive(Debug, Clone, Copy)]
pub struct Traced<'a> {
    /// Its method, as `GET`.
    pub method: &'a str,
    /// Its route, with names in place of what the caller fills in: `/v1/tasks/{id}`.
    pub route: &'a str,
    /// The name of what is carried out.
    pub operation: Option<&'static str>,
    /// What the caller says of its own trace, if the caller is believed.
    pub traceparent: Option<&'a str>,
    /// When it began.
    pub began: SystemTime,
}

/// The span of a request, which ends when it is dropped.
#[derive(Debug)]
pub struct RequestSpan(opentelemetry_sdk::trace::Span);

impl RequestSpan {
    /// The request was answered. From 500 on that is a failure of the server's (OpenTelemetry's conventions for HTTP).
    pub fn answered(mut self, status: u16) {
        let code = i64::from(status);
        (self.0).set_attribute(KeyValue::new("http.response.status_code", code));
        if status >= 500 {
            (self.0).set_attribute(KeyValue::new("error.type", status.to_string()));
            self.0.set_status(Status::error(""));
        }
        self.0.end();
    }
}

/// Of the headers the one that is looked at: `tracestate` may be long, and is nothing to us.
struct Parent<'a>(Option<&'a str>);

impl Extractor for Parent<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.filter(|_| key == TRACEPARENT)
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}

/// Posts batches by the runtime, for the thread that has none.
#[derive(Debug)]
struct Post {
    client: reqwest::Client,
    runtime: Handle,
    lines: Arc<DefaultDirectRateLimiter>,
}

impl Post {
    fn new() -> Result<Self, reqwest::Error> {
        Ok(Self {
            client: reqwest::Client::builder()
                .timeout(WITHIN)
                .redirect(reqwest::redirect::Policy::none())
                .build()?,
            runtime: Handle::current(),
            lines: Arc::new(RateLimiter::direct(Quota::per_minute(LINES_PER_MINUTE))),
        })
    }
}

#[async_trait]
impl HttpClient for Post {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sent = self.runtime.spawn(post(self.client.clone(), request));
        let answer = match sent.await {
            Ok(answer) => answer,
            Err(error) => Err(error.into()),
        };
        let problem = match &answer {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("it answers {}", response.status())),
            Err(error) => Some(error.to_string()),
        };
        if let Some(problem) = problem
            && self.lines.check().is_ok()
        {
            tracing::warn!(
                "the collector at telemetry.otlp_endpoint does not take traces, which are dropped: {problem}"
            );
        }
        answer
    }
}

async fn post(
    client: reqwest::Client,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, HttpError> {
    let mut answer = client.execute(request.try_into()?).await?;
    let mut body = Vec::new();
    while let Some(part) = answer.chunk().await? {
        let room = MAX_ANSWER - body.len();
        body.extend_from_slice(&part[..part.len().min(room)]);
        if body.len() == MAX_ANSWER {
            break;
        }
    }
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = answer.status();
    *response.headers_mut() = std::mem::take(answer.headers_mut());
    Ok(response)
}
