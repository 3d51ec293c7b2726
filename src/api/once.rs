//! Requests that come twice are carried out once: `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header) on every POST.
//!
//! A program that does not know whether its request has arrived sends it again with the same key, and has the first answer. The key
//! is taken, durably, before the request is carried out. The answer of one that has worked is kept; of one that was refused
//! the key is given back, because nothing was done. Where nobody knows what was done, because the server ended or it or its database failed
//! meanwhile, the request is refused from then on.

use std::iter;

use axum::{
    body::{Body, Bytes, HttpBody, to_bytes},
    extract::{Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts},
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt, stream};
use sha2::{Digest, Sha256};

use super::{ApiState, problem::Problem};
use crate::{
    access::{ADMIN_TOKEN, Caller, Operation, Secrecy},
    store::{Answer, Claim},
};

/// The header.
pub(super) const KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Says that an answer was given before.
const REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Longest key, characters.
pub(super) const MAX_KEY: usize = 255;
/// So much of a body tells requests apart, besides its length. A package or a list of devices is not kept in memory for that.
const COMPARED: usize = 1024 * 1024;
/// Longest body of an answer that is kept, bytes.
const MAX_ANSWER: u64 = 64 * 1024;
/// The error of the server after which it is certain that nothing was done.
const NOTHING_DONE: &str = "disk-full";
/// Carries a request out, unless its key says that this has been done.
pub(super) async fn once(
    State(state): State<ApiState>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    // the door has found out what is carried out
    let operation = request.extensions().get::<&'static Operation>();
    let secrecy = operation.map_or(Secrecy::Kept, |operation| operation.secrecy);
    if request.method() != Method::POST || secrecy == Secrecy::TakesPassword {
        return Ok(next.run(request).await);
    }
    let Some(key) = key(request.headers())? else {
        return Ok(next.run(request).await);
    };
    let (parts, body) = request.into_parts();
    let (start, body) = beginning(body).await;
    // how it was cut on its way says nothing
    let digest = digest(&parts, &start[..start.len().min(COMPARED)]);
    let (holder, key) = kept_as(&parts, &key);
    let claim = (state.store).claim_key((&holder, &key), digest, state.now());
    match claim.await? {
        Claim::New => {}
        Claim::Answered(answer) => return Ok(replayed(answer)),
        Claim::Unanswered => return Err(unanswered()),
        Claim::OtherRequest => {
            let detail =
                "another request was sent with this key; give each request a key of its own";
            return Err(Problem::field("Idempotency-Key", detail));
        }
    }
    let tells_a_secret = secrecy == Secrecy::TellsSecret;
    let request = Request::from_parts(parts, body);
    // to its end, also when nobody waits for the answer any more: whoever asks again wants to know
    let work = tokio::spawn(async move {
        let response = next.run(request).await;
        if tells_a_secret && response.status().is_success() {
            return Ok(response);
        }
        settled(&state, &key, response).await
    });
    work.await
        .unwrap_or_else(|error| Err(Problem::internal(&error)))
}

/// For whom a key is kept, and what it is kept as: callers do not hear of each other's. What a caller sends has no space in it.
fn kept_as(parts: &Parts, key: &str) -> (String, String) {
    let caller = parts.extensions.get::<Caller>();
    let holder = caller.and_then(Caller::tenant).map(ToString::to_string);
    let who = caller.map(Caller::who).filter(|who| who != ADMIN_TOKEN);
    let key = match who {
        Some(who) => format!("{who} {key}"),
        None => key.to_owned(),
    };
    (holder.unwrap_or_default(), key)
}

/// The key of a request, without the quotation marks that the draft has around it.
fn key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(KEY).iter();
    let (Some(value), another) = (values.next(), values.next()) else {
        return Ok(None);
    };
    let text = value.to_str().unwrap_or_default().trim();
    let quoted = text.strip_prefix('"').and_then(|it| it.strip_suffix('"'));
    let text = quoted.filter(|it| !it.is_empty()).unwrap_or(text);
    let ok = (1..=MAX_KEY).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic());
    if !ok || another.is_some() {
        let detail = format!(
            "give one key of 1 to {MAX_KEY} visible ASCII characters, such as a random UUID"
        );
        return Err(Problem::field("Idempotency-Key", detail));
    }
    Ok(Some(text.to_owned()))
}

