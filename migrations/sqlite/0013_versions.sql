-- A version is text of at most 64 characters. Before, it was the 16 bytes that PCP carries, filled up with NULs: those that
-- are not printable ASCII become \xNN, and a backslash beside one too.

CREATE TABLE version_texts (
    bytes BLOB PRIMARY KEY,
    text  TEXT NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO version_texts (bytes, text)
WITH RECURSIVE
    known (bytes) AS (
        SELECT version FROM packages
        UNION SELECT version FROM package_identities
        UNION SELECT version FROM events
        UNION SELECT version FROM devices WHERE version IS NOT NULL
        UNION SELECT unhex(e.value ->> '$.version') FROM devices, json_each(evidence) e WHERE evidence IS NOT NULL
    ),
    place (at) AS (SELECT 1 UNION ALL SELECT at + 1 FROM place WHERE at < 16),
    byte (bytes, at, digits) AS (
        SELECT bytes, at, hex(substr(bytes, at, 1)) FROM known, place
        WHERE at <= length(bytes) AND (instr(bytes, x'00') = 0 OR at < instr(bytes, x'00'))
    ),
    plain (bytes, is_plain) AS (SELECT bytes, MIN(digits BETWEEN '20' AND '7E') FROM byte GROUP BY bytes)
SELECT known.bytes, COALESCE((
    SELECT group_concat(
        CASE WHEN is_plain OR digits BETWEEN '20' AND '7E' AND digits <> '5C'
            THEN CAST(unhex(digits) AS TEXT) ELSE '\x' || digits END, '' ORDER BY at)
    FROM byte JOIN plain ON plain.bytes = byte.bytes WHERE byte.bytes = known.bytes), '')
FROM known;

DROP INDEX packages_current;
DROP INDEX packages_by_version;
ALTER TABLE packages ADD COLUMN version_text TEXT NOT NULL DEFAULT '';
UPDATE packages SET version_text = (SELECT text FROM version_texts WHERE bytes = version);
ALTER TABLE packages DROP COLUMN version;
ALTER TABLE packages RENAME COLUMN version_text TO version;
CREATE UNIQUE INDEX packages_current ON packages (product, version)
    WHERE superseded_at IS NULL AND deleted_at IS NULL;
CREATE INDEX packages_by_version ON packages (product, version);

CREATE TABLE package_identities_next (
    product      TEXT    NOT NULL,
    version      TEXT    NOT NULL,
    check_code   INTEGER NOT NULL,
    sha256       TEXT    NOT NULL,
    segment_size INTEGER NOT NULL,
    -- 1: the last segment is shorter than the others, and filled up
    pad_last     INTEGER NOT NULL,
    PRIMARY KEY (product, version, check_code)
) STRICT, WITHOUT ROWID;
INSERT INTO package_identities_next
    SELECT product, text, check_code, sha256, segment_size, pad_last
    FROM package_identities JOIN version_texts ON bytes = version;
DROP TABLE package_identities;
ALTER TABLE package_identities_next RENAME TO package_identities;

ALTER TABLE events ADD COLUMN version_text TEXT NOT NULL DEFAULT '';
UPDATE events SET version_text = (SELECT text FROM version_texts WHERE bytes = version);
ALTER TABLE events DROP COLUMN version;
ALTER TABLE events RENAME COLUMN version_text TO version;

ALTER TABLE devices ADD COLUMN version_text TEXT;
UPDATE devices SET version_text = (SELECT text FROM version_texts WHERE bytes = version) WHERE version IS NOT NULL;
ALTER TABLE devices DROP COLUMN version;
ALTER TABLE devices RENAME COLUMN version_text TO version;
UPDATE devices SET evidence = (
    SELECT json_group_array(json_set(e.value, '$.version',
        (SELECT text FROM version_texts WHERE bytes = unhex(e.value ->> '$.version'))) ORDER BY e.key)
    FROM json_each(evidence) e)
WHERE evidence IS NOT NULL;

DROP TABLE version_texts;
