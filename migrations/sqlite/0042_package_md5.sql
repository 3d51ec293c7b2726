-- MD5 of a package's content, 32 lower-case hexadecimal digits, for devices that compare nothing else. Packages from before get
-- theirs when the server has started.
--
-- A package that is not served over PCP has segment_size 0, and no row in package_identities.
ALTER TABLE packages ADD COLUMN md5 TEXT;

CREATE INDEX packages_without_md5 ON packages (id) WHERE md5 IS NULL AND deleted_at IS NULL;
