use async_trait::async_trait;

use super::{CellChange, CellDetail, CellUpdate, StoreError, UpdateCellsError};
use crate::clock::UtcMillis;

/// What the operator rules for cells.
#[async_trait]
pub trait Cells: Send + Sync + 'static {
    /// Changes the rules of cells, in this order, all of them or none. A cell that nobody has been in is added. Give some
    /// thousand at most: others wait meanwhile.
    async fn update_cells(
        &self,
        updates: &[CellUpdate],
        now: UtcMillis,
    ) -> Result<(), UpdateCellsError>;

    /// A cell in which a device waited for a slot or had one, or that has or had rules.
    async fn cell(&self, cell: u32) -> Result<Option<CellDetail>, StoreError>;

    /// Up to `limit` cells whose rules changed after `revision`, oldest change first. A cell that changed several times appears
    /// once, as it is now.
    async fn cell_changes_since(
        &self,
        revision: i64,
        limit: u32,
    ) -> Result<Vec<CellChange>, StoreError>;
}
