-- What was learnt of products ('product'), of downloads in a cell ('cell', 'cell/limit') and in all cells ('limit'): a JSON object.
-- A row that is written anew gets a new number, so that the ones that were not written for longest are found.
CREATE TABLE habits (
    id    INTEGER PRIMARY KEY AUTOINCREMENT,
    kind  TEXT NOT NULL,
    key   TEXT NOT NULL,
    value TEXT NOT NULL,
    UNIQUE (kind, key)
) STRICT;

-- How the device was kept awake for the upgrade, in all attempts, at the most.
ALTER TABLE upgrades ADD COLUMN kept_awake_s INTEGER NOT NULL DEFAULT 0;
ALTER TABLE upgrades ADD COLUMN kept_awake_pings INTEGER NOT NULL DEFAULT 0;
