-- Times are milliseconds since 1970-01-01 UTC. Versions are the 16 bytes that PCP carries.

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE packages (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    product       TEXT    NOT NULL,
    version       BLOB    NOT NULL,
    sha256        TEXT    NOT NULL,
    size_bytes    INTEGER NOT NULL,
    segment_size  INTEGER NOT NULL,
    pad_last      INTEGER NOT NULL,
    crc           INTEGER NOT NULL,
    check_code    INTEGER NOT NULL,
    created_at    INTEGER NOT NULL,
    superseded_at INTEGER,
    deleted_at    INTEGER
) STRICT;

-- One package of a version is current; older content stays for the tasks that used it.
CREATE UNIQUE INDEX packages_current ON packages (product, version)
    WHERE superseded_at IS NULL AND deleted_at IS NULL;
CREATE INDEX packages_by_version ON packages (product, version);
CREATE INDEX packages_by_content ON packages (sha256);

CREATE TABLE devices (
    id                 INTEGER PRIMARY KEY AUTOINCREMENT,
    endpoint           TEXT    NOT NULL UNIQUE,
    product            TEXT    NOT NULL,
    -- bumped from one counter by the operator's changes only
    revision           INTEGER NOT NULL DEFAULT 0,
    -- 1: removed by the operator, kept until the rollout has seen it
    removed            INTEGER NOT NULL DEFAULT 0,
    created_at         INTEGER NOT NULL,
    last_heard_at      INTEGER,
    reg_location       TEXT,
    reg_peer           TEXT,
    reg_lifetime_s     INTEGER,
    reg_expires_at     INTEGER,
    reg_registered_at  INTEGER,
    reg_queue_mode     INTEGER,
    registered         INTEGER NOT NULL GENERATED ALWAYS AS (reg_location IS NOT NULL) VIRTUAL,
    coverage_cell      INTEGER,
    coverage_rsrp_dbm  INTEGER,
    coverage_sinr_db   INTEGER,
    coverage_at        INTEGER,
    version            BLOB
) STRICT;

CREATE INDEX devices_by_product ON devices (product, endpoint);
CREATE INDEX devices_by_registered ON devices (registered, endpoint);
CREATE INDEX devices_by_product_registered ON devices (product, registered, endpoint);
CREATE INDEX devices_by_revision ON devices (revision);
CREATE INDEX devices_removed ON devices (revision) WHERE removed = 1;

CREATE TABLE tasks (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    name             TEXT    NOT NULL,
    package_id       INTEGER NOT NULL REFERENCES packages (id),
    state            TEXT    NOT NULL
        CHECK (state IN ('scheduled', 'running', 'stopping', 'stopped', 'finished')),
    start_at         INTEGER NOT NULL,
    retry_attempts   INTEGER NOT NULL,
    retry_interval_s INTEGER NOT NULL,
    created_at       INTEGER NOT NULL,
    stopped_at       INTEGER,
    ended_at         INTEGER
) STRICT;

CREATE INDEX tasks_by_package ON tasks (package_id, state);
CREATE INDEX tasks_by_state ON tasks (state, start_at);

-- The endpoint is no reference: an upgrade outlives the device it was for.
CREATE TABLE upgrades (
    id               INTEGER PRIMARY KEY AUTOINCREMENT,
    task_id          INTEGER NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    endpoint         TEXT    NOT NULL,
    state            TEXT    NOT NULL,
    -- 0 waits, 1 runs, 2 has ended
    phase            INTEGER NOT NULL GENERATED ALWAYS AS (
        CASE state WHEN 'pending' THEN 0 WHEN 'succeeded' THEN 2 WHEN 'failed' THEN 2 WHEN 'cancelled' THEN 2 ELSE 1 END
    ) VIRTUAL,
    -- attempts that have begun
    attempt          INTEGER NOT NULL DEFAULT 0,
    not_before       INTEGER NOT NULL,
    stage_entered_at INTEGER,
    stage_deadline_at INTEGER,
    queued_at        INTEGER,
    slot_deadline_at INTEGER,
    cell             INTEGER,
    cell_limit       INTEGER,
    confirmed        INTEGER NOT NULL DEFAULT 0,
    segment          INTEGER,
    progress_percent INTEGER NOT NULL DEFAULT 0,
    outcome_state    TEXT,
    outcome_reason   TEXT,
    outcome_detail   TEXT,
    outcome_at       INTEGER,
    created_at       INTEGER NOT NULL,
    started_at       INTEGER,
    ended_at         INTEGER
) STRICT;

CREATE INDEX upgrades_by_task ON upgrades (task_id, id);
CREATE INDEX upgrades_by_task_state ON upgrades (task_id, state, id);
CREATE INDEX upgrades_by_device ON upgrades (endpoint, phase, id);
CREATE INDEX upgrades_due ON upgrades (not_before, id) WHERE phase = 0;
CREATE INDEX upgrades_active ON upgrades (id) WHERE phase = 1;
CREATE INDEX upgrades_in_cell ON upgrades (cell, state) WHERE phase = 1;

CREATE TABLE upgrade_events (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    upgrade_id INTEGER NOT NULL REFERENCES upgrades (id) ON DELETE CASCADE,
    at         INTEGER NOT NULL,
    attempt    INTEGER NOT NULL,
    -- the stage that was entered, 'note', or how the attempt ended
    kind       TEXT    NOT NULL,
    text       TEXT    NOT NULL
) STRICT;

CREATE INDEX upgrade_events_by_upgrade ON upgrade_events (upgrade_id, id);

CREATE TABLE cells (
    cell             INTEGER PRIMARY KEY,
    limit_max        INTEGER NOT NULL DEFAULT 0,
    concurrent_peak  INTEGER NOT NULL DEFAULT 0,
    admitted_total   INTEGER NOT NULL DEFAULT 0,
    last_admitted_at INTEGER
) STRICT;
