//! The operator's side: HTTP with JSON, one file per resource; what is refused, in `refusals`.
//!
//! A handler writes intent into the store and signals the rollout; it never speaks to a device or to the
//! engine. Every error is a problem (RFC 9457). Everything under `/v1` needs a token, and a role that permits it (`door`).

mod admitted;
mod app_users;
mod audit;
mod cells;
mod cookie;
mod cursors;
mod description;
mod devices;
mod door;
mod etag;
mod events;
mod evidence;
mod exclusions;
mod exports;
mod extract;
mod forecasts;
mod grants;
mod groups;
mod heard;
mod homes;
mod links;
mod middleware;
mod offers;
mod oidc;
mod once;
mod operations;
mod packages;
mod passwords;
mod problem;
mod products;
mod random;
mod refusals;
mod scoped;
mod second_factor;
mod series;
mod serve;
mod sessions;
mod settings;
mod sifted;
mod sites;
mod source;
mod tasks;
mod tenants;
mod token;
mod tokens;
mod traces;
mod traffic;
mod upgrades;
mod users;
mod waiting;
mod webhooks;

#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use axum::middleware::{from_fn, from_fn_with_state};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::sync::{Mutex, watch};
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};
use utoipa_swagger_ui::SwaggerUi;

pub(crate) use crate::lwm2m::check_endpoint;
pub use cursors::Cursors;
pub(crate) use devices::path as device_path;
pub(crate) use door::Unattended;
pub use events::Streams;
pub(crate) use events::stream_of;
pub use evidence::{Evidence, Manifest, archive};
pub use exports::AuditExports;
pub(crate) use extract::{Json, Path, Query, whole};
pub use links::Links;
pub(crate) use middleware::{RateLimit, limit_rate, too_many};
pub use oidc::{Oidc, OidcError, OidcFiles};
pub use passwords::Passwords;
pub use problem::{FieldError, Problem};
pub(crate) use problem::{MEDIA_TYPE, URN, in_form};
pub use serve::{Bounds, serve};
pub(crate) use source::{Proxies, Source, find_source};
pub use token::{TOKEN_FILE, TokenError, TokenHash};

use crate::{
    clock::{SystemClock, UtcMillis},
    config::Settings,
    health::Health,
    notify::Instance,
    runtime::{AuditTrail, Forecasts, Heard, Lanes},
    signal::Signals,
    store::{PackageFiles, Store},
    strangers::Strangers,
    telemetry::Traces,
    vault::Vault,
};

/// What the handlers work with.
#[derive(Clone)]
pub struct ApiState {
    /// Where intent is written and everything is read.
    pub store: Arc<dyn Store>,
    /// The packages' files.
    pub files: PackageFiles,
    /// The settings.
    pub config: Settings,
    /// The clock.
    pub clock: SystemClock,
    /// Signs checkpoints of the audit log, and notes what was refused.
    pub trail: Arc<AuditTrail>,
    /// The token in the server's data directory.
    pub token: TokenHash,
    /// Looks at the passwords of users.
    pub passwords: Arc<Passwords>,
    /// The links by which somebody may log in once.
    pub links: Arc<Links>,
    /// The log-in by an identity provider, if the settings name one.
    pub oidc: Option<Arc<Oidc>>,
    /// Seals the devices' keys; `None` when no key is configured for that.
    pub vault: Option<Vault>,
    /// Seals cursors that would name devices.
    pub cursors: Cursors,
    /// Held by whoever changes products, until that is in effect. Whether somebody reads those that are stored again and again, because the
    /// database has failed.
    pub products: Arc<Mutex<bool>>,
    /// Signalled after every write, for the rollout to look at once.
    pub signals: Arc<Signals>,
    /// Marks the database.
    pub instance: Arc<Instance>,
    /// Makes and signs evidence.
    pub evidence: Arc<Evidence>,
    /// Exports of the audit log that are being sent.
    pub audit_exports: Arc<AuditExports>,
    /// The streams of events that are open.
    pub streams: Arc<Streams>,
    /// Turns true when the server stops.
    pub stop: watch::Receiver<bool>,
    /// What works, for `/readyz`.
    pub health: Arc<Health>,
    /// Knows when devices were heard last.
    pub heard: Arc<dyn Heard>,
    /// Knows the queues of cells.
    pub lanes: Arc<dyn Lanes>,
    /// Makes forecasts.
    pub forecasts: Forecasts,
    /// Who was refused lately.
    pub strangers: Arc<Strangers>,
    /// Sends traces of requests; `None` when the settings name no collector.
    pub traces: Option<Traces>,
    /// What `/metrics` shows.
    pub metrics: PrometheusHandle,
}

impl ApiState {
    fn now(&self) -> UtcMillis {
        self.clock.now().utc
    }
}

/// The whole API. Serve it with [`serve()`]: requests are counted per source address.
#[cfg(test)]
pub(crate) fn router(state: ApiState) -> axum::Router {
    router_with(state, |_| axum::Router::new())
}

