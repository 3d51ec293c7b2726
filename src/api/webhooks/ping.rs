//! `POST /v1/webhooks/{id}/ping`.

use std::time::Duration;

use axum::{Json, extract::State};
use serde::Serialize;
use utoipa::ToSchema;

use super::{known, no_webhook};
use crate::{
    access::Scope,
    api::{ApiState, extract::Path, problem::Problem},
    notify::{self, Secret},
    store::webhook_secret,
};

/// Whoever asks waits for the receiver, but not for so long as a delivery may take.
const MOST: Duration = Duration::from_secs(30);

/// What came of a ping.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct Pinged {
    /// The receiver has taken it: it answered 2xx.
    accepted: bool,
    /// What the ping met with; `null` when it was accepted.
    #[schema(required)]
    error: Option<String>,
}

/// Ping a webhook.
///
/// Posts an event of type `ping`, which says nothing else, signed like all others, and waits for the receiver's answer. It is
/// not tried again, and is no delivery.
#[utoipa::path(post, path = "/v1/webhooks/{id}/ping", operation_id = "ping_webhook", tag = "events",
    params(("id" = i64, Path, description = "Its number")),
    responses(
        (status = 200, description = "What came of it", body = Pinged),
        (status = 404, description = "There is no such webhook", body = Problem),
    ))]
pub(in crate::api) async fn ping(
    State(state): State<ApiState>,
    scope: Scope,
    Path(id): Path<i64>,
) -> Result<Json<Pinged>, Problem> {
    let webhook = known(&state, &scope, id).await?;
    let secret = state.store.webhook_secret(webhook.id).await?;
    let secret = secret.ok_or_else(|| no_webhook(id))?;
    let secret = match webhook_secret(webhook.id, &secret, state.vault.as_ref()) {
        Ok(secret) => Secret::from_bytes(secret),
        Err(error) => {
            let error = Some(error.to_string());
            return Ok(Json(Pinged {
                accepted: false,
                error,
            }));
        }
    };
    let config = &state.config.get().webhooks;
    let limit = Duration::from_secs(config.timeout_s).min(MOST);
    let message = state.instance.ping(id, state.now());
    let error = notify::ping(
        &webhook.url,
        &secret,
        message,
        &config.allow_networks,
        limit,
    )
    .await
    .err();
    Ok(Json(Pinged {
        accepted: error.is_none(),
        error,
    }))
}
