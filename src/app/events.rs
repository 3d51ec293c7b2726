//! `/app/v1/homes/{home}/events`: where the devices of a home stand, as it changes, as server-sent events.
//!
//! A stream looks at its home: often while something goes on there, and seldom else; at once when somebody does something there over this
//! face. An event's `id` holds a mark of each device's last event, so that a client that comes back is told of the devices that stand
//! otherwise by now. What happened in between is not told. Where one of those devices has left, it is told to begin anew (`reset`).

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    convert::Infallible,
    time::Duration,
};

use axum::{
    extract::State,
    http::{HeaderMap, StatusCode},
    response::{Response, sse},
};
use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use futures_util::{Stream, stream};
use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep};

use super::{
    bodies::AppStatus,
    figures::{self, Ration},
    listeners::{Full, Place},
    person::{Inside, is_inside_still},
    problem::Problem,
    state::AppState,
    view::View,
};
use crate::{
    api::stream_of,
    home::{MAX_HOME_DEVICES, Status},
};

/// A comment is sent after this long without an event, so that a connection that is dead is noticed.
const KEEP_ALIVE: Duration = Duration::from_secs(30);
/// A client connects again after this.
const RETRY: Duration = Duration::from_secs(5);
/// Between two looks while something goes on.
const BUSY: Duration = Duration::from_secs(2);
/// Between two looks while nothing does.
const IDLE: Duration = Duration::from_secs(30);
/// Between two looks at the least, also where much is done.
const SOON: Duration = Duration::from_millis(200);
/// Between two questions whether the user is let in still.
const LET_IN: Duration = Duration::from_secs(30);
const LAST_EVENT_ID: &str = "last-event-id";
/// Bytes of a mark: what stands for the device, and what stands for where it stands.
const MARK: usize = NAME + 6;
/// Those of the device.
const NAME: usize = 4;
/// Longest `Last-Event-ID`: a mark for each device of a home.
const MAX_ID: usize = MAX_HOME_DEVICES * MARK * 4 / 3 + 4;

/// What stands for where a device stands.
type Mark = [u8; MARK];

/// Where the devices of a home stand, as it changes.
///
/// Server-sent events (WHATWG HTML, "Server-sent events"). Without `Last-Event-ID` the stream begins with an event `status` of each device;
/// with it, of those that stand otherwise than that event told; where one of those has left the home meanwhile, `reset` comes first, and an
/// event of each device that is there follows: forget the others. `data` is as `GET …/devices/{device}/status` answers. `removed` tells of a
/// device that is in the home no more. The stream ends when the token does: come back with another one.
#[utoipa::path(get, path = "/app/v1/homes/{home}/events", operation_id = "stream_home_events", tag = "events",
    params(("home" = String, Path, description = "The home"),
        ("Last-Event-ID" = Option<String>, Header, description = "The `id` of the last event that was received"),
        ("Accept-Language" = Option<String>, Header, description = "The language of texts")),
    responses(
        (status = 200, description = "Events, without end", body = AppStatus, content_type = "text/event-stream"),
        (status = 422, description = "Last-Event-ID is none", body = Problem),
        (status = 503, description = "Too many streams are open, of all homes or of this one", body = Problem),
    ))]
pub(super) async fn stream_home_events(
    State(state): State<AppState>,
    inside: Inside,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let known = headers.get(LAST_EVENT_ID).map(|id| marks(id.as_bytes()));
    let known = known.transpose()?.unwrap_or_default();
    let place = state.listeners.take(&inside.home).map_err(|why| {
        figures::refused(&state.metrics, Ration::Listeners);
        full(why)
    })?;
    let feed = Feed {
        stop: state.stop.clone(),
        let_in_at: Instant::now(),
        place,
        known,
        told: BTreeMap::new(),
        ready: VecDeque::new(),
        is_busy: false,
        looked_at: None,
        begun: false,
        headers: languages(&headers),
        inside,
        state,
    };
    Ok(stream_of(feed.stream(), KEEP_ALIVE))
}

fn full(full: Full) -> Problem {
    let detail = match full {
        Full::All(most) => format!("{most} streams are open; ask for the status now and then"),
        Full::Home(most) => format!("{most} streams of this home are open already; close one"),
    };
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "too-many-streams",
        "Too many streams are open",
        detail,
    )
}

/// What of the headers is looked at while the stream lasts.
fn languages(headers: &HeaderMap) -> HeaderMap {
    let name = axum::http::header::ACCEPT_LANGUAGE;
    let language = headers.get(&name).cloned();
    language
        .map(|language| (name, language))
        .into_iter()
        .collect()
}

/// The marks that a `Last-Event-ID` holds.
fn marks(id: &[u8]) -> Result<HashSet<Mark>, Problem> {
    let no_id = || Problem::field("Last-Event-ID", "this is no id of an event of this stream");
    if id.len() > MAX_ID {
        return Err(no_id());
    }
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(id).map_err(|_| no_id())?;
    let (marks, rest) = bytes.as_chunks::<MARK>();
    if !rest.is_empty() {
        return Err(no_id());
    }
    Ok(marks.iter().copied().collect())
}

fn mark(status: &AppStatus) -> Mark {
    let name = Sha256::digest(status.device.as_bytes());
    // numbers and texts have a form in JSON
    let digest = Sha256::digest(serde_json::to_vec(status).unwrap_or_default());
    let mut mark = [0; MARK];
    for (to, from) in mark
        .iter_mut()
        .zip(name.into_iter().take(NAME).chain(digest))
    {
        *to = from;
    }
    mark
}

