-- Who has changed what: a chain. 'row' is JSON in the one form that is hashed, 'hash' its SHA-256; the row before is named in it.
-- The other columns repeat what is asked for.
CREATE TABLE audit (
    number INTEGER PRIMARY KEY,
    row TEXT NOT NULL,
    hash BLOB NOT NULL,
    at INTEGER NOT NULL,
    who TEXT NOT NULL,
    operation TEXT NOT NULL,
    target TEXT,
    result TEXT NOT NULL
) STRICT;

CREATE INDEX audit_by_time ON audit (at);
CREATE INDEX audit_by_who ON audit (who, number);
CREATE INDEX audit_by_operation ON audit (operation, number);
CREATE INDEX audit_by_target ON audit (target, number) WHERE target IS NOT NULL;
CREATE INDEX audit_by_result ON audit (result, number);

-- The newest row, apart from the rows, so that it shows when they end too early.
CREATE TABLE audit_head (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    number INTEGER NOT NULL,
    hash BLOB NOT NULL,
    at INTEGER NOT NULL
) STRICT;
INSERT INTO audit_head (id, number, hash, at) VALUES (1, 0, zeroblob(32), 0);

-- What is done in several transactions and not over: a row of it comes when it is, or at the next start.
CREATE TABLE audit_open (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    entry TEXT NOT NULL,
    at INTEGER NOT NULL
) STRICT;

-- Signed before what is older was removed: the chain begins behind the newest of them.
CREATE TABLE audit_checkpoints (
    number INTEGER PRIMARY KEY,
    checkpoint TEXT NOT NULL
) STRICT;
