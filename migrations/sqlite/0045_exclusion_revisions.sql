-- Another number after each change of an exclusion, from the counter of the devices' revisions: one that ended and was made anew has another.
-- 0: from before.
ALTER TABLE exclusions ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;
