//! `/v1/webhooks`.

pub(super) mod ping;

use std::{net::IpAddr, time::Duration};

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;
use utoipa::{
    IntoParams, ToSchema,
    openapi::{Object, Type, schema::SchemaType},
};

use super::{
    ApiState, etag,
    extract::{self, Fields, ListBody, Paging, Path, Query},
    problem::Problem,
    scoped,
};
use crate::{
    access::Scope,
    ledger::TaskId,
    notify::{Secret, Target},
    store::{DeliveryId, DeliveryRecord, DeliveryState, NewWebhook, WebhookId, WebhookRecord},
};

/// How long a name server may take when a webhook is added.
const LOOK_UP_WITHIN: Duration = Duration::from_secs(3);
/// The revision of every webhook: none can be changed.
const REVISION: i64 = 1;
/// Deliveries that are replayed by one request.
const MAX_REPLAY: u32 = 10_000;

/// Where events are posted.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct WebhookBody {
    /// Its number.
    id: i64,
    /// The tenant whose outcomes it is told; not there where it is the tenant `default`, or everybody's.
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<String>,
    /// The task whose outcomes it is told; `null` means every task.
    #[schema(required)]
    task_id: Option<i64>,
    /// Where events are posted.
    url: String,
    /// When it was added.
    #[schema(format = "date-time", format = DateTime)]
    created_at: String,
    /// Deliveries that are still tried.
    pending: u64,
    /// Deliveries that were given up, and can be replayed.
    failed: u64,
}

impl From<WebhookRecord> for WebhookBody {
    fn from(webhook: WebhookRecord) -> Self {
        Self {
            id: webhook.id.0,
            tenant: (webhook.tenant.filter(|tenant| !tenant.is_default())).map(String::from),
            task_id: webhook.task.map(|task| task.0),
            url: webhook.url,
            created_at: webhook.created_at.to_string(),
            pending: webhook.pending,
            failed: webhook.failed,
        }
    }
}

/// A webhook that was added.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AddedWebhook {
    #[serde(flatten)]
    webhook: WebhookBody,
    /// What the receiver checks signatures with. It is not shown again.
    #[schema(example = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")]
    secret: String,
}

/// Where the outcomes of a task are posted.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TaskWebhook {
    /// An `http` or `https` URL that leads to a public address, or to one that the settings allow.
    #[schema(schema_with = url_of_receiver)]
    url: String,
    /// Signs what is posted: `whsec_` and the base64 form of 24 to 64 random bytes.
    #[schema(schema_with = secret_of_webhook)]
    secret: String,
}

/// A webhook to be added.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AddWebhook {
    /// An `http` or `https` URL that leads to a public address, or to one that the settings allow.
    #[schema(schema_with = url_of_receiver)]
    url: String,
    /// Signs what is posted: `whsec_` and the base64 form of 24 to 64 random bytes; made when not given.
    #[schema(schema_with = optional_secret)]
    secret: Option<String>,
    /// The task whose outcomes it is told; every task when not given. The webhook goes some time after the task has
    /// ended, with the last of its deliveries.
    #[serde(default, deserialize_with = "extract::optional_whole")]
    task_id: Option<i64>,
}

/// With a name. The server takes addresses in its place as well, where the settings allow them.
fn url_of_receiver() -> Object {
    Object::builder()
        .schema_type(Type::String)
        .max_length(Some(2_000))
        .pattern(Some(
            r"^[Hh][Tt][Tt][Pp][Ss]?://([A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?(:([0-9]{1,4}|[1-5][0-9]{4}))?([/?#][!-~]*)?$",
        ))
        .examples(["https://hooks.example.com/cellwise"])
        .build()
}

fn secret_of_webhook() -> Object {
    secret(Type::String.into())
}

fn optional_secret() -> Object {
    secret(SchemaType::from_iter([Type::String, Type::Null]))
}

fn secret(schema_type: SchemaType) -> Object {
    Object::builder()
        .schema_type(schema_type)
        .pattern(Some(
            r"^whsec_([A-Za-z0-9+/]{4}){8,20}([A-Za-z0-9+/]{4}|[A-Za-z0-9+/]{2}[AEIMQUYcgkosw048]=|[A-Za-z0-9+/][AQgw]==)?$",
        ))
        .examples(["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"])
        .build()
}

