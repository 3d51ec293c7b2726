-- What a device's page shows: its upgrades, the newest first, and how its coverage came to be known. An upgrade keeps its
-- device, so that its stages leave the index alone.
CREATE INDEX upgrades_of_device ON upgrades (endpoint, id);
-- NULL: reported before this was noted
ALTER TABLE devices ADD COLUMN coverage_source TEXT;
