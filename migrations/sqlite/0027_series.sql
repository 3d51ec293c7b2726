-- How things went on, for whoever draws it. Each series is bounded.

-- A task, every few minutes: upgrades in each state. Where there are more than 1,000 points, every second one goes.
CREATE TABLE task_series (
    task_id   INTEGER NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    at        INTEGER NOT NULL,
    waiting   INTEGER NOT NULL,
    running   INTEGER NOT NULL,
    succeeded INTEGER NOT NULL,
    failed    INTEGER NOT NULL,
    cancelled INTEGER NOT NULL,
    -- upgrades that would have ended by then, by the newest forecast
    expected  INTEGER,
    PRIMARY KEY (task_id, at)
) STRICT, WITHOUT ROWID;

-- A cell in which anybody upgrades or waits, every hour of the last seven days: a point takes the place of that of a week before.
CREATE TABLE cell_series (
    cell      INTEGER NOT NULL,
    hour      INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    active    INTEGER NOT NULL,
    waiting   INTEGER NOT NULL,
    -- since the cell is known
    admitted  INTEGER NOT NULL,
    succeeded INTEGER NOT NULL,
    failed    INTEGER NOT NULL,
    PRIMARY KEY (cell, hour)
) STRICT, WITHOUT ROWID;
CREATE INDEX cells_busy ON cells (cell) WHERE active > 0 OR waiting > 0;

-- A device's last 50 measurements.
CREATE TABLE device_series (
    device_id INTEGER NOT NULL REFERENCES devices (id) ON DELETE CASCADE,
    at        INTEGER NOT NULL,
    cell      INTEGER,
    rsrp_dbm  INTEGER,
    sinr_db   INTEGER,
    PRIMARY KEY (device_id, at)
) STRICT, WITHOUT ROWID;
CREATE TRIGGER devices_measured AFTER UPDATE OF coverage_at ON devices
WHEN NEW.coverage_at IS NOT NULL AND NEW.coverage_at IS NOT OLD.coverage_at BEGIN
    INSERT OR REPLACE INTO device_series (device_id, at, cell, rsrp_dbm, sinr_db)
        VALUES (NEW.id, NEW.coverage_at, NEW.coverage_cell, NEW.coverage_rsrp_dbm, NEW.coverage_sinr_db);
    DELETE FROM device_series WHERE device_id = NEW.id
        AND at <= (SELECT s.at FROM device_series s WHERE s.device_id = NEW.id ORDER BY s.at DESC LIMIT 1 OFFSET 50);
END;
