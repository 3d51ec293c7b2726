//! The face for people: pages in a browser, below `/console`, on the listener of the admin API.
//!
//! A page is made on the server. It calls the operations of the API in the same process, with the session of whoever looks at it (`calls`),
//! so that what somebody may see and do here is what the API permits. What changes something is a form, and works without a script; the
//! one script (`assets/console.js`) renews pages, completes filters and shows how far an upload is.

mod account;
mod assets;
mod audit;
mod calls;
mod chart;
mod confirm;
mod csv;
mod door;
mod evidence;
mod failure;
mod fields;
mod fleet;
mod homes;
mod listed;
mod live;
mod login;
mod menu;
mod now;
mod offers;
mod packages;
mod page;
mod people;
mod products;
mod settings;
mod sheet;
mod tasks;
mod tenants;
mod texts;
mod times;
mod upgrades;
mod upload;
mod viewer;
mod webhooks;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::{
    Router,
    extract::DefaultBodyLimit,
    middleware::from_fn_with_state,
    response::Redirect,
    routing::{get, post},
};
use tokio::sync::watch;

use self::{calls::Calls, live::Open};
use crate::{clock::SystemClock, config::Settings, signal::Signals};

/// Where the pages are, below the prefix of the settings.
const PLACE: &str = "/console";
/// Largest form. Files are taken apart from that.
const MAX_FORM: usize = 1 << 20;

/// What the pages are made with.
#[derive(Clone)]
pub struct Parts {
    /// The settings.
    pub settings: Settings,
    /// The clock.
    pub clock: SystemClock,
    /// Tells open pages that something is new.
    pub signals: Arc<Signals>,
    /// Turns true when the server stops.
    pub stop: watch::Receiver<bool>,
}

/// What the handlers work with.
#[derive(Clone)]
struct Console {
    parts: Parts,
    calls: Calls,
    open: Arc<Open>,
}

/// The pages, over the routes of the API.
pub fn router(parts: Parts, operations: Router) -> Router {
    let settings = parts.settings.get().console.clone();
    if !settings.enabled {
        return Router::new();
    }
    let prefix = settings.path_prefix;
    let console = Console {
        calls: Calls::new(operations),
        open: Arc::default(),
        parts,
    };
    let now = format!("{prefix}{PLACE}/now");
    let home = move || {
        let now = now.clone();
        async move { Redirect::to(&now) }
    };
    let pages = pages(console);
    let homes = ["/", PLACE, &format!("{PLACE}/")].map(str::to_owned);
    // a proxy may take the prefix away, or leave it
    let mut router = Router::new().nest(PLACE, pages.clone());
    for path in &homes {
        router = router.route(path, get(home.clone()));
    }
    if !prefix.is_empty() {
        router = router.nest(&format!("{prefix}{PLACE}"), pages);
        for path in homes.iter().chain(&[String::new()]) {
            router = router.route(&format!("{prefix}{path}"), get(home.clone()));
        }
    }
    router
}

fn pages(console: Console) -> Router {
    let inside = Router::new()
        .route("/now", get(now::show))
        .route("/logout", post(login::log_out))
        .route("/live", get(live::stream))
        .merge(tasks::routes())
        .merge(packages::routes())
        .merge(products::routes())
        .merge(people::routes())
        .merge(homes::routes())
        .merge(offers::routes())
        .merge(webhooks::routes())
        .merge(audit::routes())
        .route("/settings", get(settings::show))
        .merge(evidence::routes())
        .merge(account::routes())
        .merge(fleet::routes())
        .merge(upgrades::routes())
        .fallback(page::missing)
        .method_not_allowed_fallback(page::missing)
        .layer(from_fn_with_state(console.clone(), door::admit));
    Router::new()
        .route(
            "/login",
            // with what was entered in another form
            get(login::show)
                .post(login::log_in)
                .layer(DefaultBodyLimit::max(4 * MAX_FORM)),
        )
        .route("/login/provider", get(login::by_provider))
        .route("/language", get(login::set_language))
        .route("/static/{version}/{name}", get(assets::serve))
        .merge(inside)
        .layer(DefaultBodyLimit::max(MAX_FORM))
        .layer(axum::middleware::from_fn(page::headers))
        .with_state(console)
}
