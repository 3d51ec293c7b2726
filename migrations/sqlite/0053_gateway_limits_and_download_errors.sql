-- How many devices of one gateway may upgrade at once, where the operator says so of that one. A gateway whose limit was taken away, or
-- that was removed, keeps its row: the server is to hear of that.
CREATE TABLE gateway_limits (
    -- the endpoint name of the gateway
    endpoint TEXT    NOT NULL PRIMARY KEY,
    -- NULL: taken away
    most     INTEGER,
    -- counts the changes of the limits of all sites and gateways
    revision INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX gateway_limits_by_revision ON gateway_limits (revision);
-- those that were taken away: the oldest are forgotten
CREATE INDEX gateway_limits_cleared ON gateway_limits (revision) WHERE most IS NULL;

-- Errors of the download that the device has reported in the attempt that runs. Those that have ended are of no interest.
ALTER TABLE upgrades ADD COLUMN download_errors INTEGER NOT NULL DEFAULT 0;
