//! Tells open pages that something is new (server-sent events). What it is they read as they were read the first time.

use std::{
    collections::HashMap,
    convert::Infallible,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use axum::{
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response, sse},
};
use futures_util::stream;
use tokio::{sync::watch, time::sleep};

use super::{Console, viewer::Viewer};
use crate::{api::stream_of, clock::Instant};

/// Pages that are told at the same time. Further ones look by themselves.
const MAX_PAGES: usize = 512;
/// Those of one session.
const MAX_PAGES_OF_ONE: usize = 64;
/// Between two times that a page is told, at the least.
const SOON: Duration = Duration::from_secs(2);
/// What is not written down, such as who waits, is looked at as often as this.
const IDLE: Duration = Duration::from_secs(10);
/// Between two looks whether the session goes on.
const LOOKED_AT: Duration = Duration::from_secs(30);
const KEEP_ALIVE: Duration = Duration::from_secs(25);

/// The pages that are told.
#[derive(Debug, Default)]
pub(super) struct Open(Mutex<HashMap<String, usize>>);

/// The place of a page that is told.
struct Place {
    open: Arc<Open>,
    who: String,
}

impl Open {
    fn take(self: &Arc<Self>, who: String) -> Option<Place> {
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let own = open.get(&who).copied().unwrap_or_default();
        if own >= MAX_PAGES_OF_ONE || open.values().sum::<usize>() >= MAX_PAGES {
            return None;
        }
        open.insert(who.clone(), own + 1);
        Some(Place {
            open: self.clone(),
            who,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.open.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = open.get_mut(&self.who) {
            *own -= 1;
            if *own == 0 {
                open.remove(&self.who);
            }
        }
    }
}

struct Feed {
    news: watch::Receiver<()>,
    stop: watch::Receiver<bool>,
    begun: bool,
    viewer: Viewer,
    let_in_at: Instant,
    _place: Place,
}

impl Feed {
    /// Whether the session goes on. It is asked once in a while.
    async fn is_let_in_still(&mut self) -> bool {
        let now = self.viewer.console.parts.clock.now().instant;
        if now.since(self.let_in_at) < LOOKED_AT {
            return true;
        }
        self.let_in_at = now;
        // what cannot be told now is told the next time
        !matches!(Viewer::find((*self.viewer).clone()).await, Ok(None))
    }
}

/// `changed`, whenever a page may have changed, two seconds apart at the least.
///
/// It tells nobody what it is: whoever reads the page anew has to be let in again.
pub(super) async fn stream(State(console): State<Console>, viewer: Viewer) -> Response {
    let Some(place) = console.open.take(viewer.caller().who()) else {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    };
    let feed = Feed {
        news: console.parts.signals.news.listen(),
        stop: console.parts.stop.clone(),
        begun: false,
        let_in_at: console.parts.clock.now().instant,
        viewer,
        _place: place,
    };
    let events = stream::unfold(feed, |mut feed| async move {
        if feed.begun {
            tokio::select! {
                () = sleep(SOON) => {}
                _ = feed.stop.wait_for(|stop| *stop) => return None,
            }
            tokio::select! {
                _ = feed.news.changed() => {}
                () = sleep(IDLE) => {}
                _ = feed.stop.wait_for(|stop| *stop) => return None,
            }
            feed.news.borrow_and_update();
            if !feed.is_let_in_still().await {
                return None;
            }
        }
        // browsers tell a script of no event without data (HTML, "Server-sent events")
        let name = if feed.begun { "changed" } else { "open" };
        feed.begun = true;
        Some((
            Ok::<_, Infallible>(sse::Event::default().event(name).data("-")),
            feed,
        ))
    });
    stream_of(events, KEEP_ALIVE)
}
