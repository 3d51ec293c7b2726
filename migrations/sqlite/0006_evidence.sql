-- What a device did with versions that it was offered, since it restarted last: a JSON array; NULL where there is nothing.
ALTER TABLE devices ADD COLUMN evidence TEXT;
