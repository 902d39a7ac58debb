-- What admins look things up by. Everything here follows from the events and is written beside the reviews' own way, by
-- the same writer between two batches: `history_state` says how far it has come. It may be emptied and is then made anew.

CREATE TABLE history_state (
    tenant_id TEXT    NOT NULL PRIMARY KEY,
    seq       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- One row a review, for pages and times of a whole tenant. `counted`: it has ended and is in `history_counts`.
CREATE TABLE history (
    review_no  INTEGER NOT NULL PRIMARY KEY,
    tenant_id  TEXT    NOT NULL,
    review_id  BLOB    NOT NULL UNIQUE CHECK (length(review_id) = 16),
    created_at INTEGER NOT NULL,
    counted    INTEGER NOT NULL
) STRICT;

CREATE INDEX history_of_tenant ON history (tenant_id, review_no);
CREATE INDEX history_by_time ON history (tenant_id, created_at);

-- `text` is what people search in. `facets` are the first bytes of hashes over a facet's name and value, in hex: a value
-- is then one word, whatever stands in it. Neither is stored, only indexed; the row's id is the review's number.
CREATE VIRTUAL TABLE history_index USING fts5 (
    text, facets, content = '', contentless_delete = 1, tokenize = 'unicode61 remove_diacritics 2'
);

-- Sums over the reviews that ended, by the hour in which they were opened (hours since the Unix epoch).
CREATE TABLE history_counts (
    tenant_id TEXT    NOT NULL,
    hour      INTEGER NOT NULL,
    what      TEXT    NOT NULL,
    value     TEXT    NOT NULL,
    count     INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, hour, what, value)
) STRICT, WITHOUT ROWID;

-- How the run of a spent approval ended is told once.
CREATE UNIQUE INDEX review_events_ran_once ON review_events (review_id) WHERE kind = 'ran';
