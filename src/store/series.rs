use async_trait::async_trait;

use super::StoreError;
use crate::{
    clock::UtcMillis,
    ledger::{CoverageReading, TaskId},
};

/// How a task stood at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TaskPoint {
    /// When.
    pub at: UtcMillis,
    /// Upgrades that waited for their time, or for the next attempt.
    pub waiting: u64,
    /// Upgrades that had begun and not ended.
    pub running: u64,
    /// Upgrades that had succeeded.
    pub succeeded: u64,
    /// Upgrades that had failed.
    pub failed: u64,
    /// Upgrades that had been cancelled.
    pub cancelled: u64,
    /// Upgrades that would have ended by then, by the newest forecast of the task there was.
    pub expected: Option<u64>,
}

/// How a cell stood at a time. The totals count since the cell is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CellPoint {
    /// When.
    pub at: UtcMillis,
    /// Devices that upgraded.
    pub active: u32,
    /// Devices that waited.
    pub waiting: u32,
    /// Devices that had been admitted.
    pub admitted: u64,
    /// Upgrades that had succeeded there.
    pub succeeded: u64,
    /// Upgrades that had failed there.
    pub failed: u64,
}

/// The limit of a cell has changed because of how crowded the cell was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitChange {
    /// The cell.
    pub cell: u32,
    /// When.
    pub at: UtcMillis,
    /// How many may upgrade in it at once from then on; `None`: coverage alone counts.
    pub most: Option<u32>,
    /// How many that were before.
    pub before: Option<u32>,
    /// What a KiB took then, in percent of what it takes while few upgrade there.
    pub percent: u64,
}

/// How things went on: bounded series, for whoever draws them.
#[async_trait]
pub trait Series: Send + Sync + 'static {
    /// Adds a point to the series of a task that is there. Where there are more than 1,000, every second one goes.
    async fn add_task_point(&self, task: TaskId, point: &TaskPoint) -> Result<(), StoreError>;

    /// Adds a point to the series of each cell in which anybody upgrades or waits; it takes the place of that of the same hour, and
    /// of the same hour of the week before.
    async fn add_cell_points(&self, at: UtcMillis) -> Result<(), StoreError>;

    /// Adds changes of cells' limits, in their order. The last 50 of each cell stay.
    async fn add_limit_changes(&self, changes: &[LimitChange]) -> Result<(), StoreError>;

    /// How the limit of a cell has changed because of how crowded the cell was: the last 50 changes, oldest first.
    async fn limit_changes(&self, cell: u32) -> Result<Vec<LimitChange>, StoreError>;

    /// The points of a task, oldest first.
    async fn task_series(&self, task: TaskId) -> Result<Vec<TaskPoint>, StoreError>;

    /// The points of a cell in the seven days before the newest of them, oldest first.
    async fn cell_series(&self, cell: u32) -> Result<Vec<CellPoint>, StoreError>;

    /// The last 50 measurements of a device's coverage, oldest first; nothing where it is not there.
    async fn device_series(&self, endpoint: &str) -> Result<Vec<CoverageReading>, StoreError>;
}
