//! What is there for a caller whose grants are narrowed to some devices.
//!
//! A device outside of the [`Scope`] is not there. A task is there for those who are granted the devices that it was made for:
//! it keeps the filter within which it was made, and has no other devices.

use std::collections::HashSet;

use super::{ApiState, problem::Problem};
use crate::{
    access::Scope,
    config::check_product_name,
    filter::Filter,
    ledger::{TaskId, UpgradeId},
    store::{CreateTaskError, Exclude, GroupId, NewTask, Selection, StoreError, TaskRecord},
};

/// Endpoints that an error names.
const NAMED: usize = 5;

/// Those of some devices that are there.
pub(super) enum Seen {
    /// All.
    All,
    /// These.
    These(HashSet<String>),
}

impl Seen {
    /// Looks at some thousand devices at most.
    pub(super) async fn of<'e>(
        state: &ApiState,
        scope: &Scope,
        endpoints: impl IntoIterator<Item = &'e str>,
    ) -> Result<Self, StoreError> {
        let Some(filter) = scope.filter() else {
            return Ok(Self::All);
        };
        let endpoints: Vec<String> = endpoints.into_iter().map(str::to_owned).collect();
        let seen = state.store.let_through(&endpoints, &filter, state.now());
        Ok(Self::These(seen.await?))
    }

    /// Whether a device is there.
    pub(super) fn has(&self, endpoint: &str) -> bool {
        match self {
            Self::All => true,
            Self::These(seen) => seen.contains(endpoint),
        }
    }

    /// Those of `endpoints` that are not there: how many, and the first few.
    fn missing(&self, endpoints: &[String]) -> Option<(u64, Vec<String>)> {
        let missing = || endpoints.iter().filter(|endpoint| !self.has(endpoint));
        let count = missing().count() as u64;
        (count > 0).then(|| (count, missing().take(NAMED).cloned().collect()))
    }
}

/// Whether a device is there.
pub(super) async fn sees(
    state: &ApiState,
    scope: &Scope,
    endpoint: &str,
) -> Result<bool, StoreError> {
    Ok(Seen::of(state, scope, [endpoint]).await?.has(endpoint))
}

/// Fails unless all of these devices are there.
pub(super) async fn see_all(
    state: &ApiState,
    scope: &Scope,
    endpoints: &[String],
) -> Result<(), Problem> {
    let seen = Seen::of(state, scope, endpoints.iter().map(String::as_str)).await?;
    match seen.missing(endpoints) {
        None => Ok(()),
        Some((count, first)) => Err(CreateTaskError::UnknownDevices { count, first }.into()),
    }
}

/// Fails unless an upgrade is there.
pub(super) async fn see_upgrade(state: &ApiState, scope: &Scope, id: i64) -> Result<(), Problem> {
    if *scope == Scope::Whole {
        return Ok(());
    }
    let missing = || Problem::not_found(format!("there is no upgrade {id}"));
    let detail = state.store.upgrade(UpgradeId(id)).await?;
    let endpoint = detail.ok_or_else(missing)?.upgrade.endpoint;
    if sees(state, scope, &endpoint).await? {
        Ok(())
    } else {
        Err(missing())
    }
}

/// The filters within which tasks are made that are there; `None`: all tasks are.
pub(super) fn of_tasks(scope: &Scope) -> Option<Vec<Filter>> {
    let Scope::Within(filters) = scope else {
        return None;
    };
    let mut within = filters.clone();
    within.extend(scope.filter().filter(|joint| !filters.contains(joint)));
    Some(within)
}

/// Whether a task is there.
pub(super) fn has_task(scope: &Scope, task: &TaskRecord) -> bool {
    of_tasks(scope).is_none_or(|within| {
        let made_within = task.origin.scope.as_ref();
        made_within.is_some_and(|filter| within.contains(filter))
    })
}

/// A task that is there.
pub(super) async fn task(state: &ApiState, scope: &Scope, id: i64) -> Result<TaskRecord, Problem> {
    let task = state.store.task(TaskId(id)).await?;
    task.filter(|task| has_task(scope, task))
        .ok_or_else(|| Problem::not_found(format!("there is no task {id}")))
}

/// Fails unless a task is there. Of whoever sees all tasks nothing is asked: what follows tells of one that is not there.
pub(super) async fn see_task(state: &ApiState, scope: &Scope, id: i64) -> Result<(), Problem> {
    if *scope != Scope::Whole {
        task(state, scope, id).await?;
    }
    Ok(())
}

/// Cuts a task that is to be created to the devices that are there, now and for those that join it.
pub(super) async fn cut(state: &ApiState, scope: &Scope, new: &mut NewTask) -> Result<(), Problem> {
    let Some(within) = scope.filter() else {
        return Ok(());
    };
    check_exclude(state, scope, &new.exclude).await?;
    let cut = |filter: Filter| {
        let cut = filter.and(within.clone());
        // it is kept as its text
        Filter::parse(&cut.to_string()).map(Selection::Filter)
    };
    let selection = match std::mem::replace(&mut new.selection, Selection::All) {
        Selection::Devices(devices) => {
            see_all(state, scope, &devices).await?;
            Ok(Selection::Devices(devices))
        }
        Selection::All => Ok(Selection::Filter(within.clone())),
        Selection::Product(product) => {
            check_product_name(&product).map_err(|error| Problem::field("product", error))?;
            let product = Filter::parse(&format!("product=={product}"));
            product.and_then(cut)
        }
        Selection::Filter(filter) => cut(filter),
        // groups are of all devices
        Selection::Group(group) => return Err(CreateTaskError::GroupNotFound(group).into()),
    };
    new.selection = selection.map_err(|error| {
        let detail =
            format!("it is too long together with the filter of the caller's grants: {error}");
        Problem::field("filter", detail)
    })?;
    new.origin.scope = Some(within);
    Ok(())
}

async fn check_exclude(state: &ApiState, scope: &Scope, exclude: &Exclude) -> Result<(), Problem> {
    if let Some(group) = exclude.group {
        return Err(CreateTaskError::ExcludedGroupNotFound(group).into());
    }
    let devices = &exclude.devices;
    let seen = Seen::of(state, scope, devices.iter().map(String::as_str)).await?;
    match seen.missing(devices) {
        None => Ok(()),
        Some((count, first)) => Err(CreateTaskError::UnknownExcluded { count, first }.into()),
    }
}

/// The group of a question about devices. Groups are of all devices: for others there are none.
pub(super) fn group(scope: &Scope, group: Option<i64>) -> Result<Option<i64>, Problem> {
    match (scope, group) {
        (Scope::Within(_), Some(group)) => Err(no_group(GroupId(group))),
        (_, group) => Ok(group),
    }
}

fn no_group(group: GroupId) -> Problem {
    crate::store::GroupError::NotFound(group).into()
}
