//! The standing task of an offer: what an operator says of it.

use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    BudgetBody, ConditionsBody, CreateTask, RateBody, RetryBody, TaskWebhook, ThresholdBody, rules,
    to_new_task,
};
use crate::{
    access::Scope,
    api::{ApiState, extract, problem::Problem},
    store::{NewTask, Selection},
    task::{Membership, WindowsForm},
};

/// The standing task of an offer. It has no device until somebody at home starts an upgrade, and stands until the offer is withdrawn.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct StandingTask {
    /// A name to recognise it by, 1 to 200 characters.
    #[schema(
        min_length = 1,
        max_length = 200,
        pattern = r"^[^\u0000-\u001f\u007f-\u009f]{1,200}$",
        example = "Locks, spring release"
    )]
    name: String,
    /// The package.
    #[serde(deserialize_with = "extract::whole")]
    #[schema(value_type = i64)]
    package_id: i64,
    /// Whether a device may be given a version that is below the one that it runs.
    allow_downgrade: Option<bool>,
    /// What has to hold at a device, as it is told where its protocol has a place for that.
    conditions: Option<ConditionsBody>,
    /// What follows a failure; nothing when not given.
    retry: Option<RetryBody>,
    /// Thresholds of failures at which it pauses or stops by itself, 20 at most.
    #[schema(max_items = 20)]
    abort: Option<Vec<ThresholdBody>>,
    /// How fast upgrades begin.
    rate: Option<RateBody>,
    /// When upgrades may begin; at any time when not given.
    #[schema(value_type = Option<rules::WindowsBody>)]
    windows: Option<WindowsForm>,
    /// Whether somebody has to approve it before anything of it starts.
    approval: Option<bool>,
    /// What a device may spend in a month; as much as it takes when not given.
    budget: Option<BudgetBody>,
    /// Where it stands before other tasks, 0 to 9; 5 when not given.
    #[serde(default, deserialize_with = "extract::optional_whole")]
    #[schema(minimum = 0, maximum = 9)]
    priority: Option<i64>,
    /// What it has of the slots of a cell beside tasks of its priority; 1 when not given.
    #[serde(default, deserialize_with = "extract::optional_whole")]
    #[schema(minimum = 1, maximum = 1000)]
    weight: Option<i64>,
    /// Told of every outcome of this task, besides the webhooks for all tasks.
    webhook: Option<TaskWebhook>,
}

impl StandingTask {
    /// The task that is to be created. Its fields are told with `task.` before them.
    pub(in crate::api) async fn read(
        self,
        state: &ApiState,
        scope: &Scope,
        by: String,
    ) -> Result<NewTask, Problem> {
        let body = CreateTask {
            name: self.name,
            package_id: Some(self.package_id),
            packages: None,
            steps: None,
            allow_downgrade: self.allow_downgrade,
            devices: None,
            product: None,
            // as nobody is named: whoever is in it is said one by one
            all: Some(true),
            filter: None,
            group: None,
            exclude: None,
            membership: None,
            start_at: None,
            conditions: self.conditions,
            retry: self.retry,
            phases: None,
            stratified: None,
            abort: self.abort,
            rate: self.rate,
            windows: self.windows,
            not_after: None,
            approval: self.approval,
            confirmation: None,
            budget: self.budget,
            priority: self.priority,
            weight: self.weight,
            webhook: self.webhook,
        };
        let task = to_new_task(state, scope, body).await;
        let mut task = task.map_err(|problem| problem.below("task"))?;
        task.selection = Selection::Devices(Vec::new());
        task.rules.membership = Membership::Joining;
        task.origin.by = by;
        Ok(task)
    }
}
