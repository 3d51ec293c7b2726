//! `/v1/events`: what happens, as server-sent events.

use std::{
    collections::{HashMap, VecDeque},
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{
        IntoResponse, Response,
        sse::{self, KeepAlive, Sse},
    },
};
use futures_util::{Stream, stream};
use serde::Deserialize;
use tokio::{sync::watch, time::sleep};
use utoipa::IntoParams;

use super::{
    ApiState,
    admitted::Credential,
    door::is_let_in_still,
    extract::Query,
    problem::Problem,
    scoped::{self, Seen},
};
use crate::{
    access::{Caller, Scope},
    clock::Instant,
    ledger::TaskId,
    notify::Payload,
    store::{Event, Subject},
    tenant,
};

/// Streams at the same time.
const MAX_STREAMS: usize = 64;
/// Streams of all callers that are granted something on one tenant only; the others are the carrier's.
const MAX_STREAMS_OF_TENANTS: usize = 56;
/// Streams of the callers of one tenant at the same time, so that others have some too.
pub(super) const MAX_STREAMS_OF_TENANT: usize = 16;
/// Streams of one caller at the same time, so that others have some too.
pub(super) const MAX_STREAMS_OF_ONE: usize = 8;
/// Events that are read at once.
const PAGE: u32 = 500;
/// A comment is sent after this long without an event, so that a connection that is dead is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// A client connects again after this.
const RETRY: Duration = Duration::from_secs(3);
/// Between two looks at the store at the least.
const SOON: Duration = Duration::from_millis(100);
/// Between two looks at the most, and between two questions whether the caller is let in still.
const IDLE: Duration = Duration::from_secs(10);
const LAST_EVENT_ID: &str = "last-event-id";

/// The streams that are open.
#[derive(Debug, Default)]
pub struct Streams(Mutex<HashMap<Holder, usize>>);

/// Whose streams: a caller, and the tenant on which it is granted whatever it is granted.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Holder {
    tenant: Option<String>,
    who: String,
}

impl Holder {
    fn of(caller: &Caller) -> Self {
        Self {
            tenant: caller.tenant().map(ToString::to_string),
            who: caller.who(),
        }
    }
}

impl Streams {
    /// Takes a place for another stream of a caller; otherwise why there is none.
    fn take(self: &Arc<Self>, holder: Holder) -> Result<Place, String> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = |counts: &dyn Fn(&Holder) -> bool| -> usize {
            let counted = open.iter().filter(|(holder, _)| counts(holder));
            counted.map(|(_, open)| open).sum()
        };
        let too_many = |whose: &str, most: usize| {
            Err(format!(
                "{whose}{most} streams open already; close one, or use webhooks"
            ))
        };
        if count(&|_| true) >= MAX_STREAMS {
            return too_many("", MAX_STREAMS);
        }
        if let Some(tenant) = &holder.tenant {
            if count(&|it| it.tenant.is_some()) >= MAX_STREAMS_OF_TENANTS {
                return too_many("callers of tenants have ", MAX_STREAMS_OF_TENANTS);
            }
            if count(&|it| it.tenant.as_ref() == Some(tenant)) >= MAX_STREAMS_OF_TENANT {
                let whose = format!("callers of the tenant {tenant} have ");
                return too_many(&whose, MAX_STREAMS_OF_TENANT);
            }
        }
        if count(&|it| *it == holder) >= MAX_STREAMS_OF_ONE {
            return too_many(&format!("{} has ", holder.who), MAX_STREAMS_OF_ONE);
        }
        *open.entry(holder.clone()).or_default() += 1;
        Ok(Place {
            streams: self.clone(),
            holder,
        })
    }
}

/// The place of a stream that is open; when it is dropped, it is free again.
#[derive(Debug)]
struct Place {
    streams: Arc<Streams>,
    holder: Holder,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = (self.streams.0.lock()).unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = open.get_mut(&self.holder) {
            *own -= 1;
            if *own == 0 {
                open.remove(&self.holder);
            }
        }
    }
}

