-- When the last registration ended, and devices that came by themselves and are not registered (any more), for those that are
-- forgotten.
ALTER TABLE devices ADD COLUMN reg_ended_at INTEGER;
CREATE INDEX devices_by_themselves
    ON devices (MAX(COALESCE(reg_expires_at, 0), COALESCE(reg_ended_at, 0), COALESCE(last_heard_at, 0)))
    WHERE revision = 0 AND removed = 0;
