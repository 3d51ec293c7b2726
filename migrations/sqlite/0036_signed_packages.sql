-- What is ruled of a product besides its settings. Without a row signatures are optional.
CREATE TABLE product_rules (
    product    TEXT    PRIMARY KEY,
    signatures TEXT    NOT NULL CHECK (signatures IN ('optional', 'required')),
    revision   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- Keys that vouch for a product's packages.
CREATE TABLE product_keys (
    product    TEXT    NOT NULL,
    id         TEXT    NOT NULL,
    spki       BLOB    NOT NULL,
    name       TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (product, id)
) STRICT, WITHOUT ROWID;

ALTER TABLE packages ADD COLUMN signature BLOB;
ALTER TABLE packages ADD COLUMN signature_key TEXT;
ALTER TABLE packages ADD COLUMN signature_algorithm TEXT;
ALTER TABLE packages ADD COLUMN signature_verified_at INTEGER;
-- NULL while the key that verified it is one of the product's
ALTER TABLE packages ADD COLUMN signature_key_removed_at INTEGER;

-- A bill of materials is a file beside the packages' files, named by its SHA-256 as they are.
ALTER TABLE packages ADD COLUMN sbom_sha256 TEXT;
ALTER TABLE packages ADD COLUMN sbom_size_bytes INTEGER;
ALTER TABLE packages ADD COLUMN sbom_format TEXT;
ALTER TABLE packages ADD COLUMN sbom_spec_version TEXT;
ALTER TABLE packages ADD COLUMN sbom_components INTEGER;
CREATE INDEX packages_by_sbom ON packages (sbom_sha256) WHERE sbom_sha256 IS NOT NULL;

-- a JSON list in order, for whoever reads the package; package_cves has the same, for whoever looks for a CVE
ALTER TABLE packages ADD COLUMN cves_mended TEXT NOT NULL DEFAULT '[]';
-- YYYY-MM-DD
ALTER TABLE packages ADD COLUMN support_ends TEXT;
ALTER TABLE packages ADD COLUMN release_notes TEXT;
-- counts the changes of what is said of a package, from 1
ALTER TABLE packages ADD COLUMN revision INTEGER NOT NULL DEFAULT 1;

CREATE TABLE package_cves (
    cve        TEXT    NOT NULL,
    package_id INTEGER NOT NULL REFERENCES packages (id) ON DELETE CASCADE,
    PRIMARY KEY (cve, package_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX package_cves_of_package ON package_cves (package_id);
