-- What the operator rules for a cell. Closings and busy hours are JSON, as they are in the program.
ALTER TABLE cells ADD COLUMN own_limit INTEGER;
ALTER TABLE cells ADD COLUMN closing TEXT;
ALTER TABLE cells ADD COLUMN outage TEXT;
ALTER TABLE cells ADD COLUMN busy_hours TEXT;
ALTER TABLE cells ADD COLUMN note TEXT;
-- Grows with every change, over all cells; 0 where there never was a rule.
ALTER TABLE cells ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;
CREATE INDEX cells_by_revision ON cells (revision) WHERE revision > 0;

-- Upgrades that ended for good while they had a place or a slot in the cell.
ALTER TABLE cells ADD COLUMN succeeded INTEGER NOT NULL DEFAULT 0;
ALTER TABLE cells ADD COLUMN failed INTEGER NOT NULL DEFAULT 0;
UPDATE cells SET
    succeeded = (SELECT COUNT(*) FROM upgrades u WHERE u.cell = cells.cell AND u.state = 'succeeded'),
    failed = (SELECT COUNT(*) FROM upgrades u WHERE u.cell = cells.cell AND u.state = 'failed');

-- Who has a slot in a cell.
CREATE INDEX upgrades_with_slot ON upgrades (cell, id) WHERE state IN ('downloading', 'executing');
