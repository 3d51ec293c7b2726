-- How many devices of a site may upgrade at once. A site whose limit was taken away keeps its row: the server is to hear of that.
CREATE TABLE sites (
    id       INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    tenant   TEXT    NOT NULL,
    -- as devices have it in their attribute 'site'
    name     TEXT    NOT NULL,
    -- NULL: taken away
    most     INTEGER,
    note     TEXT,
    -- counts the changes of all sites, from 1
    revision INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX sites_by_name ON sites (tenant, name);
CREATE UNIQUE INDEX sites_by_revision ON sites (revision);
CREATE INDEX sites_with_limit ON sites (tenant, id) WHERE most IS NOT NULL;
-- those whose limit was taken away: the oldest is forgotten first
CREATE INDEX sites_cleared ON sites (tenant, revision) WHERE most IS NULL;
