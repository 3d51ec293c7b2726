-- So long after its upgrade a device of the lot counts as a success, if it is in health then, seconds; 0: at once.
ALTER TABLE task_lots ADD COLUMN soak_s INTEGER NOT NULL DEFAULT 0;

-- Upgrades that have succeeded, and how their devices bear it.
CREATE TABLE soaks (
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
    state      TEXT    NOT NULL DEFAULT 'soaking' CHECK (state IN ('soaking', 'healthy', 'unhealthy')),
    ended_at   INTEGER
) STRICT;
CREATE INDEX soaks_by_time ON soaks (next_at) WHERE next_at IS NOT NULL;
CREATE INDEX soaks_of_device ON soaks (endpoint) WHERE next_at IS NOT NULL;

-- How many soaks of each lot have ended.
CREATE TABLE soak_counts (
    task_id INTEGER NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    state   TEXT    NOT NULL,
    lot     INTEGER NOT NULL,
    count   INTEGER NOT NULL,
    PRIMARY KEY (task_id, state, lot)
) STRICT, WITHOUT ROWID;
