-- Soaks may be passed over: of a device that is gone nobody waits for word. A constraint cannot be changed in place.
CREATE TABLE soaks_with_skips (
    upgrade_id INTEGER PRIMARY KEY REFERENCES upgrades (id) ON DELETE CASCADE,
    task_id    INTEGER NOT NULL,
    lot        INTEGER NOT NULL,
    endpoint   TEXT    NOT NULL,
    -- the version that the upgrade led to
    target     TEXT    NOT NULL,
    began_at   INTEGER NOT NULL,
    due_at     INTEGER NOT NULL,
    -- when there is something to do about it; NULL: it has ended
    next_at    INTEGER,
    state      TEXT    NOT NULL DEFAULT 'soaking' CHECK (state IN ('soaking', 'healthy', 'unhealthy', 'skipped')),
    ended_at   INTEGER
) STRICT;
INSERT INTO soaks_with_skips (upgrade_id, task_id, lot, endpoint, target, began_at, due_at, next_at, state, ended_at)
    SELECT upgrade_id, task_id, lot, endpoint, target, began_at, due_at, next_at, state, ended_at FROM soaks;
DROP TABLE soaks;
ALTER TABLE soaks_with_skips RENAME TO soaks;
CREATE INDEX soaks_by_time ON soaks (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX soaks_of_device ON soaks (endpoint) WHERE next_at IS NOT NULL;

-- Counts the changes of a group, from 1.
ALTER TABLE device_groups ADD COLUMN revision INTEGER NOT NULL DEFAULT 1;
