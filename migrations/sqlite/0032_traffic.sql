-- What upgrades cost on the air: of each, and summed by task and cell as it is written down.
CREATE TABLE upgrade_traffic (
    upgrade_id           INTEGER PRIMARY KEY REFERENCES upgrades (id) ON DELETE CASCADE,
    bytes_down           INTEGER NOT NULL,
    bytes_up             INTEGER NOT NULL,
    repeats_down         INTEGER NOT NULL,
    repeats_up           INTEGER NOT NULL,
    active_ms            INTEGER NOT NULL,
    airtime_estimated_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE task_traffic (
    task_id              INTEGER PRIMARY KEY REFERENCES tasks (id) ON DELETE CASCADE,
    bytes_down           INTEGER NOT NULL,
    bytes_up             INTEGER NOT NULL,
    repeats_down         INTEGER NOT NULL,
    repeats_up           INTEGER NOT NULL,
    active_ms            INTEGER NOT NULL,
    airtime_estimated_ms INTEGER NOT NULL
) STRICT;
CREATE TABLE cell_traffic (
    cell                 INTEGER PRIMARY KEY,
    bytes_down           INTEGER NOT NULL,
    bytes_up             INTEGER NOT NULL,
    repeats_down         INTEGER NOT NULL,
    repeats_up           INTEGER NOT NULL,
    active_ms            INTEGER NOT NULL,
    airtime_estimated_ms INTEGER NOT NULL
) STRICT;

-- What the upgrades of a device have cost in a month of its time zone, which is counted from the year 0: the last 13 in which there were any.
CREATE TABLE device_traffic (
    device_id            INTEGER NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    month                INTEGER NOT NULL,
    bytes                INTEGER NOT NULL,
    airtime_estimated_ms INTEGER NOT NULL,
    PRIMARY KEY (device_id, month)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER device_traffic_bounded AFTER INSERT ON device_traffic BEGIN
    DELETE FROM device_traffic WHERE device_id = NEW.device_id AND month <= NEW.month - 13;
END;

-- 1: it waits for a month in which its device may spend again.
ALTER TABLE upgrades ADD COLUMN over_budget INTEGER NOT NULL DEFAULT 0;
CREATE INDEX upgrades_over_budget ON upgrades (task_id, not_before) WHERE over_budget = 1 AND phase = 0;