/// Which events.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct Filter {
    /// Those of one task only.
    task_id: Option<i64>,
    /// Those that follow the event of this number: 0 begins with the oldest that is kept. `Last-Event-ID` wins
    /// over it. Without either the stream begins with the next event.
    #[param(minimum = 0)]
    after: Option<i64>,
}

/// What happens, as it happens.
///
/// Server-sent events (WHATWG HTML, "Server-sent events"): `id` is the event's number, `event` its type, `data`
/// the same document that webhooks are posted. The stream begins with an `id` without an event, so that after a
/// break a client can always send `Last-Event-ID`, and gets what it missed. When some of that is not kept any more,
/// the first event is of type `gap` instead, and its `data` holds as `forgotten` the number of the newest event that
/// is not: outcomes up to that have to be read from `/v1/tasks/{id}/upgrades`.
#[utoipa::path(get, path = "/v1/events", operation_id = "stream_events", tag = "events",
    params(Filter, ("Last-Event-ID" = Option<i64>, Header, description = "Number of the last event that was received")),
    responses(
        (status = 200, description = "Events, without end", body = Payload, content_type = "text/event-stream"),
        (status = 400, description = "A parameter is unknown or not a number", body = Problem),
        (status = 422, description = "The number of the last event is not one", body = Problem),
        (status = 503, description = "Too many streams are open: 64, 16 of this caller's tenant, or 8 of this caller", body = Problem),
    ))]
pub(super) async fn stream_events(
    State(state): State<ApiState>,
    caller: Caller,
    credential: Credential,
    scope: Scope,
    Query(filter): Query<Filter>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let place = state.streams.take(Holder::of(&caller)).map_err(|why| {
        Problem::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "too-many-streams",
            "Too many streams are open",
            why,
        )
    })?;
    let (forgotten, newest) = state.store.event_range().await?;
    let last = (headers.get(LAST_EVENT_ID))
        .map(|value| number(value.to_str().unwrap_or_default()))
        .transpose()?;
    let after = last.or(filter.after).unwrap_or(newest);
    if !(0..=newest).contains(&after) {
        return Err(Problem::field(
            "Last-Event-ID",
            format!("{after} is no number of an event; the newest is {newest}"),
        ));
    }
    // whoever asks for all that is kept misses nothing
    let misses = after < forgotten && (last.is_some() || after > 0);
    let feed = Feed {
        gap: misses.then_some(forgotten),
        news: state.signals.news.listen(),
        stop: state.stop.clone(),
        let_in_at: state.clock.now().instant,
        state,
        caller,
        credential,
        scope,
        task: filter.task_id.map(TaskId),
        after,
        ready: VecDeque::new(),
        begun: false,
        _place: place,
    };
    Ok(stream_of(feed.stream(), KEEP_ALIVE))
}

/// The answer that tells events, and a comment after so long without one.
pub(crate) fn stream_of(
    events: impl Stream<Item = Result<sse::Event, Infallible>> + Send + 'static,
    keep_alive: Duration,
) -> Response {
    let keep_alive = KeepAlive::new().interval(keep_alive);
    let stream = Sse::new(events).keep_alive(keep_alive);
    // nginx holds an answer back until it has some kilobytes of it, unless it is told not to
    ([("x-accel-buffering", "no")], stream).into_response()
}

fn number(text: &str) -> Result<i64, Problem> {
    text.trim().parse().map_err(|_| {
        Problem::field(
            "Last-Event-ID",
            format!("{text:?} is no number of an event"),
        )
    })
}

/// The device that an event is about.
fn endpoint(event: &Event) -> Option<&str> {
    match &event.subject {
        Subject::Upgrade { endpoint, .. } | Subject::Start { endpoint, .. } => Some(endpoint),
        Subject::Offer { .. } | Subject::Task { .. } => None,
    }
}

/// Whether an event is about what somebody does or sees at home.
const fn is_of_home(event: &Event) -> bool {
    matches!(event.subject, Subject::Start { .. } | Subject::Offer { .. })
}

