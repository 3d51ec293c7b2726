//! Who is let in, and for what.
//!
//! A token names the user. The home of the path has to be one of theirs, with a role that may do what the table says of the route
//! ([`super::routes`]). A home that is not theirs is answered like one that is not there, in the same words on every route.

use std::{collections::HashMap, sync::Arc};

use axum::{
    extract::{MatchedPath, RawPathParams, Request, State},
    http::{HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use utoipa::openapi::OpenApi;

use super::{
    figures::{self, Ration},
    person::{Inside, Outside, Person, person, role_in},
    problem::Problem,
    rations::{Rations, StartRations},
    routes::{Needs, Route},
    state::AppState,
};
use crate::{
    api::{RateLimit, Source, too_many},
    home::{Action, HomeKey, Role},
};

/// What stands before the routes.
pub(super) struct Door {
    state: AppState,
    /// Of each path its methods, and what they carry out.
    routes: HashMap<String, HashMap<Method, Option<&'static Route>>>,
    attempts: RateLimit,
    users: Rations,
    homes: Rations,
    starts: Arc<StartRations>,
}

impl Door {
    /// Before the routes that are described.
    pub(super) fn new(state: AppState, api: &OpenApi) -> Self {
        let paths = api.paths.paths.iter().map(|(path, item)| {
            let methods = [
                (Method::GET, &item.get),
                (Method::PUT, &item.put),
                (Method::POST, &item.post),
            ];
            let methods = methods.into_iter().filter_map(|(method, operation)| {
                let name = operation.as_ref()?.operation_id.as_deref();
                Some((method, Route::named(name.unwrap_or_default())))
            });
            (path.clone(), methods.collect())
        });
        let settings = state.config.clone();
        Self {
            routes: paths.collect(),
            attempts: RateLimit::of_app_attempts(settings.clone()),
            users: Rations::of_users(settings.clone()),
            homes: Rations::of_homes(settings.clone()),
            starts: Arc::new(StartRations::new(settings)),
            state,
        }
    }

    /// What the handlers work with.
    pub(super) fn state(&self) -> &AppState {
        &self.state
    }

    /// What a method carries out here. `None`: nothing is done with it; `Some(None)`: it is missing from the table.
    #[expect(clippy::option_option, reason = "these are three cases")]
    pub(super) fn route(&self, path: &str, method: &Method) -> Option<Option<&'static Route>> {
        let method = if *method == Method::HEAD {
            &Method::GET
        } else {
            method
        };
        match self.routes.get(path) {
            Some(methods) => methods.get(method).copied(),
            None => Some(None),
        }
    }

    /// The answer to a token that is none.
    fn reject(&self, request: &Request, why: &str) -> Response {
        match self.attempts.check(Source::of(request)).allowed() {
            Ok(()) => unauthorized(why),
            Err(wait_s) => {
                figures::refused(&self.state.metrics, Ration::WrongTokens);
                too_many("this address has sent too many wrong tokens", wait_s)
            }
        }
    }

    /// What somebody may not do in a home, or may ask for too often.
    async fn inside(
        &self,
        person: &Person,
        named: Option<&str>,
        action: Action,
    ) -> Result<Inside, Denied> {
        let home = named.and_then(|id| id.parse().ok()).map(|id| HomeKey {
            tenant: person.key.tenant.clone(),
            id,
        });
        let Some(home) = home else {
            return Err(no_such_home().into());
        };
        let role = role_in(&self.state, person, &home).await;
        let Some(role) = role.map_err(Problem::from)? else {
            return Err(no_such_home().into());
        };
        let tenant = person.key.tenant.as_str();
        self.homes
            .check(tenant, home.id.as_str())
            .map_err(Denied::Wait)?;
        if !role.may(action) {
            return Err(members_look(role).into());
        }
        Ok(Inside {
            home,
            person: person.clone(),
        })
    }
}

/// Why somebody does nothing in a home.
enum Denied {
    /// What is answered.
    Problem(Problem),
    /// Seconds to wait.
    Wait(u64),
}

impl From<Problem> for Denied {
    fn from(problem: Problem) -> Self {
        Self::Problem(problem)
    }
}

/// Lets in whoever has a token, for what the role in the home permits.
pub(super) async fn admit(
    State(door): State<Arc<Door>>,
    path: MatchedPath,
    params: RawPathParams,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(token) = bearer(&request) else {
        return unauthorized("send the header Authorization: Bearer <token>");
    };
    let person = match person(&door.state, &token).await {
        Ok(person) => person,
        Err(Outside::Refused(why)) => return door.reject(&request, &why),
        Err(Outside::Problem(problem)) => return problem.into_response(),
    };
    let (tenant, user) = (person.key.tenant.as_str(), person.key.id.as_str());
    if let Err(wait_s) = door.users.check(tenant, user) {
        figures::refused(&door.state.metrics, Ration::User);
        return too_many("this user asks too often", wait_s);
    }
    let needs = match door.route(path.as_str(), request.method()) {
        // the router says which methods there are
        None => return next.run(request).await,
        Some(None) => return Problem::closed().into_response(),
        Some(Some(route)) => route.needs,
    };
    if let Needs::Home(action) = needs {
        let mut named = params.iter().filter(|(name, _)| *name == "home");
        let named = named.next().map(|(_, home)| home);
        match door.inside(&person, named, action).await {
            Ok(inside) => {
                request.extensions_mut().insert(inside);
                request.extensions_mut().insert(door.starts.clone());
            }
            Err(Denied::Problem(problem)) => return problem.into_response(),
            Err(Denied::Wait(wait_s)) => {
                figures::refused(&door.state.metrics, Ration::Home);
                return too_many("this home is asked for too often", wait_s);
            }
        }
    }
    request.extensions_mut().insert(person);
    next.run(request).await
}

/// The token of a request (RFC 6750 §2.1).
fn bearer(request: &Request) -> Option<String> {
    let value = request.headers().get(header::AUTHORIZATION)?;
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let bearer = scheme.eq_ignore_ascii_case("bearer");
    bearer.then(|| token.trim().to_owned())
}

fn unauthorized(detail: &str) -> Response {
    let mut response = Problem::new(
        StatusCode::UNAUTHORIZED,
        "unauthorized",
        "The token is missing or wrong",
        detail,
    )
    .into_response();
    let how = HeaderValue::from_static("Bearer realm=\"cellwise-app\"");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, how);
    response
}

/// The one answer about a home that is not there, or is not theirs.
fn no_such_home() -> Problem {
    Problem::not_found("there is no such home")
}

fn members_look(role: Role) -> Problem {
    let detail = format!(
        "as {} you may look, and no more; an owner or an administrator of the home may do this",
        role.name()
    );
    Problem::forbidden(detail)
}
