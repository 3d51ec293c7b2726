-- How the limit of a cell has changed because the cell was crowded, or was so no more: the last 50 changes of each cell.
CREATE TABLE limit_changes (
    cell    INTEGER NOT NULL,
    -- in the order in which they were made
    number  INTEGER NOT NULL,
    at      INTEGER NOT NULL,
    -- how many may upgrade at once, and how many that were before; NULL: coverage alone counts
    most    INTEGER,
    before  INTEGER,
    -- what a KiB takes, in percent of what it takes while few upgrade there
    percent INTEGER NOT NULL,
    PRIMARY KEY (cell, number)
) STRICT, WITHOUT ROWID;
