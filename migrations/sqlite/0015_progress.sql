-- How far a download is, is told in bytes: where the part begins that was asked for last, or the whole size when the device
-- has reported that it holds everything. NULL while it has asked for nothing.
ALTER TABLE upgrades ADD COLUMN bytes_done INTEGER;
ALTER TABLE upgrades ADD COLUMN bytes_total INTEGER NOT NULL DEFAULT 0;
UPDATE upgrades AS u SET
    bytes_total = p.size_bytes,
    bytes_done = CASE WHEN u.progress_percent = 100 THEN p.size_bytes
        ELSE MIN(u.segment * p.segment_size, p.size_bytes) END
FROM tasks t JOIN packages p ON p.id = t.package_id
WHERE t.id = u.task_id AND u.segment IS NOT NULL;
ALTER TABLE upgrades DROP COLUMN segment;
ALTER TABLE upgrades DROP COLUMN progress_percent;
