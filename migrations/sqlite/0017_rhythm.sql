-- When a device wakes up by itself, and the lifetime that it was given for an appointment, until its own is written back: a JSON
-- object each; NULL where there is nothing.
ALTER TABLE devices ADD COLUMN wake_ups TEXT;
ALTER TABLE devices ADD COLUMN appointment TEXT;
