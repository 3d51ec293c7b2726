//! `/v1/forecasts`, and `/v1/tasks/{id}/forecast`.

mod body;

use axum::{
    Json,
    extract::State,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};

use super::{
    ApiState,
    extract::{self, Path},
    problem::Problem,
    scoped,
    tasks::{self, CreateTask},
};
use crate::{
    access::{Caller, Scope},
    runtime::{ForecastError, ForecastId, ForecastJob, ForecastState},
};
use body::ForecastBody;

/// Seconds after which another look at a forecast is worth it.
const LOOK_AGAIN: HeaderValue = HeaderValue::from_static("1");
/// The same where too many wait.
const ASK_AGAIN: HeaderValue = HeaderValue::from_static("30");

/// Forecast a task that is not created.
///
/// The body is that of a new task, and what would be refused is refused here. Nothing is created. The forecast is made in the
/// background, one at a time; up to 8 wait, of which a tenant's callers have a share (`tenants.max_forecasts`). The last 32 are kept until
/// the server is started anew.
#[utoipa::path(post, path = "/v1/forecasts", operation_id = "forecast_task", tag = "forecasts", request_body = CreateTask,
    responses(
        (status = 202, description = "It is made", body = ForecastBody,
            headers(("Location" = String, description = "Path of the forecast"))),
        (status = 404, description = "There is no such package, or no such group", body = Problem),
        (status = 409, description = "Devices are unknown, of another product, or there are none, or none that is not excluded; there is a newer package of \
            that version", body = Problem),
    ))]
pub(super) async fn add(
    State(state): State<ApiState>,
    caller: Caller,
    scope: Scope,
    extract::Json(body): extract::Json<CreateTask>,
) -> Result<Response, Problem> {
    let new = tasks::to_new_task(&state, &scope, body).await?;
    match state.forecasts.of_new(new, caller.tenant()).await {
        Ok(job) => Ok(shown(&job)),
        Err(error) => refused(error),
    }
}

/// A forecast, as far as it is.
#[utoipa::path(get, path = "/v1/forecasts/{id}", operation_id = "get_forecast", tag = "forecasts",
    params(("id" = i64, Path, description = "Its number")),
    responses(
        (status = 200, description = "The forecast", body = ForecastBody),
        (status = 404, description = "There is no such forecast, or not any more", body = Problem),
    ))]
pub(super) async fn get(
    State(state): State<ApiState>,
    scope: Scope,
    Path(id): Path<i64>,
) -> Result<Json<ForecastBody>, Problem> {
    let job = known(&state, &scope, id).await?;
    Ok(Json(ForecastBody::from(&job)))
}

/// Cancel a forecast. One that has ended stays as it is.
#[utoipa::path(delete, path = "/v1/forecasts/{id}", operation_id = "cancel_forecast", tag = "forecasts",
    params(("id" = i64, Path, description = "Its number")),
    responses(
        (status = 204, description = "Nothing is done for it any more"),
        (status = 404, description = "There is no such forecast, or not any more", body = Problem),
    ))]
pub(super) async fn cancel(
    State(state): State<ApiState>,
    scope: Scope,
    Path(id): Path<i64>,
) -> Result<StatusCode, Problem> {
    known(&state, &scope, id).await?;
    if state.forecasts.cancel(ForecastId(id)) {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(no_forecast(id))
    }
}

/// The forecast of a task from where it stands.
///
/// One that was asked for within five minutes is given; otherwise one is made in the background. Ask again until the answer
/// is 200.
#[utoipa::path(get, path = "/v1/tasks/{id}/forecast", operation_id = "get_task_forecast", tag = "forecasts",
    params(("id" = i64, Path, description = "The task's number")),
    responses(
        (status = 200, description = "The forecast", body = ForecastBody),
        (status = 202, description = "It is made", body = ForecastBody,
            headers(("Location" = String, description = "Path of the forecast"))),
        (status = 404, description = "There is no such task", body = Problem),
        (status = 409, description = "It has ended, or was stopped", body = Problem),
    ))]
pub(super) async fn get_of_task(
    State(state): State<ApiState>,
    caller: Caller,
    scope: Scope,
    Path(id): Path<i64>,
) -> Result<Response, Problem> {
    let task = scoped::task(&state, &scope, id).await?;
    if !task.state.may_begin() {
        return Err(Problem::conflict(
            "task-ended",
            "The task has ended",
            format!(
                "task {id} is {}: nothing is left to forecast",
                task.state.name()
            ),
        ));
    }
    match state.forecasts.of_task(task.id, caller.tenant()) {
        Ok(job) => Ok(shown(&job)),
        Err(error) => refused(error),
    }
}

/// A forecast that is there: of a task of the caller's tenants.
async fn known(state: &ApiState, scope: &Scope, id: i64) -> Result<ForecastJob, Problem> {
    let job = state.forecasts.look(ForecastId(id));
    let job = job.ok_or_else(|| no_forecast(id))?;
    if *scope == Scope::Whole {
        return Ok(job);
    }
    let there = match (job.task, job.package) {
        (Some(task), _) => scoped::task(state, scope, task.0).await.is_ok(),
        (None, Some(package)) => scoped::package(state, scope, package.0).await.is_ok(),
        (None, None) => false,
    };
    there.then_some(job).ok_or_else(|| no_forecast(id))
}

fn no_forecast(id: i64) -> Problem {
    Problem::not_found(format!(
        "there is no forecast {id}, or not any more; the last 32 are kept until the server is started anew"
    ))
}

/// 200 where it has ended, and where to look otherwise.
fn shown(job: &ForecastJob) -> Response {
    let body = Json(ForecastBody::from(job));
    if !matches!(job.state, ForecastState::Queued | ForecastState::Running) {
        return body.into_response();
    }
    let location = format!("/v1/forecasts/{}", job.id.0);
    let headers = [(header::LOCATION, location)];
    let mut response = (StatusCode::ACCEPTED, headers, body).into_response();
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, LOOK_AGAIN);
    response
}

fn refused(error: ForecastError) -> Result<Response, Problem> {
    match error {
        ForecastError::Full | ForecastError::ShareTaken { .. } => Ok(Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too-many-forecasts",
            "Too many forecasts wait",
            error,
        )
        .with_header(header::RETRY_AFTER, ASK_AGAIN)),
        ForecastError::Task(error) => Err(error.into()),
        ForecastError::Store(error) => Err(error.into()),
    }
}
