-- Cells that are closed, or were: a few of all.
CREATE INDEX cells_closings ON cells (cell) WHERE closing IS NOT NULL OR outage IS NOT NULL;

-- Tasks that have not ended: a few of all.
CREATE INDEX tasks_unfinished ON tasks (id) WHERE state IN ('scheduled', 'running', 'stopping');
CREATE INDEX tasks_unfinished_of_tenant ON tasks (tenant, id) WHERE state IN ('scheduled', 'running', 'stopping');
CREATE INDEX tasks_unfinished_by_scope ON tasks (scope, id)
    WHERE scope IS NOT NULL AND state IN ('scheduled', 'running', 'stopping');
