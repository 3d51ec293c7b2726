-- Who has made a task, and within which devices: a filter (RSQL); NULL: all. What was there was made with the token in the file.
ALTER TABLE tasks ADD COLUMN created_by TEXT NOT NULL DEFAULT 'admin-token';
ALTER TABLE tasks ADD COLUMN scope TEXT;

-- Tokens of the API. A number is never given twice: what was done with a token names it. 'hash' is the SHA-256 of the token, which
-- is 32 random bytes: there is nothing to be guessed that a slow hash would protect. 'grants' is JSON.
CREATE TABLE api_tokens (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    name TEXT NOT NULL UNIQUE,
    hash BLOB NOT NULL UNIQUE,
    grants TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER,
    last_used_at INTEGER
) STRICT;

-- Tasks that were made within some devices, for whoever is granted the same.
CREATE INDEX tasks_by_scope ON tasks (scope, id) WHERE scope IS NOT NULL;
