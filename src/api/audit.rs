//! Who has changed what, and who was not let do it.
//!
//! [`acting`] stands next to the handlers: what they write leaves rows of the audit log in its own transactions
//! ([`crate::store::Acting`]), and what has written nothing leaves one when it is done. [`changes`] stands outermost: it notes what was
//! refused, and tells of everything in lines of the target `cellwise::audit`.

pub(super) mod lines;
pub(super) mod log;

use std::sync::Arc;

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, Method, StatusCode, header},
    middleware::Next,
    response::Response,
};

use super::{
    door::Door,
    once,
    problem::Problem,
    source::{Source, bucket},
};
use crate::{
    access::{Caller, Scope},
    audit::{Entry, EntryResult, MAX_REASON, MAX_REQUEST},
    store::{Acting, Store, StoreError},
    tenant::TenantId,
};

/// Why something is done.
pub(super) const REASON: HeaderName = HeaderName::from_static("audit-reason");
/// What the caller calls its request.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Who was not let in.
const NOBODY: &str = "nobody";
/// Longest name in [`Entry::target`], bytes.
const MAX_TARGET: usize = 300;

/// What is in an answer to what has left its row already.
#[derive(Debug, Clone, Copy)]
struct Written;

/// Whether a request may change something.
pub(super) fn may_change(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// Tells of every request that may change something what came of it. The path names what was changed, or the location
/// what was created. What was refused is noted for the audit log, reads too when their caller was not let in or may not do it.
pub(super) async fn changes(
    State(door): State<Arc<Door>>,
    path: MatchedPath,
    request: Request,
    next: Next,
) -> Response {
    let method = request.method().clone();
    let source = Source::of(&request);
    let asked = without_people(request.uri().path());
    let named = request.headers().contains_key(header::AUTHORIZATION);
    let mut entry = entry(&door, path.as_str(), &request);
    let mut response = next.run(request).await;
    let status = response.status();
    let caller = response.extensions().get::<Caller>().cloned();
    let who = caller.as_ref().map(Caller::who);
    entry.tenant = caller
        .as_ref()
        .and_then(|it| it.tenant())
        .map(TenantId::to_string);
    if may_change(&method) && status != StatusCode::UNAUTHORIZED {
        let created = response.headers().get(header::LOCATION);
        let created = created.and_then(|location| location.to_str().ok());
        let status = status.as_u16();
        tracing::info!(target: "cellwise::audit", who, %source, status, created, "{method} {asked}");
    }
    let written = response.extensions_mut().remove::<Written>().is_some();
    let told = match status {
        StatusCode::UNAUTHORIZED => named || may_change(&method),
        StatusCode::FORBIDDEN => true,
        // whoever asks too often does not write as often
        StatusCode::TOO_MANY_REQUESTS => false,
        status => may_change(&method) && (status.is_client_error() || status.is_server_error()),
    };
    if told && !written {
        let unknown = status == StatusCode::METHOD_NOT_ALLOWED;
        if !unknown {
            if let Some(who) = who {
                entry.who = who;
            }
            outcome(&mut entry, &response);
            let network = bucket(source).to_string();
            door.state().trail.refused(entry, Some(network));
        }
    }
    response
}

/// What a request is about.
fn entry(door: &Door, path: &str, request: &Request) -> Entry {
    let operation = door.name_of(path, request.method());
    Entry {
        at: door.state().now(),
        who: NOBODY.to_owned(),
        source: Some(Source::of(request).to_string()),
        operation: operation.unwrap_or("none").to_owned(),
        target: target(request.uri().path()),
        request: request_id(request.headers()),
        ..Entry::default()
    }
}

/// What came of it.
fn outcome(entry: &mut Entry, response: &Response) {
    let status = response.status();
    entry.result = match status {
        status if status.is_server_error() => EntryResult::Failed,
        status if status.is_client_error() => EntryResult::Refused,
        _ => EntryResult::Done,
    };
    if entry.result != EntryResult::Done {
        entry.status = Some(status.as_u16());
        let problem = response.extensions().get::<Problem>();
        entry.problem = problem.map(|problem| problem.name().to_owned());
    }
}

/// A path that names no end user: the name would outlive what is kept of the user.
fn without_people(path: &str) -> String {
    let mut segments: Vec<&str> = path.split('/').collect();
    for at in 1..segments.len() {
        if matches!(segments[at - 1], "app-users" | "members") {
            segments[at] = "…";
        }
    }
    segments.join("/")
}

/// `devices/urn:imei:1` of `/v1/devices/urn:imei:1`; what is done with it is left out.
fn target(path: &str) -> Option<String> {
    let mut segments = path.strip_prefix("/v1/")?.splitn(3, '/');
    let kind = segments.next()?;
    let mut target = kind.to_owned();
    // people are not named here: what is written of them says what stands for them
    let person = kind == "app-users";
    if let Some(id) = segments.next().filter(|_| !person) {
        target.push('/');
        target.push_str(&decoded(id));
    }
    let end = (0..=MAX_TARGET.min(target.len())).rev();
    let end = end.into_iter().find(|at| target.is_char_boundary(*at))?;
    target.truncate(end);
    Some(target)
}

/// A segment of a path without its escapes (RFC 3986 §2.1).
fn decoded(segment: &str) -> String {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..2).filter(|_| *first == b'%');
        let byte = digits.and_then(|digits| hex::decode(digits).ok()?.pop());
        bytes.push(byte.unwrap_or(*first));
        rest = if byte.is_some() { &behind[2..] } else { behind };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn request_id(headers: &HeaderMap) -> Option<String> {
    let given = headers.get(REQUEST_ID).or_else(|| headers.get(once::KEY))?;
    let text = given.to_str().ok()?;
    let fits = (1..=MAX_REQUEST).contains(&text.len());
    fits.then(|| text.to_owned())
}

/// Why it is done, as its caller says.
fn reason(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(given) = headers.get(REASON) else {
        return Ok(None);
    };
    let text = std::str::from_utf8(given.as_bytes()).map(str::trim);
    let fits = |text: &&str| {
        (1..=MAX_REASON).contains(&text.chars().count()) && !text.chars().any(char::is_control)
    };
    match text.ok().filter(fits) {
        Some(text) => Ok(Some(text.to_owned())),
        None => Err(Problem::field(
            "Audit-Reason",
            format!(
                "a reason has 1 to {MAX_REASON} characters, in UTF-8, and no control characters"
            ),
        )),
    }
}

/// Carries a request out on behalf of its caller.
pub(super) async fn acting(
    State(door): State<Arc<Door>>,
    path: MatchedPath,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let caller = request.extensions().get::<Caller>();
    // a browser that comes back from the identity provider logs in by a GET
    if !may_change(request.method()) && caller.is_some() {
        return Ok(next.run(request).await);
    }
    let Some(who) = caller.map(Caller::who) else {
        let entry = entry(&door, path.as_str(), &request);
        let response = next.run(request).await;
        return Ok(let_in(&door, entry, response).await);
    };
    let scope = request.extensions().get::<Scope>();
    let tenants = scope.and_then(Scope::tenants);
    let tenant = match tenants.as_deref() {
        Some([only]) => Some(only.to_string()),
        _ => None, // what is written says it
    };
    let entry = Entry {
        who,
        tenant,
        why: reason(request.headers())?,
        ..entry(&door, path.as_str(), &request)
    };
    let state = door.state();
    let guard = Unfinished {
        store: state.store.clone(),
        acting: Acting::new(entry),
    };
    let mut response = guard.acting.scope(next.run(request)).await;
    let mut ended = guard.acting.entry();
    outcome(&mut ended, &response);
    let created = response.headers().get(header::LOCATION);
    let created = created.and_then(|location| target(location.to_str().ok()?));
    if let Err(error) = finish(&*state.store, &guard.acting, ended, created).await {
        tracing::error!(%error, "what was done is not in the audit log");
    }
    if guard.acting.has_left_a_row() {
        response.extensions_mut().insert(Written);
    }
    Ok(response)
}

/// Whoever has logged in was nobody before.
async fn let_in(door: &Door, mut entry: Entry, mut response: Response) -> Response {
    if let Some(caller) = response.extensions().get::<Caller>() {
        entry.who = caller.who();
        if let Err(error) = door.state().store.add_to_audit(&[entry]).await {
            tracing::error!(%error, "who has logged in is not in the audit log");
        }
        response.extensions_mut().insert(Written);
    }
    response
}

/// What was written in parts is over, and what has written nothing leaves a row too.
async fn finish(
    store: &dyn Store,
    acting: &Acting,
    mut ended: Entry,
    created: Option<String>,
) -> Result<(), StoreError> {
    if acting.is_open() {
        return store.end_act(acting, &ended).await;
    }
    if acting.has_left_a_row() || ended.result != EntryResult::Done {
        return Ok(());
    }
    ended.target = created.or(ended.target);
    store.add_to_audit(&[ended]).await
}

/// Ends what its caller does not wait for any more.
struct Unfinished {
    store: Arc<dyn Store>,
    acting: Arc<Acting>,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.acting.leave() {
            return;
        }
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return; // the next start makes a row of it
        };
        let (store, acting) = (self.store.clone(), self.acting.clone());
        runtime.spawn(async move {
            let mut entry = acting.entry();
            entry.result = EntryResult::Interrupted;
            if let Err(error) = store.end_act(&acting, &entry).await {
                tracing::warn!(%error, "what was interrupted is not in the audit log before the next start");
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_tells_what_it_is_about() {
        for (path, expected) in [
            ("/v1/devices", Some("devices")),
            ("/v1/devices/urn%3Aimei%3A1", Some("devices/urn:imei:1")),
            ("/v1/tasks/7/stop", Some("tasks/7")),
            ("/v1/devices/%zz%", Some("devices/%zz%")),
            ("/metrics", None),
        ] {
            assert_eq!(target(path).as_deref(), expected);
        }
        let long = format!("/v1/devices/{}", "ä".repeat(1_000));
        assert!(target(&long).unwrap().len() <= MAX_TARGET);
    }
}
