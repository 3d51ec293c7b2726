-- End users' homes: who is in them, and which devices.
CREATE TABLE homes (
    id         INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    tenant     TEXT    NOT NULL,
    -- what the integrator calls it
    home       TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    -- an IANA name
    zone       TEXT    NOT NULL,
    -- minutes of the day; NULL, both: no hours are quiet
    quiet_from INTEGER,
    quiet_to   INTEGER,
    members    INTEGER NOT NULL DEFAULT 0,
    devices    INTEGER NOT NULL DEFAULT 0,
    created_at INTEGER NOT NULL,
    -- counts the changes of the home, of its members and of its devices; never again that of a home that was deleted
    revision   INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX homes_by_name ON homes (tenant, home);
CREATE INDEX homes_of_tenant ON homes (tenant, id);

CREATE TABLE home_members (
    home_id  INTEGER NOT NULL REFERENCES homes (id) ON DELETE CASCADE,
    user     TEXT    NOT NULL,
    tenant   TEXT    NOT NULL,
    -- what stands for the user in the audit log
    mark     TEXT    NOT NULL,
    -- 0 owner, 1 administrator, 2 member
    role     INTEGER NOT NULL,
    added_at INTEGER NOT NULL,
    PRIMARY KEY (home_id, user)
) STRICT, WITHOUT ROWID;
CREATE INDEX home_members_of_user ON home_members (tenant, user, home_id);

CREATE TABLE home_devices (
    endpoint  TEXT    NOT NULL PRIMARY KEY,
    home_id   INTEGER NOT NULL REFERENCES homes (id) ON DELETE CASCADE,
    name      TEXT,
    icon      TEXT,
    -- 1: it upgrades by itself
    automatic INTEGER NOT NULL DEFAULT 0,
    added_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX home_devices_of_home ON home_devices (home_id, endpoint);
CREATE INDEX home_devices_automatic ON home_devices (endpoint) WHERE automatic = 1;

-- How many there are is kept.
CREATE TRIGGER home_members_added AFTER INSERT ON home_members BEGIN
    UPDATE homes SET members = members + 1 WHERE id = NEW.home_id;
END;
CREATE TRIGGER home_members_removed AFTER DELETE ON home_members BEGIN
    UPDATE homes SET members = members - 1 WHERE id = OLD.home_id;
END;
CREATE TRIGGER home_devices_added AFTER INSERT ON home_devices BEGIN
    UPDATE homes SET devices = devices + 1 WHERE id = NEW.home_id;
END;
-- What waits on a device for the word of its home waits no more.
CREATE TRIGGER home_devices_removed AFTER DELETE ON home_devices BEGIN
    UPDATE homes SET devices = devices - 1, revision = revision + 1 WHERE id = OLD.home_id;
    UPDATE app_starts SET state = 'cancelled' WHERE endpoint = OLD.endpoint AND state = 'waiting';
END;

-- A device that is no more, or is another tenant's, is in no home.
CREATE TRIGGER home_devices_gone AFTER UPDATE OF removed ON devices WHEN NEW.removed = 1 BEGIN
    DELETE FROM home_devices WHERE endpoint = NEW.endpoint;
END;
CREATE TRIGGER home_devices_forgotten AFTER DELETE ON devices BEGIN
    DELETE FROM home_devices WHERE endpoint = OLD.endpoint;
END;
CREATE TRIGGER home_devices_given_away AFTER UPDATE OF product ON devices
WHEN substr(OLD.product, 1, instr(OLD.product, '/')) <> substr(NEW.product, 1, instr(NEW.product, '/')) BEGIN
    DELETE FROM home_devices WHERE endpoint = NEW.endpoint;
END;

-- What is offered to end users. Each has a standing task.
CREATE TABLE offers (
    id              INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    tenant          TEXT    NOT NULL,
    product         TEXT    NOT NULL,
    package_id      INTEGER NOT NULL,
    -- as they were when it was published
    version         TEXT    NOT NULL,
    size_bytes      INTEGER NOT NULL,
    sha256          TEXT    NOT NULL,
    md5             TEXT,
    task_id         INTEGER NOT NULL,
    -- 1: a device may be given a version below the one that it runs
    allow_downgrade INTEGER NOT NULL DEFAULT 0,
    channel         INTEGER NOT NULL,
    -- JSON
    terms           TEXT    NOT NULL,
    published_at    INTEGER NOT NULL,
    withdrawn_at    INTEGER,
    revision        INTEGER NOT NULL DEFAULT 1
) STRICT;
CREATE INDEX offers_of_tenant ON offers (tenant, id);
CREATE INDEX offers_standing ON offers (tenant, product, channel, id) WHERE withdrawn_at IS NULL;
CREATE INDEX offers_listed ON offers (tenant, id) WHERE withdrawn_at IS NULL;
CREATE UNIQUE INDEX offers_of_task ON offers (task_id);

-- The upgrade of the same device that has to succeed before this one begins.
ALTER TABLE upgrades ADD COLUMN after_id INTEGER;
CREATE INDEX upgrades_after ON upgrades (after_id) WHERE after_id IS NOT NULL;

-- What was started at home, by whom. One that waits does so for the user's word over a weak signal.
CREATE TABLE app_starts (
    id       INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    tenant   TEXT    NOT NULL,
    -- NULL: the home was deleted
    home_id  INTEGER REFERENCES homes (id) ON DELETE SET NULL,
    endpoint TEXT    NOT NULL,
    -- NULL: by itself, or the user was deleted
    user     TEXT,
    -- JSON lists of numbers
    offers   TEXT    NOT NULL,
    upgrades TEXT    NOT NULL DEFAULT '[]',
    -- waiting, started, cancelled
    state    TEXT    NOT NULL,
    at       INTEGER NOT NULL,
    -- one that waits has lapsed then
    until    INTEGER
) STRICT;
CREATE INDEX app_starts_of_device ON app_starts (endpoint, id);
CREATE INDEX app_starts_of_user ON app_starts (tenant, user, id) WHERE user IS NOT NULL;
CREATE INDEX app_starts_of_home ON app_starts (home_id) WHERE home_id IS NOT NULL;
CREATE INDEX app_starts_waiting ON app_starts (endpoint) WHERE state = 'waiting';
CREATE INDEX app_starts_by_time ON app_starts (at);

-- Tokens that were issued for users.
CREATE TABLE app_tokens (
    id         INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    tenant     TEXT    NOT NULL,
    user       TEXT    NOT NULL,
    -- what stands for the user in the audit log
    mark       TEXT    NOT NULL,
    hash       BLOB    NOT NULL,
    created_by TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX app_tokens_by_hash ON app_tokens (hash);
CREATE INDEX app_tokens_of_user ON app_tokens (tenant, user, id);
CREATE INDEX app_tokens_by_end ON app_tokens (expires_at);

-- Users whose tokens of before a time are not let in: by what stands for them, so that no name is left of who was deleted.
CREATE TABLE app_revoked (
    mark       TEXT    NOT NULL PRIMARY KEY,
    tenant     TEXT    NOT NULL,
    before     INTEGER NOT NULL,
    revoked_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX app_revoked_by_time ON app_revoked (revoked_at);

-- The key of the hash that stands for a user.
CREATE TABLE app_key (
    id  INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    key BLOB    NOT NULL
) STRICT;
INSERT INTO app_key (id, key) VALUES (1, randomblob(32));
