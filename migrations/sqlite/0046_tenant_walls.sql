-- An upgrade that has ended is not taken up again on a device that has become another tenant's, whoever asks for it.
CREATE TRIGGER upgrades_taken_up BEFORE UPDATE OF phase ON upgrades WHEN OLD.phase = 2 AND NEW.phase <> 2
    AND EXISTS (SELECT 1 FROM devices d JOIN tasks t ON t.id = NEW.task_id WHERE d.endpoint = NEW.endpoint AND d.tenant <> t.tenant) BEGIN
    SELECT RAISE(ABORT, 'the device of the upgrade belongs to another tenant');
END;

-- Those for a task have the tenant of their task, also those from before there were tenants: then there was one.
UPDATE webhooks SET tenant = (SELECT t.tenant FROM tasks t WHERE t.id = webhooks.task_id) WHERE task_id IS NOT NULL AND tenant IS NULL;

-- For whom an answer is kept: the tenant of whoever asked; empty: of nobody in particular. Each has its share of what is kept.
ALTER TABLE answers ADD COLUMN holder TEXT NOT NULL DEFAULT '';
CREATE INDEX answers_by_holder ON answers (holder, at DESC, key DESC);
