//! What is there for a caller whose grants are for a tenant, or narrowed to some devices.
//!
//! A device outside of the [`Scope`] is not there. A task is there for those who are granted all of its tenant, or the devices that
//! it was made for: it keeps the filter within which it was made, and has no other devices. Packages are there for whoever is granted
//! something of their tenant; groups, webhooks and forecasts for whoever is granted all of it.

use std::collections::HashSet;

use super::{ApiState, problem::Problem};
use crate::{
    access::{Part, Scope},
    filter::Filter,
    ledger::{PackageId, TaskId, UpgradeId},
    store::{
        CreateTaskError, Exclude, GroupError, GroupId, GroupRecord, NewTask, PackageRecord,
        Selection, StoreError, TaskRecord, Within,
    },
    task::PackageRules,
    tenant::{self, TenantId},
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

/// What devices are there, for a change that keeps to them; `None`: all.
pub(super) fn within(state: &ApiState, scope: &Scope) -> Option<Within> {
    let (filter, now) = (scope.filter()?, state.now());
    Some(Within { filter, now })
}

/// Fails unless an upgrade is there. A change of it keeps to what is returned.
pub(super) async fn see_upgrade(
    state: &ApiState,
    scope: &Scope,
    id: i64,
) -> Result<Option<Within>, Problem> {
    if *scope == Scope::Whole {
        return Ok(None);
    }
    let missing = || Problem::not_found(format!("there is no upgrade {id}"));
    let detail = state.store.upgrade(UpgradeId(id)).await?;
    let upgrade = detail.ok_or_else(missing)?.upgrade;
    let task = state.store.task(upgrade.task).await?;
    let task = task.ok_or_else(missing)?;
    let owner = tenant::owner(&task.product);
    // the device may be gone
    if scope.has_all_of(owner) {
        return Ok(None);
    }
    if scope.has(owner) && sees(state, scope, &upgrade.endpoint).await? {
        return Ok(within(state, scope));
    }
    Err(missing())
}

/// To whom belongs what a caller makes.
pub(super) fn home(scope: &Scope) -> Result<TenantId, Problem> {
    scope.home().ok_or_else(|| {
        let detail = "there are several tenants that it may be for; name one, as in ?tenant=acme";
        Problem::field("tenant", detail)
    })
}

/// The key of the product that a caller calls so.
pub(super) fn product_key(scope: &Scope, name: &str) -> Result<String, Problem> {
    Ok(home(scope)?.product_key(name))
}

/// A package that is there, also one that was deleted or superseded.
pub(super) async fn package(
    state: &ApiState,
    scope: &Scope,
    id: i64,
) -> Result<PackageRecord, Problem> {
    let package = state.store.package(PackageId(id)).await?;
    package
        .filter(|package| scope.has(tenant::owner(&package.package.product)))
        .ok_or_else(|| Problem::not_found(format!("there is no package {id}")))
}

/// Fails unless the packages of a task that is to be created are there.
pub(super) async fn see_packages(
    state: &ApiState,
    scope: &Scope,
    (first, rules): (PackageId, &PackageRules),
) -> Result<(), Problem> {
    let others = rules.packages.iter().map(|rule| rule.package_id);
    for id in std::iter::once(first).chain(others) {
        let found = state.store.package(id).await?;
        if found.is_none_or(|it| !scope.has(tenant::owner(&it.package.product))) {
            return Err(CreateTaskError::PackageNotFound(id).into());
        }
    }
    Ok(())
}

/// What of some upgrades is there for a caller.
pub(super) struct SeenUpgrades {
    /// Tasks of tenants of which something is there: a device may have been another's before. `None`: all.
    own: Option<HashSet<TaskId>>,
    /// Tasks of tenants of which all is there, also what was done with devices that are gone.
    whole: HashSet<TaskId>,
    devices: Seen,
}

impl SeenUpgrades {
    /// Looks at some thousand upgrades at most, of these tasks, on these devices.
    pub(super) async fn of<'e>(
        state: &ApiState,
        scope: &Scope,
        upgrades: impl IntoIterator<Item = (TaskId, &'e str)>,
    ) -> Result<Self, StoreError> {
        let (tasks, endpoints): (HashSet<TaskId>, HashSet<&str>) = upgrades.into_iter().unzip();
        let tasks: Vec<TaskId> = tasks.into_iter().collect();
        Ok(Self {
            own: match scope.tenants() {
                Some(tenants) => Some(state.store.tasks_of(&tenants, &tasks).await?),
                None => None,
            },
            whole: match scope.whole() {
                tenants if tenants.is_empty() => HashSet::new(),
                tenants => state.store.tasks_of(&tenants, &tasks).await?,
            },
            devices: Seen::of(state, scope, endpoints).await?,
        })
    }

    /// Whether an upgrade is there.
    pub(super) fn has(&self, task: TaskId, endpoint: &str) -> bool {
        let own = self.own.as_ref().is_none_or(|own| own.contains(&task));
        self.whole.contains(&task) || own && self.devices.has(endpoint)
    }
}

/// What tasks are there: those of a tenant, or that were made within a filter; `None`: all tasks are.
pub(super) fn of_tasks(scope: &Scope) -> Option<Vec<Part>> {
    let Scope::Within(parts) = scope else {
        return None;
    };
    let mut within = parts.clone();
    for Part { tenant, .. } in parts {
        // a task that was made within several filters keeps them as one, also those that are for all tenants
        let theirs = parts.iter().filter(|part| match tenant {
            Some(tenant) => part.has(tenant.as_str()),
            None => part.tenant.is_none(),
        });
        let filters: Option<Vec<Filter>> = theirs.map(|part| part.filter.clone()).collect();
        let joint = Part {
            tenant: tenant.clone(),
            filter: filters.and_then(Filter::any),
        };
        if joint.filter.is_some() && !within.contains(&joint) {
            within.push(joint);
        }
    }
    Some(within)
}

/// Whether a task is there.
pub(super) fn has_task(scope: &Scope, task: &TaskRecord) -> bool {
    let owner = tenant::owner(&task.product);
    of_tasks(scope).is_none_or(|within| {
        let made_within = task.origin.scope.as_ref();
        let mut theirs = within.iter().filter(|part| part.has(owner));
        theirs.any(|part| part.filter.is_none() || part.filter.as_ref() == made_within)
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
    let missing = || CreateTaskError::PackageNotFound(new.package);
    let package = state.store.package(new.package).await?;
    let owner = package.map(|package| tenant::owner(&package.package.product).to_owned());
    let owner = owner.filter(|owner| scope.has(owner)).ok_or_else(missing)?;
    let owner: TenantId = owner.parse().map_err(|_| missing())?;
    for group in [of_group(&new.selection), new.exclude.group]
        .into_iter()
        .flatten()
    {
        if !has_group(state, scope, group, Some(&owner)).await? {
            return Err(if new.exclude.group == Some(group) {
                CreateTaskError::ExcludedGroupNotFound(group).into()
            } else {
                CreateTaskError::GroupNotFound(group).into()
            });
        }
    }
    if let Selection::Product(name) = &mut new.selection
        && !name.contains('/')
    {
        *name = owner.product_key(name);
    }
    if *scope == Scope::Whole {
        return Ok(());
    }
    check_exclude(state, scope, &new.exclude).await?;
    if let Selection::Devices(devices) = &new.selection {
        see_all(state, scope, devices).await?;
    }
    // the devices of a product belong to one tenant: what is left to be said are those that the caller is granted
    let theirs = scope.of_tenant(&owner).ok_or_else(missing)?;
    let Some(within) = made_within(&theirs) else {
        return Ok(());
    };
    let cut = |filter: Filter| {
        let cut = filter.and(within.clone());
        // it is kept as its text
        Filter::parse(&cut.to_string()).map(Selection::Filter)
    };
    let selection = match std::mem::replace(&mut new.selection, Selection::All) {
        Selection::Devices(devices) => Ok(Selection::Devices(devices)),
        Selection::All => Ok(Selection::Filter(within.clone())),
        Selection::Product(product) => cut(Filter::of_product(tenant::product_name(&product))),
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

/// The filter within which a caller makes tasks, of what it sees of a tenant; `None`: for whatever the tenant has.
fn made_within(theirs: &Scope) -> Option<Filter> {
    let Scope::Within(parts) = theirs else {
        return None;
    };
    let filters: Option<Vec<Filter>> = parts.iter().map(|part| part.filter.clone()).collect();
    filters.and_then(Filter::any)
}

const fn of_group(selection: &Selection) -> Option<GroupId> {
    match selection {
        Selection::Group(group) => Some(*group),
        _ => None,
    }
}

async fn check_exclude(state: &ApiState, scope: &Scope, exclude: &Exclude) -> Result<(), Problem> {
    let devices = &exclude.devices;
    let seen = Seen::of(state, scope, devices.iter().map(String::as_str)).await?;
    match seen.missing(devices) {
        None => Ok(()),
        Some((count, first)) => Err(CreateTaskError::UnknownExcluded { count, first }.into()),
    }
}

/// Whether a group is there, and is one of `owner`'s, if that is given. Groups are of all devices of their tenants: for whoever sees
/// some devices there are none.
async fn has_group(
    state: &ApiState,
    scope: &Scope,
    group: GroupId,
    owner: Option<&TenantId>,
) -> Result<bool, StoreError> {
    let found = state.store.group(group).await?;
    Ok(found.is_some_and(|found| {
        scope.has_all_of(found.tenant.as_str()) && owner.is_none_or(|owner| found.tenant == *owner)
    }))
}

/// A group that is there.
pub(super) async fn group(
    state: &ApiState,
    scope: &Scope,
    id: GroupId,
) -> Result<GroupRecord, Problem> {
    let group = state.store.group(id).await?;
    let group = group.filter(|group| scope.has_all_of(group.tenant.as_str()));
    group.ok_or_else(|| GroupError::NotFound(id).into())
}