/// What one stream reads.
struct Feed {
    state: ApiState,
    caller: Caller,
    credential: Credential,
    scope: Scope,
    news: watch::Receiver<()>,
    stop: watch::Receiver<bool>,
    task: Option<TaskId>,
    /// Number of the event that was read last.
    after: i64,
    ready: VecDeque<Event>,
    /// Number of the newest event that is not kept any more, when the client misses it.
    gap: Option<i64>,
    begun: bool,
    /// When it was asked last whether the caller is let in still.
    let_in_at: Instant,
    _place: Place,
}

impl Feed {
    fn stream(self) -> impl Stream<Item = Result<sse::Event, Infallible>> {
        stream::unfold(self, async |mut feed| {
            let event = feed.next().await?;
            Some((Ok(event), feed))
        })
    }

    /// The next event; `None` when the server stops or the store fails, and the client connects again, or when its token has ended.
    async fn next(&mut self) -> Option<sse::Event> {
        if !self.begun {
            self.begun = true;
            // shows a client at once that it is connected, and where
            let begin = sse::Event::default().retry(RETRY).comment("events follow");
            return Some(match self.gap {
                None => begin.id(self.after.to_string()),
                Some(_) => begin,
            });
        }
        if let Some(forgotten) = self.gap.take() {
            let told = serde_json::json!({ "forgotten": forgotten });
            return Some(sse::Event::default().event("gap").data(told.to_string()));
        }
        loop {
            // also while there is much to tell
            if self.state.clock.now().instant >= self.let_in_at + IDLE && !self.is_let_in().await? {
                return None;
            }
            if let Some(event) = self.ready.pop_front() {
                let payload = Payload::new(&event, &self.state.instance);
                let data = serde_json::to_string(&payload).ok()?;
                let id = event.id.to_string();
                return Some(sse::Event::default().id(id).event(event.kind).data(data));
            }
            self.news.mark_unchanged();
            // whoever is not let in any more is told nothing more
            if !self.is_let_in().await? {
                return None;
            }
            let events = (self.state.store).events(self.after, self.task, PAGE);
            let read = events.await.ok()?;
            if let Some(last) = read.last() {
                self.after = last.id;
                self.ready = self.seen(read).await?;
                continue;
            }
            let news = async {
                tokio::select! {
                    changed = self.news.changed() => changed.ok(),
                    () = sleep(IDLE) => Some(()),
                }
            };
            tokio::select! {
                news = news => news?,
                Ok(_) = self.stop.wait_for(|stop| *stop) => return None,
            }
            sleep(SOON).await;
        }
    }

    /// Whether the caller is let in still; `None` when the store fails.
    async fn is_let_in(&mut self) -> Option<bool> {
        self.let_in_at = self.state.clock.now().instant;
        let is_let_in = is_let_in_still(&self.state, &self.caller, &self.credential);
        is_let_in.await.ok()
    }

    /// Those of some events that are there for the caller: of its devices, and of tasks that were made for them. Homes are not there for who
    /// is granted some devices of a tenant only.
    async fn seen(&self, events: Vec<Event>) -> Option<VecDeque<Event>> {
        if self.scope == Scope::Whole {
            return Some(events.into());
        }
        let endpoints = events.iter().filter_map(|event| endpoint(event));
        let seen = Seen::of(&self.state, &self.scope, endpoints).await.ok()?;
        let mut kept = VecDeque::new();
        for mut event in events {
            let owner = tenant::owner(&event.product);
            let (has, has_all) = (self.scope.has(owner), self.scope.has_all_of(owner));
            let keep = match endpoint(&event) {
                _ if !has => false,
                // the device may be gone
                _ if has_all => true,
                _ if is_of_home(&event) => false,
                Some(endpoint) => seen.has(endpoint),
                None => (self.state.store.task(event.task).await.ok()?)
                    .is_some_and(|task| scoped::has_task(&self.scope, &task)),
            };
            if !keep {
                continue;
            }
            if let Subject::Upgrade { home, .. } = &mut event.subject
                && !has_all
            {
                *home = None;
            }
            kept.push_back(event);
        }
        Some(kept)
    }
}
