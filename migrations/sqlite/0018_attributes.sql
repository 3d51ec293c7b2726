-- What an operator says of a device. Its tags are rows of their own, because tasks select by them.
ALTER TABLE devices ADD COLUMN model TEXT;
ALTER TABLE devices ADD COLUMN hardware TEXT;
ALTER TABLE devices ADD COLUMN site TEXT;
-- an IANA name
ALTER TABLE devices ADD COLUMN time_zone TEXT;

CREATE INDEX devices_by_model ON devices (model, endpoint) WHERE model IS NOT NULL;
CREATE INDEX devices_by_site ON devices (site, endpoint) WHERE site IS NOT NULL;

CREATE TABLE device_tags (
    device_id INTEGER NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    key       TEXT    NOT NULL,
    value     TEXT    NOT NULL,
    PRIMARY KEY (device_id, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX device_tags_by_value ON device_tags (key, value, device_id);
