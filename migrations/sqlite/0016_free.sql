-- Which upgrade of several begins on a device is the planner's to say: a task that may start nothing holds no device. What is
-- kept of an upgrade that waits is whether its device is free.
DROP INDEX upgrades_next;
ALTER TABLE upgrades RENAME COLUMN next TO free;
UPDATE upgrades AS u SET free = 1 WHERE u.phase = 0 AND u.free = 0
    AND NOT EXISTS (SELECT 1 FROM upgrades r WHERE r.endpoint = u.endpoint AND r.phase = 1);
CREATE INDEX upgrades_free ON upgrades (task_id, not_before, id) WHERE free = 1;
