//! Calls of the API in the same process, with the session of a browser.

use axum::{
    Router,
    body::{Body, to_bytes},
    http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, header},
    response::Response,
};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tower::ServiceExt as _;

use crate::api::{Problem, Source, Unattended};

/// Largest answer that a page is made of.
const MAX_ANSWER: usize = 16 << 20;
const CSRF: HeaderName = HeaderName::from_static("x-csrf-token");
const ONCE: HeaderName = HeaderName::from_static("idempotency-key");

/// The routes of the API.
#[derive(Clone)]
pub(super) struct Calls(Router);

/// On whose behalf.
#[derive(Debug, Clone)]
pub(super) struct Behalf {
    pub(super) source: Source,
    /// The cookies that the browser has sent.
    pub(super) cookies: Option<HeaderValue>,
    /// A page renews itself, and nobody may be there.
    pub(super) unattended: bool,
}

/// What goes with something that changes something.
#[derive(Debug, Clone, Default)]
pub(super) struct Leave {
    /// What the page was given, and has sent back.
    pub(super) csrf: String,
    /// Names the request, so that it is carried out once when the form is sent twice; empty for none.
    pub(super) once: String,
    /// The `ETag` of what is changed, as the page was made of it; empty for none.
    pub(super) etag: String,
}

/// What was answered.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) headers: HeaderMap,
    pub(super) body: Value,
}

impl Answer {
    /// The `ETag` of what was read, for [`Leave::etag`].
    pub(super) fn etag(&self) -> String {
        let etag = self.headers.get(header::ETAG);
        let etag = etag.and_then(|etag| etag.to_str().ok());
        etag.unwrap_or_default().to_owned()
    }
}

impl Calls {
    pub(super) fn new(operations: Router) -> Self {
        Self(operations)
    }

    /// Sends a request, and returns the answer as it is.
    pub(super) async fn send(
        &self,
        behalf: &Behalf,
        mut request: Request<Body>,
    ) -> Result<Response, Problem> {
        if let Some(cookies) = &behalf.cookies {
            request
                .headers_mut()
                .insert(header::COOKIE, cookies.clone());
        }
        request.extensions_mut().insert(behalf.source);
        if behalf.unattended {
            request.extensions_mut().insert(Unattended);
        }
        let response = self.0.clone().oneshot(request).await;
        let mut response = response.unwrap_or_else(|never| match never {});
        match response.extensions_mut().remove::<Problem>() {
            Some(problem) => Err(problem),
            None if response.status().is_success() || response.status().is_redirection() => {
                Ok(response)
            }
            None => Err(Problem::of_status(
                response.status(),
                &Method::GET,
                "this",
                "/openapi.json",
            )),
        }
    }

    /// The request for a path, with a body or none.
    pub(super) fn request(
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Request<Body>, Problem> {
        let mut request = Request::builder().method(method).uri(path);
        let body = match body {
            Some(body) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Body::from(body.to_string())
            }
            None => Body::empty(),
        };
        // a path that is none: made of something that a browser has sent
        request
            .body(body)
            .map_err(|_| Problem::of_status(StatusCode::NOT_FOUND, &Method::GET, path, "/console"))
    }

    /// Reads something.
    pub(super) async fn read(&self, behalf: &Behalf, path: &str) -> Result<Answer, Problem> {
        let request = Self::request(Method::GET, path, None)?;
        answer(self.send(behalf, request).await?).await
    }

    /// Changes something.
    pub(super) async fn change(
        &self,
        behalf: &Behalf,
        (method, path): (Method, &str),
        body: Option<&Value>,
        leave: &Leave,
    ) -> Result<Answer, Problem> {
        let mut request = Self::request(method, path, body)?;
        leave.put(request.headers_mut());
        answer(self.send(behalf, request).await?).await
    }
}

impl Leave {
    /// Puts it into a request's headers.
    pub(super) fn put(&self, headers: &mut HeaderMap) {
        let values = [
            (CSRF, &self.csrf),
            (ONCE, &self.once),
            (header::IF_MATCH, &self.etag),
        ];
        for (name, value) in values {
            // what is no header is not what the page was given
            if let Ok(value) = HeaderValue::from_str(value)
                && !value.is_empty()
            {
                headers.insert(name, value);
            }
        }
    }
}

pub(super) async fn answer(response: Response) -> Result<Answer, Problem> {
    let (parts, body) = response.into_parts();
    let failed = |error: &dyn std::fmt::Display| {
        Problem::broken(format!(
            "an answer of the API is no use to the console: {error}"
        ))
    };
    let body = to_bytes(body, MAX_ANSWER).await.map_err(|e| failed(&e))?;
    let body = if body.is_empty() {
        Value::Null
    } else {
        serde_json::from_slice(&body).map_err(|e| failed(&e))?
    };
    Ok(Answer {
        headers: parts.headers,
        body,
    })
}

/// What a page takes of an answer.
pub(super) fn part<T: DeserializeOwned>(body: Value) -> Result<T, Problem> {
    serde_json::from_value(body).map_err(|error| {
        Problem::broken(format!(
            "an answer of the API is not as the console knows it: {error}"
        ))
    })
}
