-- Applications are told of what goes on in homes.
-- In which home the device was; NULL: in none.
ALTER TABLE events ADD COLUMN home TEXT;
-- In which stage an upgrade that has begun was.
ALTER TABLE events ADD COLUMN stage TEXT;
-- A start that waits is no event of its task: several may wait at the same time.
DROP INDEX events_of_task;
CREATE UNIQUE INDEX events_of_task ON events (task_id, at, kind) WHERE upgrade_id IS NULL AND endpoint IS NULL;

-- Upgrades that wait for the word of a home, of which nobody was told yet.
CREATE TABLE home_asks (
    upgrade_id INTEGER NOT NULL PRIMARY KEY REFERENCES upgrades (id) ON DELETE CASCADE
) STRICT;
CREATE TRIGGER home_asks_added AFTER INSERT ON upgrades WHEN NEW.unconfirmed = 1 BEGIN
    INSERT INTO home_asks (upgrade_id) SELECT NEW.id FROM home_devices WHERE endpoint = NEW.endpoint;
END;