/// The whole API, and a face that stands on it: it is given the routes below `/v1`, and calls them with the credentials of whoever asks it.
/// What is asked of the face counts as one request, whatever it calls. Serve it with [`serve()`].
pub fn router_with(
    state: ApiState,
    face: impl FnOnce(axum::Router) -> axum::Router,
) -> axum::Router {
    let limit = Arc::new(middleware::RateLimit::of_requests(state.config.clone()));
    let proxies = source::Proxies {
        settings: state.config.clone(),
        of: Bounds::OPERATORS.proxies,
    };
    let (v1, api) = documented().split_for_parts();
    let door = Arc::new(door::Door::new(state.clone(), &api));
    let mut v1 = v1
        .route_layer(from_fn_with_state(door.clone(), audit::acting))
        .route_layer(from_fn_with_state(state.clone(), once::once))
        .route_layer(from_fn_with_state(door.clone(), door::admit))
        .route_layer(from_fn_with_state(door.clone(), audit::changes));
    if let Some(traces) = state.traces.clone() {
        let tracing = traces::Tracing { traces, door };
        v1 = v1.route_layer(from_fn_with_state(tracing, traces::trace));
    }
    let face = face(v1.clone().with_state(state.clone()));
    v1.merge(SwaggerUi::new("/docs").external_url_unchecked(
        "/openapi.json",
        description::complete(&operations::completed(api)),
    ))
    .merge(face.with_state(()))
    .layer(from_fn_with_state(limit, middleware::limit_rate))
    .merge(axum::Router::from(operations::router()))
    .layer(from_fn_with_state(proxies, source::find_source))
    .layer(from_fn(problem::complete))
    .with_state(state)
}

/// The routes that need the token, with their documentation.
#[expect(clippy::too_many_lines, reason = "one route after the other")]
fn documented() -> OpenApiRouter<ApiState> {
    OpenApiRouter::with_openapi(operations::Documentation::openapi())
        .routes(routes!(packages::upload, packages::list))
        .routes(routes!(
            packages::get,
            packages::delete,
            packages::papers::update
        ))
        .routes(routes!(
            packages::papers::get_sbom,
            packages::papers::set_sbom,
            packages::papers::remove_sbom
        ))
        .routes(routes!(products::changes::create, products::list))
        .routes(routes!(
            products::get,
            products::changes::update,
            products::changes::remove
        ))
        .routes(routes!(products::keys, products::add_key))
        .routes(routes!(products::remove_key))
        .routes(routes!(evidence::list))
        .routes(routes!(evidence::count))
        .routes(routes!(evidence::export::export))
        .routes(routes!(devices::add::add, devices::list))
        .routes(routes!(devices::unknown::list))
        .routes(routes!(devices::count::count))
        .routes(routes!(devices::get, devices::update, devices::remove))
        .routes(routes!(exclusions::add, exclusions::list))
        .routes(routes!(exclusions::get, exclusions::end))
        .routes(routes!(groups::add, groups::list))
        .routes(routes!(groups::get, groups::update, groups::remove))
        .routes(routes!(tasks::create, tasks::list))
        .routes(routes!(tasks::get, tasks::delete, tasks::changes::update))
        .routes(routes!(tasks::stop))
        .routes(routes!(tasks::changes::pause))
        .routes(routes!(tasks::changes::resume))
        .routes(routes!(tasks::changes::next_phase))
        .routes(routes!(tasks::changes::approve))
        .routes(routes!(tasks::changes::refuse))
        .routes(routes!(tasks::changes::retry))
        .routes(routes!(tasks::copy::copy))
        .routes(routes!(forecasts::add))
        .routes(routes!(forecasts::get, forecasts::cancel))
        .routes(routes!(forecasts::get_of_task))
        .routes(routes!(upgrades::list))
        .routes(routes!(upgrades::list_of_device))
        .routes(routes!(upgrades::list_newest))
        .routes(routes!(upgrades::get))
        .routes(routes!(upgrades::cancel))
        .routes(routes!(upgrades::confirm))
        .routes(routes!(upgrades::retry))
        .routes(routes!(upgrades::skip))
        .routes(routes!(cells::import::import, cells::list))
        .routes(routes!(cells::get, cells::rules::update))
        .routes(routes!(cells::outages::report))
        .routes(routes!(sites::list))
        .routes(routes!(sites::get, sites::set, sites::clear))
        .routes(routes!(homes::bulk::set, homes::list))
        .routes(routes!(homes::get, homes::set, homes::delete))
        .routes(routes!(homes::members::set, homes::members::remove))
        .routes(routes!(homes::devices::set, homes::devices::remove))
        .routes(routes!(offers::publish, offers::list))
        .routes(routes!(offers::get, offers::update, offers::withdraw))
        .routes(routes!(app_users::export, app_users::delete))
        .routes(routes!(app_users::revoke))
        .routes(routes!(app_users::issue))
        .routes(routes!(series::of_task))
        .routes(routes!(series::of_cell))
        .routes(routes!(series::of_limit))
        .routes(routes!(series::of_device))
        .routes(routes!(audit::log::list))
        .routes(routes!(audit::log::export))
        .routes(routes!(audit::log::head))
        .routes(routes!(settings::get))
        .routes(routes!(events::stream_events))
        .routes(routes!(webhooks::add, webhooks::list))
        .routes(routes!(webhooks::get, webhooks::remove))
        .routes(routes!(webhooks::ping::ping))
        .routes(routes!(webhooks::deliveries))
        .routes(routes!(webhooks::replay_failed))
        .routes(routes!(webhooks::replay_delivery))
        .routes(routes!(tenants::add, tenants::list))
        .routes(routes!(tenants::get, tenants::update, tenants::delete))
        .routes(routes!(tokens::add, tokens::list))
        .routes(routes!(tokens::get, tokens::revoke))
        .routes(routes!(tokens::me, sessions::update_me))
        .routes(routes!(second_factor::enrol))
        .routes(routes!(second_factor::confirm))
        .routes(routes!(second_factor::remove))
        .routes(routes!(second_factor::remove_of_user))
        .routes(routes!(users::add, users::list))
        .routes(routes!(users::get, users::update, users::remove))
        .routes(routes!(links::add))
        .routes(routes!(sessions::log_in, sessions::log_out))
        .routes(routes!(oidc::begin_log_in))
        .routes(routes!(oidc::end_log_in))
}
