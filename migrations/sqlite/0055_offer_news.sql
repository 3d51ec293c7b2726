-- Applications are told of homes to which an offer has become visible, of each home once: homes are at places from 0 to 99.
CREATE TABLE offer_news (
    offer_id   INTEGER NOT NULL PRIMARY KEY REFERENCES offers (id) ON DELETE CASCADE,
    -- it was told of homes at places below
    told       INTEGER NOT NULL DEFAULT 0,
    -- it is being told of homes at places below, up to the home of that number; NULL: nothing is being told
    telling    INTEGER,
    after_home INTEGER NOT NULL DEFAULT 0,
    -- when it is looked at again; NULL: not before it is changed
    next_at    INTEGER
) STRICT;
CREATE INDEX offer_news_due ON offer_news (next_at) WHERE next_at IS NOT NULL;

-- What is visible already is no news.
INSERT INTO offer_news (offer_id, told, next_at)
    SELECT o.id,
        MAX(o.terms ->> '$.percent', COALESCE((SELECT MAX(s.value ->> '$.percent') FROM json_each(o.terms, '$.stages') s
            WHERE unixepoch(s.value ->> '$.from') <= unixepoch('now')), 0)),
        0
    FROM offers o WHERE o.withdrawn_at IS NULL;

-- Several homes are told of at the same time.
DROP INDEX events_of_task;
CREATE UNIQUE INDEX events_of_task ON events (task_id, at, kind) WHERE upgrade_id IS NULL AND endpoint IS NULL AND home IS NULL;
