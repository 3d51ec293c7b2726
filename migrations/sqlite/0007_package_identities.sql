-- What a device may hold parts of: the content and the cut that were offered under a product, a version and a check
-- code. Kept for ever: a device resumes a download by version and check code alone, also when the package is gone.
CREATE TABLE package_identities (
    product      TEXT    NOT NULL,
    version      BLOB    NOT NULL,
    check_code   INTEGER NOT NULL,
    sha256       TEXT    NOT NULL,
    segment_size INTEGER NOT NULL,
    -- 1: the last segment is shorter than the others, and filled up
    pad_last     INTEGER NOT NULL,
    PRIMARY KEY (product, version, check_code)
) STRICT, WITHOUT ROWID;

-- All packages that are there, superseded and deleted ones too. Where several disagree, the newest wins: it was offered
-- last.
INSERT INTO package_identities (product, version, check_code, sha256, segment_size, pad_last)
    SELECT product, version, check_code, sha256, segment_size, pad_last = 1 AND size_bytes % segment_size <> 0
    FROM packages p
    WHERE NOT EXISTS (SELECT 1 FROM packages newer WHERE newer.product = p.product AND newer.version = p.version
        AND newer.check_code = p.check_code AND newer.id > p.id);
