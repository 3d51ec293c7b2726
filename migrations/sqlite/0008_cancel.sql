-- When the operator cancelled the upgrade while it ran. One that waits ends at once.
ALTER TABLE upgrades ADD COLUMN cancel_requested_at INTEGER;
CREATE INDEX upgrades_to_cancel ON upgrades (id) WHERE phase = 1 AND cancel_requested_at IS NOT NULL;
