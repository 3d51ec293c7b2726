-- The component of a device, or the software in it, that a package is for; NULL: the device as a whole. Such a package is not served over
-- PCP, and those of two components may have the same version.
ALTER TABLE packages ADD COLUMN component TEXT;

DROP INDEX packages_current;
CREATE UNIQUE INDEX packages_current ON packages (product, version, COALESCE(component, ''))
    WHERE superseded_at IS NULL AND deleted_at IS NULL;
