-- What lists and the rollout ask is kept instead of counted or looked for, so that a question costs the same whatever
-- the number of rows.

-- 1: nobody sees it. It is being created or deleted, part by part; what a crash left of it is removed at the next start.
ALTER TABLE tasks ADD COLUMN hidden INTEGER NOT NULL DEFAULT 0;
CREATE INDEX tasks_hidden ON tasks (id) WHERE hidden = 1;

-- Upgrades in each state.
CREATE TABLE task_counts (
    task_id INTEGER NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    state   TEXT    NOT NULL,
    count   INTEGER NOT NULL,
    PRIMARY KEY (task_id, state)
) STRICT, WITHOUT ROWID;
INSERT INTO task_counts (task_id, state, count) SELECT task_id, state, COUNT(*) FROM upgrades GROUP BY task_id, state;

-- Devices that hold a slot, and that wait for one.
ALTER TABLE cells ADD COLUMN active INTEGER NOT NULL DEFAULT 0;
ALTER TABLE cells ADD COLUMN waiting INTEGER NOT NULL DEFAULT 0;
UPDATE cells SET
    active = (SELECT COUNT(*) FROM upgrades u WHERE u.phase = 1 AND u.cell = cells.cell
        AND u.state IN ('downloading', 'executing')),
    waiting = (SELECT COUNT(*) FROM upgrades u WHERE u.phase = 1 AND u.cell = cells.cell
        AND u.state = 'waiting_for_slot');

-- The phase is a column like others, so that a stage that follows a stage leaves the indexes alone that it is in.
DROP INDEX upgrades_by_device;
DROP INDEX upgrades_due;
DROP INDEX upgrades_active;
DROP INDEX upgrades_in_cell;
ALTER TABLE upgrades DROP COLUMN phase;
-- 0 waits, 1 runs, 2 has ended
ALTER TABLE upgrades ADD COLUMN phase INTEGER NOT NULL DEFAULT 0;
-- 1: it waits, nothing runs on its device, and no other upgrade of the device is to begin before it
ALTER TABLE upgrades ADD COLUMN next INTEGER NOT NULL DEFAULT 0;
UPDATE upgrades SET phase =
    CASE state WHEN 'pending' THEN 0 WHEN 'succeeded' THEN 2 WHEN 'failed' THEN 2 WHEN 'cancelled' THEN 2 ELSE 1 END;
CREATE INDEX upgrades_running ON upgrades (id) WHERE phase = 1;
CREATE INDEX upgrades_running_on ON upgrades (endpoint, id) WHERE phase = 1;
CREATE INDEX upgrades_waiting_on ON upgrades (endpoint, not_before, id) WHERE phase = 0;
CREATE INDEX upgrades_queued ON upgrades (cell, queued_at, id) WHERE state = 'waiting_for_slot';
CREATE INDEX upgrades_retrying ON upgrades (not_before) WHERE phase = 0 AND attempt > 0;
UPDATE upgrades AS u SET next = 1 WHERE u.phase = 0
    AND NOT EXISTS (SELECT 1 FROM upgrades r WHERE r.endpoint = u.endpoint AND r.phase = 1)
    AND NOT EXISTS (SELECT 1 FROM upgrades w WHERE w.endpoint = u.endpoint AND w.phase = 0
        AND (w.not_before, w.id) < (u.not_before, u.id));
CREATE INDEX upgrades_next ON upgrades (task_id, not_before, id) WHERE next = 1;

-- Deliveries that are still tried, and that were given up.
ALTER TABLE webhooks ADD COLUMN pending INTEGER NOT NULL DEFAULT 0;
ALTER TABLE webhooks ADD COLUMN failed INTEGER NOT NULL DEFAULT 0;
UPDATE webhooks SET
    pending = (SELECT COUNT(*) FROM deliveries WHERE webhook_id = webhooks.id AND state = 'pending'),
    failed = (SELECT COUNT(*) FROM deliveries WHERE webhook_id = webhooks.id AND state = 'failed');
CREATE TRIGGER deliveries_added AFTER INSERT ON deliveries BEGIN
    UPDATE webhooks SET pending = pending + (NEW.state = 'pending'), failed = failed + (NEW.state = 'failed')
        WHERE id = NEW.webhook_id;
END;
CREATE TRIGGER deliveries_changed AFTER UPDATE OF state ON deliveries WHEN OLD.state <> NEW.state BEGIN
    UPDATE webhooks SET pending = pending + (NEW.state = 'pending') - (OLD.state = 'pending'),
        failed = failed + (NEW.state = 'failed') - (OLD.state = 'failed')
        WHERE id = NEW.webhook_id;
END;
CREATE TRIGGER deliveries_deleted AFTER DELETE ON deliveries BEGIN
    UPDATE webhooks SET pending = pending - (OLD.state = 'pending'), failed = failed - (OLD.state = 'failed')
        WHERE id = OLD.webhook_id;
END;

-- Lists pass over what they do not show without reading it.
DROP INDEX devices_by_product;
CREATE INDEX devices_by_product ON devices (product, endpoint) WHERE removed = 0;
CREATE INDEX packages_listed ON packages (id) WHERE deleted_at IS NULL;
CREATE INDEX devices_with_key ON devices (endpoint) WHERE psk_identity IS NOT NULL;
