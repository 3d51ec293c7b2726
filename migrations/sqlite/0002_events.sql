-- What applications are told: the outcome of each upgrade, and of each task. Complete in itself, so that a task
-- may be deleted. The order of the numbers is the order in which the events were committed.
CREATE TABLE events (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    at         INTEGER NOT NULL,
    kind       TEXT    NOT NULL,
    task_id    INTEGER NOT NULL,
    task_name  TEXT    NOT NULL,
    product    TEXT    NOT NULL,
    version    BLOB    NOT NULL,
    -- of an upgrade
    upgrade_id INTEGER,
    endpoint   TEXT,
    attempts   INTEGER,
    reason     TEXT,
    detail     TEXT,
    cell       INTEGER,
    started_at INTEGER,
    -- of a task
    succeeded  INTEGER,
    failed     INTEGER,
    cancelled  INTEGER
) STRICT;

-- An outcome is told once.
CREATE UNIQUE INDEX events_of_upgrade ON events (upgrade_id) WHERE upgrade_id IS NOT NULL;
CREATE UNIQUE INDEX events_of_task ON events (task_id) WHERE upgrade_id IS NULL;
CREATE INDEX events_by_task ON events (task_id, id);
CREATE INDEX events_by_time ON events (at);

-- The task is no reference: what is on its way is delivered although the task is deleted.
CREATE TABLE webhooks (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    -- NULL: every task
    task_id       INTEGER,
    url           TEXT    NOT NULL,
    secret        BLOB    NOT NULL,
    created_at    INTEGER NOT NULL,
    -- of the first attempt that failed since one did not
    failing_since INTEGER
) STRICT;

CREATE INDEX webhooks_by_task ON webhooks (task_id);

CREATE TABLE deliveries (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    webhook_id      INTEGER NOT NULL REFERENCES webhooks (id) ON DELETE CASCADE,
    event_id        INTEGER NOT NULL REFERENCES events (id),
    state           TEXT    NOT NULL CHECK (state IN ('pending', 'delivered', 'failed')),
    -- counts replays; what comes of an attempt from before the last one is not written
    round           INTEGER NOT NULL DEFAULT 0,
    -- since it was created or replayed
    attempts        INTEGER NOT NULL DEFAULT 0,
    -- when it is tried (again)
    next_at         INTEGER NOT NULL,
    -- of the first attempt since it was created or replayed
    first_at        INTEGER,
    last_at         INTEGER,
    last_error      TEXT,
    ended_at        INTEGER
) STRICT;

CREATE INDEX deliveries_due ON deliveries (webhook_id, next_at, id) WHERE state = 'pending';
CREATE INDEX deliveries_by_webhook ON deliveries (webhook_id, id);
CREATE INDEX deliveries_by_state ON deliveries (webhook_id, state, id);
CREATE INDEX deliveries_by_event ON deliveries (event_id);
CREATE INDEX deliveries_ended ON deliveries (ended_at) WHERE state <> 'pending';
