-- Cells that are closed, or were: a few of all.
CREATE INDEX cells_closings ON cells (cell) WHERE closing IS NOT NULL OR outage IS NOT NULL;

-- Tasks that have not ended: a few of all.
CREATE INDEX tasks_unfinished ON tasks (id) WHERE state IN ('scheduled', 'running', 'stopping');
