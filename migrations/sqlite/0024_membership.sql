-- Whom a task leaves out of its selection: whom this filter lets through, in its canonical text,
ALTER TABLE tasks ADD COLUMN exclude_filter TEXT;
-- who belongs to this group,
ALTER TABLE tasks ADD COLUMN exclude_group INTEGER;
CREATE INDEX tasks_without_group ON tasks (exclude_group, id) WHERE exclude_group IS NOT NULL;
-- and these. There need not be such a device any more.
CREATE TABLE task_excluded (
    task_id  INTEGER NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    endpoint TEXT    NOT NULL,
    PRIMARY KEY (task_id, endpoint)
) STRICT, WITHOUT ROWID;
ALTER TABLE tasks ADD COLUMN exclude_devices INTEGER NOT NULL DEFAULT 0;
-- Devices that were selected, and left out because of these.
ALTER TABLE tasks ADD COLUMN left_out INTEGER NOT NULL DEFAULT 0;

-- 1: not for a list, so that others may join; of tasks from before nobody knows.
ALTER TABLE tasks ADD COLUMN may_join INTEGER NOT NULL DEFAULT 0;
-- The filter that its devices were selected by, in its canonical text.
ALTER TABLE tasks ADD COLUMN selected_by TEXT;
-- 1: devices join it that come to fit. It does not end while it may take devices up, although nothing is left to do.
ALTER TABLE tasks ADD COLUMN joining INTEGER
    GENERATED ALWAYS AS (IIF(rules ->> '$.membership' = 'joining', 1, 0)) VIRTUAL;

-- Whether a device is in a task is known by the index alone: all devices are asked about, again and again.
DROP INDEX upgrades_of_device;
CREATE INDEX upgrades_of_device ON upgrades (endpoint, id, task_id);
