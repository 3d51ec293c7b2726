//! The face for end users' applications: `/app/v1`, on a listener of its own.
//!
//! It is thin: who asks is told by a token (`tokens`), what somebody may do in which home stands in a table (`routes`, `door`), and what is
//! done are the operations of `store` that the admin API has too. Nobody learns whether a home is there that is not theirs.

mod acting;
mod automatic;
mod bodies;
mod cors;
mod counting;
mod description;
mod door;
mod events;
mod figures;
mod homes;
mod listeners;
mod person;
mod plan;
mod problem;
mod rations;
mod routes;
mod start;
mod state;
mod tokens;
mod upgrades;
mod view;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::{
    Json, Router,
    middleware::{from_fn, from_fn_with_state},
    routing::get,
};
use utoipa::OpenApi as _;
use utoipa_axum::{router::OpenApiRouter, routes};

pub use self::{
    listeners::Listeners,
    state::AppState,
    tokens::{Issuer, IssuerError},
};
use crate::{
    api::{Bounds, Proxies, RateLimit, find_source, limit_rate},
    config::Config,
};

/// Who may connect to the listener.
pub fn bounds(config: &Config) -> Bounds {
    let count = |setting: u32| usize::try_from(setting).unwrap_or(usize::MAX);
    Bounds {
        what: "the listener for applications",
        connections: count(config.app.max_connections),
        per_source: count(config.app.max_connections_per_address),
        proxies: |config| &config.app.trusted_proxies,
    }
}

/// The whole face.
pub fn router(state: AppState) -> Router {
    let settings = state.config.clone();
    let limit = Arc::new(RateLimit::of_app_requests(settings.clone()));
    let proxies = Proxies {
        settings: settings.clone(),
        of: bounds(&settings.get()).proxies,
    };
    let (routes, api) = documented().split_for_parts();
    let door = Arc::new(door::Door::new(state.clone(), &api));
    figures::begin(&state.metrics);
    let described = description::complete(api);
    routes
        .route_layer(from_fn_with_state(door.clone(), acting::acting))
        .route_layer(from_fn_with_state(door.clone(), door::admit))
        .route(
            "/app/v1/openapi.json",
            get(move || async move { Json(described) }),
        )
        .layer(from_fn_with_state(door, counting::count))
        .layer(from_fn_with_state(limit, limit_rate))
        .layer(from_fn_with_state(state.clone(), counting::count_refused))
        .layer(from_fn_with_state(proxies, find_source))
        .layer(from_fn(problem::complete))
        .layer(from_fn_with_state(settings, cors::cors))
        .with_state(state)
}

/// The routes that need a token, with their documentation.
fn documented() -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(description::Documentation::openapi())
        .routes(routes!(homes::list_homes))
        .routes(routes!(upgrades::list_home_upgrades))
        .routes(routes!(upgrades::list_device_upgrades))
        .routes(routes!(upgrades::get_device_status))
        .routes(routes!(upgrades::list_device_history))
        .routes(routes!(upgrades::check_device))
        .routes(routes!(start::start_device_upgrades))
        .routes(routes!(start::start_home_upgrades))
        .routes(routes!(start::continue_device_start))
        .routes(routes!(start::cancel_device_upgrade))
        .routes(routes!(plan::confirm_device_plan))
        .routes(routes!(plan::refuse_device_plan))
        .routes(routes!(
            automatic::get_device_automatic,
            automatic::set_device_automatic
        ))
        .routes(routes!(events::stream_home_events))
}
