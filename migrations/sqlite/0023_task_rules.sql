-- How a task is run, a JSON object; NULL: nothing is said.
ALTER TABLE tasks ADD COLUMN rules TEXT;
-- Why nothing of it begins until somebody says so, a JSON object. Of a task that stopped by itself: why.
ALTER TABLE tasks ADD COLUMN hold TEXT;
-- The phase that runs, from 0.
ALTER TABLE tasks ADD COLUMN phase INTEGER NOT NULL DEFAULT 0;
-- 1: what had not begun by its last time is done away with.
ALTER TABLE tasks ADD COLUMN expired INTEGER NOT NULL DEFAULT 0;
-- What had come of it when it was resumed last, a JSON object.
ALTER TABLE tasks ADD COLUMN resumed_with TEXT;
-- Counts the changes of what it says.
ALTER TABLE tasks ADD COLUMN revision INTEGER NOT NULL DEFAULT 1;
-- 1: it was stopped, and what holds a slot goes on to its end.
ALTER TABLE tasks ADD COLUMN soft_stop INTEGER NOT NULL DEFAULT 0;
-- The reasons of failures after which another attempt is made, a JSON list; NULL: any.
ALTER TABLE tasks ADD COLUMN retry_reasons TEXT;
-- Who approved it, or refused to, a JSON object.
ALTER TABLE tasks ADD COLUMN approval TEXT;

-- What of a task begins under the same conditions.
CREATE TABLE task_lots (
    task_id   INTEGER NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    lot       INTEGER NOT NULL,
    phase     INTEGER NOT NULL,
    -- of its devices, where that matters
    zone      TEXT,
    PRIMARY KEY (task_id, lot)
) STRICT, WITHOUT ROWID;
INSERT INTO task_lots (task_id, lot, phase) SELECT id, 0, 0 FROM tasks;

ALTER TABLE upgrades ADD COLUMN lot INTEGER NOT NULL DEFAULT 0;
-- Attempts before it was taken up again after its task had done with it.
ALTER TABLE upgrades ADD COLUMN attempts_before INTEGER NOT NULL DEFAULT 0;
DROP INDEX upgrades_free;
CREATE INDEX upgrades_free ON upgrades (task_id, lot, not_before, id) WHERE free = 1;

-- Of each lot, and of those that failed by reason.
CREATE TABLE lot_counts (
    task_id INTEGER NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    state   TEXT    NOT NULL,
    lot     INTEGER NOT NULL,
    -- '' but of failures
    reason  TEXT    NOT NULL,
    count   INTEGER NOT NULL,
    PRIMARY KEY (task_id, state, lot, reason)
) STRICT, WITHOUT ROWID;
INSERT INTO lot_counts (task_id, state, lot, reason, count)
    SELECT task_id, state, 0, IIF(state = 'failed', COALESCE(outcome_reason, ''), ''), COUNT(*)
    FROM upgrades GROUP BY 1, 2, 4;
DROP TABLE task_counts;
ALTER TABLE lot_counts RENAME TO task_counts;

-- An outcome is told once. One that is taken up again has another one.
DROP INDEX events_of_upgrade;
DROP INDEX events_of_task;
CREATE UNIQUE INDEX events_of_upgrade ON events (upgrade_id, at, kind) WHERE upgrade_id IS NOT NULL;
CREATE UNIQUE INDEX events_of_task ON events (task_id, at, kind) WHERE upgrade_id IS NULL;
