-- Groups of devices: a list, whose members are rows, or a filter.
CREATE TABLE device_groups (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    name       TEXT    NOT NULL,
    -- its canonical text; NULL: a list
    filter     TEXT,
    -- of a list, as they come and go
    members    INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    -- 1: nobody sees it; its members are being deleted, part by part
    removed    INTEGER NOT NULL DEFAULT 0
) STRICT;

CREATE UNIQUE INDEX device_groups_by_name ON device_groups (name) WHERE removed = 0;

-- By name, so that a list is in the order of endpoint names.
CREATE TABLE group_members (
    group_id INTEGER NOT NULL REFERENCES device_groups (id) ON DELETE CASCADE,
    endpoint TEXT    NOT NULL,
    PRIMARY KEY (group_id, endpoint)
) STRICT, WITHOUT ROWID;

CREATE INDEX group_members_by_endpoint ON group_members (endpoint, group_id);

CREATE TRIGGER group_members_added AFTER INSERT ON group_members BEGIN
    UPDATE device_groups SET members = members + 1 WHERE id = NEW.group_id;
END;
CREATE TRIGGER group_members_removed AFTER DELETE ON group_members BEGIN
    UPDATE device_groups SET members = members - 1 WHERE id = OLD.group_id;
END;
-- A device that is removed, and one that is added again under its name, is in no group.
CREATE TRIGGER devices_removed_from_groups AFTER UPDATE OF removed ON devices WHEN NEW.removed = 1 BEGIN
    DELETE FROM group_members WHERE endpoint = NEW.endpoint;
END;

-- The group that a task was created for.
ALTER TABLE tasks ADD COLUMN group_id INTEGER;
CREATE INDEX tasks_of_group ON tasks (group_id, id) WHERE group_id IS NOT NULL;