/// Whether there is a device, among those that are there, for each that was told of.
fn are_here(known: &HashSet<Mark>, here: &[AppStatus]) -> bool {
    let here: Vec<Mark> = here.iter().map(mark).collect();
    let here: HashSet<&[u8]> = here.iter().filter_map(|mark| mark.get(..NAME)).collect();
    known
        .iter()
        .all(|mark| mark.get(..NAME).is_some_and(|name| here.contains(name)))
}

/// What one stream tells.
struct Feed {
    state: AppState,
    inside: Inside,
    headers: HeaderMap,
    place: Place,
    stop: tokio::sync::watch::Receiver<bool>,
    /// What the client was told before it came back.
    known: HashSet<Mark>,
    /// What was told of each device last.
    told: BTreeMap<String, Mark>,
    ready: VecDeque<Happened>,
    /// Whether anything went on when it was looked last.
    is_busy: bool,
    looked_at: Option<Instant>,
    begun: bool,
    /// When it was asked last whether the user is let in still.
    let_in_at: Instant,
}

/// What is told.
enum Happened {
    Status(Box<AppStatus>),
    Removed(String),
    /// What the client knows of devices is over.
    Reset,
}

impl Feed {
    fn stream(self) -> impl Stream<Item = Result<sse::Event, Infallible>> {
        stream::unfold(self, async |mut feed| {
            let event = feed.next().await?;
            Some((Ok(event), feed))
        })
    }

    /// The next event; `None` when the server stops or the store fails, and the client connects again, or when the token has ended.
    async fn next(&mut self) -> Option<sse::Event> {
        if !self.begun {
            self.begun = true;
            // shows a client at once that it is connected
            return Some(sse::Event::default().retry(RETRY).comment("events follow"));
        }
        loop {
            if let Some(happened) = self.ready.pop_front() {
                return self.event(&happened);
            }
            self.wait().await?;
            self.look().await?;
        }
    }

    fn event(&mut self, happened: &Happened) -> Option<sse::Event> {
        let (kind, data) = match happened {
            Happened::Status(status) => {
                self.told.insert(status.device.clone(), mark(status));
                ("status", serde_json::to_string(status).ok()?)
            }
            Happened::Removed(device) => {
                self.told.remove(device);
                let told = serde_json::json!({ "device": device });
                ("removed", told.to_string())
            }
            Happened::Reset => ("reset", "{}".to_owned()),
        };
        let marks: Vec<u8> = self.told.values().flatten().copied().collect();
        let id = BASE64_URL_SAFE_NO_PAD.encode(marks);
        Some(sse::Event::default().id(id).event(kind).data(data))
    }

    /// Until there may be something to tell.
    async fn wait(&mut self) -> Option<()> {
        let Some(looked_at) = self.looked_at else {
            return Some(()); // at once
        };
        let pause = if self.is_busy { BUSY } else { IDLE };
        let hinted = async {
            let changed = self.place.hints.changed().await;
            tokio::time::sleep_until(looked_at + SOON).await;
            changed.ok()
        };
        tokio::select! {
            hinted = hinted => hinted,
            () = sleep(pause) => Some(()),
            Ok(_) = self.stop.wait_for(|stop| *stop) => None,
        }
    }

    /// Looks at the home, and notes what has changed.
    async fn look(&mut self) -> Option<()> {
        let looks = self.state.looks.clone();
        // never closed
        let _one_of_few = looks.acquire_owned().await.ok()?;
        self.place.hints.mark_unchanged();
        let now = Instant::now();
        let token_ends = self.inside.person.ends_at <= self.state.now();
        if token_ends || now >= self.let_in_at + LET_IN {
            self.let_in_at = now;
            let is_inside = is_inside_still(&self.state, &self.inside).await.ok()?;
            if !is_inside {
                return None;
            }
        }
        let view = View::of(&self.state, &self.inside.home, None, &self.headers);
        let statuses = view.await.ok()?.statuses();
        self.looked_at = Some(Instant::now());
        self.is_busy = statuses.iter().any(is_under_way);
        self.note(statuses);
        Some(())
    }

    fn note(&mut self, statuses: Vec<AppStatus>) {
        let here: HashSet<&str> = statuses.iter().map(|it| it.device.as_str()).collect();
        let gone = self
            .told
            .keys()
            .filter(|name| !here.contains(name.as_str()));
        let gone: Vec<Happened> = gone.cloned().map(Happened::Removed).collect();
        self.ready.extend(gone);
        let mut known = std::mem::take(&mut self.known);
        if !are_here(&known, &statuses) {
            known.clear();
            self.ready.push_back(Happened::Reset);
        }
        for status in statuses {
            let mark = mark(&status);
            if known.contains(&mark) {
                self.told.insert(status.device, mark);
            } else if self.told.get(&status.device) != Some(&mark) {
                self.ready.push_back(Happened::Status(Box::new(status)));
            }
        }
    }
}

fn is_under_way(status: &AppStatus) -> bool {
    let mut all = Status::ALL.into_iter();
    let under_way = all.find(|it| it.number() == status.status);
    under_way.is_some_and(Status::is_under_way)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_id_is_refused_and_marks_are_read_back() {
        let bytes: Vec<u8> = (0..20).collect();
        let id = BASE64_URL_SAFE_NO_PAD.encode(bytes);
        let read = marks(id.as_bytes()).unwrap();
        assert_eq!(read.len(), 2);
        assert!(read.contains(&[10, 11, 12, 13, 14, 15, 16, 17, 18, 19]));
        assert!(marks(b"").unwrap().is_empty());
        let most = BASE64_URL_SAFE_NO_PAD.encode([0; MAX_HOME_DEVICES * MARK]);
        assert!(marks(most.as_bytes()).is_ok());
        for none in [&b"AAAA"[..], b"17", b"\xff", &[b'A'; MAX_ID + 1]] {
            assert!(marks(none).is_err());
        }
    }
}
