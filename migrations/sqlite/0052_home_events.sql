-- Applications are told of what goes on in homes.
-- In which home the device was; NULL: in none.
ALTER TABLE events ADD COLUMN home TEXT;
-- In which stage an upgrade that has begun was.
ALTER TABLE events ADD COLUMN stage TEXT;
-- A start that waits is no event of its task: several may wait at the same time.
DROP INDEX events_of_task;
CREATE UNIQUE INDEX events_of_task ON events (task_id, at, kind) WHERE upgrade_id IS NULL AND endpoint IS NULL;

-- In which home the device of an upgrade that had not ended was when it was removed; NULL: in none, or it was not removed.
ALTER TABLE upgrades ADD COLUMN home TEXT;
DROP TRIGGER home_devices_gone;
CREATE TRIGGER home_devices_gone AFTER UPDATE OF removed ON devices WHEN NEW.removed = 1 BEGIN
    UPDATE upgrades SET home = (SELECT h.home FROM home_devices i JOIN homes h ON h.id = i.home_id WHERE i.endpoint = NEW.endpoint)
        WHERE endpoint = NEW.endpoint AND phase = 0;
    UPDATE upgrades SET home = (SELECT h.home FROM home_devices i JOIN homes h ON h.id = i.home_id WHERE i.endpoint = NEW.endpoint)
        WHERE endpoint = NEW.endpoint AND phase = 1;
    DELETE FROM home_devices WHERE endpoint = NEW.endpoint;
END;

-- Upgrades that wait for the word of a home, of which nobody was told yet.
CREATE TABLE home_asks (
    upgrade_id INTEGER NOT NULL PRIMARY KEY REFERENCES upgrades (id) ON DELETE CASCADE,
    task_id    INTEGER NOT NULL
) STRICT;
CREATE INDEX home_asks_of_task ON home_asks (task_id, upgrade_id);
CREATE TRIGGER home_asks_added AFTER INSERT ON upgrades WHEN NEW.unconfirmed = 1 BEGIN
    INSERT INTO home_asks (upgrade_id, task_id) SELECT NEW.id, NEW.task_id FROM home_devices WHERE endpoint = NEW.endpoint;
END;
-- A device that stays in its home is not inserted anew.
CREATE TRIGGER home_asks_joined AFTER INSERT ON home_devices BEGIN
    INSERT INTO home_asks (upgrade_id, task_id) SELECT u.id, u.task_id FROM upgrades u
        WHERE u.endpoint = NEW.endpoint AND u.phase = 0 AND u.unconfirmed = 1
            AND NOT EXISTS (SELECT 1 FROM home_asks a WHERE a.upgrade_id = u.id);
END;
