//! What users do leaves rows in the audit log, in the transaction that does it. A row has a pseudonym in place of the user's name.

use std::sync::Arc;

use axum::{
    extract::{MatchedPath, Request, State},
    http::Method,
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{door::Door, person::Inside, problem::Problem};
use crate::{
    api::Source,
    audit::{Entry, EntryResult},
    store::{Acting, Store, StoreError},
};

/// Carries a request out on behalf of its user.
pub(super) async fn acting(
    State(door): State<Arc<Door>>,
    path: MatchedPath,
    request: Request,
    next: Next,
) -> Response {
    let inside = request.extensions().get::<Inside>().cloned();
    let (false, Some(inside)) = (reads(request.method()), inside) else {
        return next.run(request).await;
    };
    let state = door.state();
    let pseudonym = match state.store.pseudonym(&inside.person.key).await {
        Ok(pseudonym) => pseudonym,
        Err(error) => return Problem::from(error).into_response(),
    };
    let tenant = &inside.home.tenant;
    let operation = door.route(path.as_str(), request.method()).flatten();
    let acting = Acting::new(Entry {
        at: state.now(),
        who: format!("app-user:{pseudonym}"),
        tenant: (!tenant.is_default()).then(|| tenant.to_string()),
        source: Some(Source::of(&request).to_string()),
        operation: operation.map_or("none", |it| it.name).to_owned(),
        target: Some(format!("homes/{}", inside.home.id.as_str())),
        ..Entry::default()
    });
    let response = acting.scope(next.run(request)).await;
    let done = response.status().is_success();
    if let Err(error) = finish(&*state.store, &acting, done).await {
        tracing::error!(%error, "what a user did is not in the audit log");
    }
    response
}

fn reads(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// What was written in parts is over, and what has written nothing leaves a row too, if it was done.
async fn finish(store: &dyn Store, acting: &Acting, done: bool) -> Result<(), StoreError> {
    let mut ended = acting.entry();
    if !done {
        ended.result = EntryResult::Refused;
    }
    if acting.is_open() {
        return store.end_act(acting, &ended).await;
    }
    if !done || acting.has_left_a_row() {
        return Ok(());
    }
    store.add_to_audit(&[ended]).await
}
