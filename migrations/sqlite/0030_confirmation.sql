-- 1: the owner of its device has not confirmed it yet.
ALTER TABLE upgrades ADD COLUMN unconfirmed INTEGER NOT NULL DEFAULT 0;
