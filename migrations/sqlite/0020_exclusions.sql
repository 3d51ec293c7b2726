-- Devices that are not to be upgraded. The endpoint is no reference: an exclusion may come before its device, and outlives it.
CREATE TABLE exclusions (
    endpoint TEXT    NOT NULL PRIMARY KEY,
    reason   TEXT    NOT NULL,
    since    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- devices that were selected, and left out because they were excluded
ALTER TABLE tasks ADD COLUMN excluded INTEGER NOT NULL DEFAULT 0;
