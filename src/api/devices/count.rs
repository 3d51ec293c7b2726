//! `GET /v1/devices/count`.

use axum::{Json, extract::State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::{key_of, known_group, parse_filter};
use crate::{
    access::Scope,
    api::{ApiState, Problem, extract::Query},
    store::DeviceFilter,
};

/// Which devices to count.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(in crate::api) struct CountParams {
    /// Only devices of this product.
    product: Option<String>,
    /// Only devices that are registered, or that are not.
    registered: Option<bool>,
    /// Only devices whose endpoint name begins so.
    q: Option<String>,
    /// Only devices that this lets through, as for the list of devices.
    #[param(
        max_length = 4096,
        format = "rsql",
        example = "site==north*;version<V2"
    )]
    filter: Option<String>,
    /// Only devices that belong to the group of this number.
    group: Option<i64>,
}

/// How many devices there are.
#[derive(Debug, Serialize, ToSchema)]
pub(in crate::api) struct CountBody {
    /// Devices.
    count: u64,
}

/// Count devices.
///
/// All that the filter may concern are looked at, in parts: of a million devices this takes some seconds. Devices that come and
/// go meanwhile may be counted or not.
#[utoipa::path(get, path = "/v1/devices/count", operation_id = "count_devices", tag = "devices", params(CountParams),
    responses(
        (status = 200, description = "The number", body = CountBody),
        (status = 400, description = "A parameter is unknown or of the wrong type", body = Problem),
        (status = 404, description = "There is no such group", body = Problem),
        (status = 422, description = "The filter is none: the detail says at which character, and what is expected there",
            body = Problem),
    ))]
pub(in crate::api) async fn count(
    State(state): State<ApiState>,
    scope: Scope,
    Query(params): Query<CountParams>,
) -> Result<Json<CountBody>, Problem> {
    let filter = DeviceFilter {
        product: key_of(&scope, params.product)?,
        registered: params.registered,
        prefix: params.q,
        filter: scope.narrow(params.filter.as_deref().map(parse_filter).transpose()?),
        group: known_group(&state, &scope, params.group).await?,
        now: state.now(),
    };
    let count = state.store.count_devices(&filter).await?;
    Ok(Json(CountBody { count }))
}
