//! What a device may spend in a month, as the API takes and shows it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{
    api::{ApiState, extract::optional_whole, problem::Problem},
    ledger::{PackageId, Usage},
    task::{Budget, PackageRules, Resource, TaskRules},
    wording,
};

/// What the upgrades of a device may cost in a calendar month, those of all tasks together. The month is that of the device's time zone, or
/// of UTC where it has none. Give one of them, or both.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BudgetBody {
    /// Bytes of CoAP messages in both directions. The largest package of the task has to fit.
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 1, maximum = 1_000_000_000_000_i64, example = 2_000_000)]
    bytes_per_month: Option<i64>,
    /// Airtime in both directions, seconds, as it is estimated (docs/traffic.md).
    #[serde(default, deserialize_with = "optional_whole")]
    #[schema(minimum = 1, maximum = 2_678_400, example = 3_600)]
    airtime_estimated_seconds_per_month: Option<i64>,
}

/// A number that has to be positive; one that is not is refused by the rules.
fn positive(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

impl From<BudgetBody> for Budget {
    fn from(body: BudgetBody) -> Self {
        Self {
            bytes_per_month: body.bytes_per_month.map(positive),
            airtime_estimated_seconds_per_month: (body.airtime_estimated_seconds_per_month)
                .map(positive),
        }
    }
}

impl From<Budget> for BudgetBody {
    fn from(budget: Budget) -> Self {
        Self {
            bytes_per_month: budget.bytes_per_month.map(u64::cast_signed),
            airtime_estimated_seconds_per_month: (budget.airtime_estimated_seconds_per_month)
                .map(u64::cast_signed),
        }
    }
}

/// Refuses a budget that a package of the task does not fit, even in good coverage and in a month in which nothing was spent: nothing could
/// ever begin.
pub(super) async fn check(
    state: &ApiState,
    rules: &TaskRules,
    (first, packages): (PackageId, &PackageRules),
) -> Result<(), Problem> {
    let Some(budget) = rules.budget else {
        return Ok(());
    };
    let others = packages.packages.iter().map(|rule| rule.package_id);
    for id in std::iter::once(first).chain(others) {
        let Some(record) = state.store.package(id).await? else {
            continue; // that is told where the task is written
        };
        let package = &record.package;
        let need = Usage::of_package(package.size_bytes, package.segment_count(), None);
        if let Err(over) = budget.has_room_for(need) {
            let field = match over.resource {
                Resource::Bytes => "budget.bytes_per_month",
                Resource::Airtime => "budget.airtime_estimated_seconds_per_month",
            };
            let detail = wording::never_fits(id, &over);
            return Err(Problem::field(field, detail));
        }
    }
    Ok(())
}
