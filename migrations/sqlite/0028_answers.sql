-- What requests were answered that carried an Idempotency-Key.
CREATE TABLE answers (
    key     TEXT    NOT NULL PRIMARY KEY,
    -- SHA-256 of what was asked
    request BLOB    NOT NULL,
    at      INTEGER NOT NULL,
    -- NULL: nobody knows yet
    status  INTEGER,
    -- a JSON list of names and values
    headers TEXT,
    body    BLOB
) STRICT, WITHOUT ROWID;
CREATE INDEX answers_by_age ON answers (at, key);