impl TaskWebhook {
    /// Checks it. What is wrong is told of `webhook.url` and `webhook.secret`.
    pub(super) async fn check(self, state: &ApiState) -> Result<NewWebhook, Problem> {
        let given = Some(self.secret);
        let (new, _) = check(state, "webhook.", &self.url, given, None).await?;
        Ok(new)
    }
}

async fn check(
    state: &ApiState,
    prefix: &str,
    url: &str,
    secret: Option<String>,
    task: Option<TaskId>,
) -> Result<(NewWebhook, Secret), Problem> {
    let mut fields = Fields::default();
    let target = leads_outside(state, url).await;
    let target = fields.take(&format!("{prefix}url"), target);
    let secret = match secret {
        Some(text) => fields.take(&format!("{prefix}secret"), Secret::parse(&text)),
        None => Some(Secret::generate().map_err(|error| Problem::internal(&error))?),
    };
    fields.finish()?;
    let (Some(target), Some(secret)) = (target, secret) else {
        return Err(Problem::field("url", "it is missing"));
    };
    let new = NewWebhook {
        tenant: None,
        task,
        url: target.to_string(),
        secret: secret.as_bytes().to_vec(),
        vault: state.vault.clone(),
        created_at: state.now(),
    };
    Ok((new, secret))
}

/// Whether the URL leads to an address that is allowed, as far as can be told now: every delivery checks again.
async fn leads_outside(state: &ApiState, url: &str) -> Result<Target, String> {
    let config = state.config.get();
    let allowed = &config.webhooks.allow_networks;
    let target = Target::parse(url, allowed).map_err(|error| error.to_string())?;
    if let Some(name) = target.name() {
        let found = timeout(LOOK_UP_WITHIN, tokio::net::lookup_host((name, 0))).await;
        // a name server that fails now may work when there is something to be delivered
        if let Ok(Ok(found)) = found {
            let found: Vec<IpAddr> = found.map(|address| address.ip()).collect();
            Target::permits_any(&found, allowed).map_err(|error| format!("{name}: {error}"))?;
        }
    }
    Ok(target)
}

/// Add a webhook.
///
/// It is told the outcome of every upgrade and of every task from now on, or of those of one task. Events are
/// posted as [Standard Webhooks](https://www.standardwebhooks.com/) says, at least once: a receiver knows a repeat
/// by its `webhook-id`. Anything but an answer of 2xx within the time limit is tried again for a day, except that 410
/// ends it at once. There are at most 50 webhooks for every task, and 50 for any one.
#[utoipa::path(post, path = "/v1/webhooks", operation_id = "add_webhook", tag = "events", request_body = AddWebhook,
    responses(
        (status = 201, description = "Added", body = AddedWebhook,
            headers(("Location" = String, description = "Path of the webhook"), ("ETag" = String, description = "Its revision"))),
        (status = 404, description = "There is no such task", body = Problem),
        (status = 409, description = "There are too many webhooks", body = Problem),
        (status = 422, description = "A field is not valid: among others, a URL that leads to an address that is not public",
            body = Problem),
    ))]
pub(super) async fn add(
    State(state): State<ApiState>,
    scope: Scope,
    extract::Json(body): extract::Json<AddWebhook>,
) -> Result<Response, Problem> {
    let task = body.task_id.map(TaskId);
    if let Some(task) = task {
        scoped::see_task(&state, &scope, task.0).await?;
    }
    // one for everything is told everything, and one of a task has the task's tenant
    let tenant = if scope == Scope::Whole || task.is_some() {
        None
    } else {
        Some(scoped::home(&scope)?)
    };
    let (new, secret) = check(&state, "", &body.url, body.secret, task).await?;
    let new = NewWebhook { tenant, ..new };
    let webhook = state.store.add_webhook(&new).await?;
    let location = format!("/v1/webhooks/{}", webhook.id.0);
    let body = Json(AddedWebhook {
        webhook: webhook.into(),
        secret: secret.reveal(),
    });
    let headers = [(header::LOCATION, location), etag::tag(REVISION)];
    Ok((StatusCode::CREATED, headers, body).into_response())
}