/// The first part of a body, and the whole of it to be read once more.
async fn beginning(body: Body) -> (Vec<u8>, Body) {
    let mut parts = body.into_data_stream();
    let mut start = Vec::new();
    while start.len() < COMPARED {
        match parts.next().await {
            Some(Ok(part)) => start.extend_from_slice(&part),
            // whoever reads the body is told of what was wrong with it
            Some(Err(error)) => {
                let read = stream::iter([Ok(Bytes::from(start.clone())), Err(error)]);
                return (start, Body::from_stream(read));
            }
            None => return (start.clone(), Body::from(start)),
        }
    }
    let read = stream::iter(iter::once(Ok(Bytes::from(start.clone()))));
    (start, Body::from_stream(read.chain(parts)))
}

/// What tells a request from others.
fn digest(parts: &Parts, body: &[u8]) -> [u8; 32] {
    let header = |name| {
        parts
            .headers
            .get(name)
            .map_or(&[][..], HeaderValue::as_bytes)
    };
    let target = parts.uri.path_and_query();
    let target = target.map_or("", |target| target.as_str());
    // a proxy may send a body on with a length, or in chunks
    let length = if body.len() < COMPARED {
        &[]
    } else {
        header(header::CONTENT_LENGTH)
    };
    let mut digest = Sha256::new();
    // nobody has the answer to somebody else's request
    let caller = parts.extensions.get::<Caller>().map(Caller::who);
    let caller = caller.filter(|who| who != ADMIN_TOKEN);
    if let Some(who) = caller {
        digest.update(who);
        digest.update([0]);
    }
    for part in [
        target.as_bytes(),
        header(header::CONTENT_TYPE),
        header(header::IF_MATCH),
        length,
        body,
    ] {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    digest.finalize().into()
}

/// Keeps the answer, or gives the key back where nothing was done.
async fn settled(state: &ApiState, key: &str, response: Response) -> Result<Response, Problem> {
    let status = response.status();
    let problem = response.extensions().get::<Problem>();
    let kind = problem.and_then(|problem| problem.kind.rsplit(':').next());
    // A database that fails may have written before, or have written what it was not heard to.
    if status.is_server_error() && kind != Some(NOTHING_DONE) {
        return Ok(response);
    }
    if !status.is_success() {
        if let Err(error) = state.store.give_key_back(key).await {
            tracing::warn!(%error, "the Idempotency-Key of a refused request stays taken");
        }
        return Ok(response);
    }
    let length = response.body().size_hint().exact();
    let Some(length) = length.filter(|length| *length <= MAX_ANSWER) else {
        return Ok(response); // the key stays taken
    };
    let (parts, body) = response.into_parts();
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let body = to_bytes(body, length)
        .await
        .map_err(|error| Problem::internal(&error))?;
    let headers = parts.headers.iter().filter_map(|(name, value)| {
        let value = value.to_str().ok()?;
        Some((name.as_str().to_owned(), value.to_owned()))
    });
    let answer = Answer {
        status: status.as_u16(),
        headers: headers.collect(),
        body: body.to_vec(),
    };
    if let Err(error) = state.store.keep_answer(key, &answer).await {
        tracing::warn!(%error, "an answer is not kept for its Idempotency-Key");
    }
    Ok(Response::from_parts(parts, Body::from(body)))
}

fn replayed(answer: Answer) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let mut response = (status, answer.body).into_response();
    let headers = response.headers_mut();
    headers.clear();
    for (name, value) in answer.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.append(name, value);
        }
    }
    headers.insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

fn unanswered() -> Problem {
    Problem::conflict(
        "request-unanswered",
        "The request is not answered yet",
        "a request with this key is being carried out; ask again in a moment. If this stays so, its answer was not kept, or the server \
         ended or failed meanwhile: look whether it was done, and use another key",
    )
}