/// List webhooks, oldest first.
#[utoipa::path(get, path = "/v1/webhooks", operation_id = "list_webhooks", tag = "events", params(Paging),
    responses(
        (status = 200, description = "A page", body = ListBody<WebhookBody>),
    ))]
pub(super) async fn list(
    State(state): State<ApiState>,
    scope: Scope,
    Query(paging): Query<Paging>,
) -> Result<Json<ListBody<WebhookBody>>, Problem> {
    let after = paging.after::<i64>("webhooks")?.map(WebhookId);
    let tenants = scope.tenants();
    let page = (state.store)
        .webhooks(tenants.as_deref(), after, paging.limit()?)
        .await?;
    let body = ListBody::new(page, "webhooks", |webhook| webhook.id.0, WebhookBody::from);
    Ok(Json(body))
}

/// A webhook.
#[utoipa::path(get, path = "/v1/webhooks/{id}", operation_id = "get_webhook", tag = "events",
    params(("id" = i64, Path, description = "Its number")),
    responses(
        (status = 200, description = "The webhook", body = WebhookBody, headers(("ETag" = String, description = "Its revision"))),
        (status = 404, description = "There is no such webhook", body = Problem),
    ))]
pub(super) async fn get(
    State(state): State<ApiState>,
    scope: Scope,
    Path(id): Path<i64>,
) -> Result<Response, Problem> {
    let webhook = WebhookBody::from(known(&state, &scope, id).await?);
    Ok(etag::tagged(REVISION, webhook))
}

fn no_webhook(id: i64) -> Problem {
    Problem::not_found(format!("there is no webhook {id}"))
}

/// A webhook that is there: one that is told the outcomes of a tenant, for whoever sees all of these.
async fn known(state: &ApiState, scope: &Scope, id: i64) -> Result<WebhookRecord, Problem> {
    let webhook = state.store.webhook(WebhookId(id)).await?;
    let there = |webhook: &WebhookRecord| match &webhook.tenant {
        Some(tenant) => scope.has_all_of(tenant.as_str()),
        None => *scope == Scope::Whole,
    };
    webhook.filter(there).ok_or_else(|| no_webhook(id))
}

/// Remove a webhook, and what it was still to be told.
#[utoipa::path(delete, path = "/v1/webhooks/{id}", operation_id = "remove_webhook", tag = "events",
    params(("id" = i64, Path, description = "Its number"),
        ("If-Match" = Option<String>, Header, description = "The `ETag` that the caller has seen")),
    responses(
        (status = 204, description = "Removed"),
        (status = 404, description = "There is no such webhook", body = Problem),
        (status = 412, description = "It is another one than the caller has seen", body = Problem),
    ))]
pub(super) async fn remove(
    State(state): State<ApiState>,
    scope: Scope,
    Path(id): Path<i64>,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let seen: Option<i64> = etag::if_match(&headers)?;
    known(&state, &scope, id).await?;
    if seen.is_some_and(|seen| seen != REVISION) {
        let detail = format!("webhook {id} has revision {REVISION}: a webhook never changes");
        return Err(Problem::changed_meanwhile(detail));
    }
    if state.store.remove_webhook(WebhookId(id)).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(no_webhook(id))
    }
}

/// How far the delivery of an event is.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeliveryBody {
    /// Its number.
    id: i64,
    /// Number of the event.
    event_id: i64,
    /// What happened.
    #[serde(rename = "type")]
    kind: String,
    state: DeliveryStateName,
    /// Attempts since the event, or since it was replayed last.
    attempts: u32,
    /// When it is tried next; `null` when it is not.
    #[schema(required, format = "date-time", format = DateTime)]
    next_at: Option<String>,
    /// When it was tried last.
    #[schema(required, format = "date-time", format = DateTime)]
    last_at: Option<String>,
    /// What the last attempt that failed met with.
    #[schema(required)]
    last_error: Option<String>,
}

/// How far a delivery is.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum DeliveryStateName {
    /// It is tried, or tried again.
    Pending,
    /// The receiver has it.
    Delivered,
    /// It was given up, and can be replayed.
    Failed,
}

impl From<DeliveryRecord> for DeliveryBody {
    fn from(delivery: DeliveryRecord) -> Self {
        Self {
            id: delivery.id.0,
            event_id: delivery.event,
            kind: delivery.kind,
            state: match delivery.state {
                DeliveryState::Pending => DeliveryStateName::Pending,
                DeliveryState::Delivered => DeliveryStateName::Delivered,
                DeliveryState::Failed => DeliveryStateName::Failed,
            },
            attempts: delivery.attempts,
            next_at: delivery.next_at.map(|at| at.to_string()),
            last_at: delivery.last_at.map(|at| at.to_string()),
            last_error: delivery.last_error,
        }
    }
}

/// Which deliveries.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DeliveryFilter {
    /// Those in this state only.
    #[param(inline)]
    state: Option<DeliveryStateName>,
    /// Items in the answer, 1 to 1000; 100 when not given.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
    /// `next_cursor` of the page before; the first page when not given.
    cursor: Option<String>,
}

/// List a webhook's deliveries, newest first.
#[utoipa::path(get, path = "/v1/webhooks/{id}/deliveries", operation_id = "list_deliveries", tag = "events",
    params(("id" = i64, Path, description = "Number of the webhook"), DeliveryFilter),
    responses(
        (status = 200, description = "A page", body = ListBody<DeliveryBody>),
        (status = 404, description = "There is no such webhook", body = Problem),
    ))]
pub(super) async fn deliveries(
    State(state): State<ApiState>,
    scope: Scope,
    Path(id): Path<i64>,
    Query(filter): Query<DeliveryFilter>,
) -> Result<Json<ListBody<DeliveryBody>>, Problem> {
    let paging = Paging::new(filter.limit, filter.cursor);
    let before = paging.after::<i64>("deliveries")?.map(DeliveryId);
    let limit = paging.limit()?;
    let webhook = known(&state, &scope, id).await?.id;
    let wanted = filter.state.map(|state| match state {
        DeliveryStateName::Pending => DeliveryState::Pending,
        DeliveryStateName::Delivered => DeliveryState::Delivered,
        DeliveryStateName::Failed => DeliveryState::Failed,
    });
    let page = (state.store)
        .deliveries(webhook, wanted, before, limit)
        .await?;
    let body = ListBody::new(page, "deliveries", |row| row.id.0, DeliveryBody::from);
    Ok(Json(body))
}

/// What is delivered again.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Replayed {
    /// Deliveries that are tried again, from now on.
    replayed: u64,
}

/// Replay what was given up.
///
/// Up to 10,000 deliveries, oldest first: ask again until none is left.
#[utoipa::path(post, path = "/v1/webhooks/{id}/replay", operation_id = "replay_failed", tag = "events",
    params(("id" = i64, Path, description = "Number of the webhook")),
    responses(
        (status = 200, description = "They are tried again", body = Replayed),
        (status = 404, description = "There is no such webhook", body = Problem),
    ))]
pub(super) async fn replay_failed(
    State(state): State<ApiState>,
    scope: Scope,
    Path(id): Path<i64>,
) -> Result<Json<Replayed>, Problem> {
    let webhook = known(&state, &scope, id).await?.id;
    let replayed = (state.store)
        .replay(webhook, None, state.now(), MAX_REPLAY)
        .await?;
    state.signals.written();
    Ok(Json(Replayed { replayed }))
}

/// Replay one delivery, whatever its state.
#[utoipa::path(post, path = "/v1/webhooks/{id}/deliveries/{delivery}/replay", operation_id = "replay_delivery",
    tag = "events",
    params(
        ("id" = i64, Path, description = "Number of the webhook"),
        ("delivery" = i64, Path, description = "Number of the delivery"),
    ),
    responses(
        (status = 200, description = "It is tried again", body = Replayed),
        (status = 400, description = "A number is not a number", body = Problem),
        (status = 404, description = "There is no such webhook or delivery", body = Problem),
    ))]
pub(super) async fn replay_delivery(
    State(state): State<ApiState>,
    scope: Scope,
    Path((id, delivery)): Path<(i64, i64)>,
) -> Result<Json<Replayed>, Problem> {
    let webhook = known(&state, &scope, id).await?.id;
    let replayed = (state.store)
        .replay(webhook, Some(DeliveryId(delivery)), state.now(), 1)
        .await?;
    if replayed == 0 {
        let detail = format!("webhook {id} has no delivery {delivery}");
        return Err(Problem::not_found(detail));
    }
    state.signals.written();
    Ok(Json(Replayed { replayed }))
}
