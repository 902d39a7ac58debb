-- The record of reviews. Times are milliseconds since the Unix epoch; ids, digests and hashes are blobs.
-- Tables whose rows come in order and are large keep their rowid: SQLite then appends to the last page, where it would
-- otherwise rebalance three pages every few rows.

-- What happened, in order, for ever. `hash` covers every other column and the hash before it, so that a changed,
-- removed or reordered line shows. The status of a review is a fold over its lines.
CREATE TABLE review_events (
    tenant_id TEXT    NOT NULL,
    seq       INTEGER NOT NULL CHECK (seq > 0),
    review_id BLOB    NOT NULL CHECK (length(review_id) = 16),
    kind      TEXT    NOT NULL,
    at        INTEGER NOT NULL,
    body      TEXT    NOT NULL,
    hash      BLOB    NOT NULL CHECK (length(hash) = 32),
    PRIMARY KEY (tenant_id, seq)
) STRICT;

-- A review is opened once, ends once, and its approval is spent once, whatever the program believes. (Kinds that may
-- happen more often have no number here, and missing numbers are never equal.)
CREATE UNIQUE INDEX review_events_once ON review_events (
    review_id,
    CASE kind
        WHEN 'opened' THEN 1
        WHEN 'approved' THEN 2
        WHEN 'denied' THEN 2
        WHEN 'timed_out' THEN 2
        WHEN 'aborted' THEN 2
        WHEN 'failed' THEN 2
        WHEN 'redeemed' THEN 3
    END
);

CREATE TRIGGER review_events_are_not_changed BEFORE UPDATE ON review_events
BEGIN
    SELECT RAISE(ABORT, 'review_events is append-only');
END;

CREATE TRIGGER review_events_are_not_removed BEFORE DELETE ON review_events
BEGIN
    SELECT RAISE(ABORT, 'review_events is append-only');
END;

-- Where each review stands: a cache of its events, written in the transaction that appends them. `review_no` counts them
-- in the order in which they were opened: it is what ties a review to its payloads without an index of their own. The
-- unique key is also the history of a caller: ids sort by time.
CREATE TABLE reviews (
    review_no       INTEGER NOT NULL PRIMARY KEY,
    tenant_id       TEXT    NOT NULL,
    caller          TEXT    NOT NULL,
    review_id       BLOB    NOT NULL CHECK (length(review_id) = 16),
    nonce           TEXT    NOT NULL,
    nonce_key       BLOB    NOT NULL CHECK (length(nonce_key) = 16),
    request_digest  BLOB    NOT NULL CHECK (length(request_digest) = 32),
    session_id      TEXT,
    action_digest   TEXT    NOT NULL,
    policy_revision TEXT    NOT NULL,
    owner           TEXT    NOT NULL,
    status          TEXT    NOT NULL CHECK (status IN ('reviewing', 'approved', 'denied', 'timed_out', 'aborted', 'failed')),
    created_at      INTEGER NOT NULL,
    deadline_at     INTEGER NOT NULL,
    ended_seq       INTEGER,
    completed_at    INTEGER,
    expires_at      INTEGER,
    redeemed_at     INTEGER,
    CHECK ((status = 'reviewing') = (ended_seq IS NULL)),
    CHECK ((ended_seq IS NULL) = (completed_at IS NULL)),
    CHECK ((ended_seq IS NULL) = (expires_at IS NULL)),
    CHECK (redeemed_at IS NULL OR status = 'approved'),
    UNIQUE (tenant_id, caller, review_id)
) STRICT;

-- One question, one review: what makes a repeated submission harmless. `nonce_key` is 128 bits of a SHA-256 over tenant,
-- caller and nonce: nonces are random, so every one lands on another page, and short keys make few pages.
CREATE UNIQUE INDEX reviews_by_nonce ON reviews (nonce_key);
-- The history of a caller by status. Written when a review ends, so that opening one costs nothing here.
CREATE INDEX reviews_by_status ON reviews (tenant_id, caller, status, review_id) WHERE ended_seq IS NOT NULL;
-- What is open, and what a process left open when it went away.
CREATE INDEX reviews_open ON reviews (owner) WHERE status = 'reviewing';

-- What was asked. Apart from the events, which hold its digests, so that it can be erased without breaking the chain.
CREATE TABLE review_requests (
    review_no INTEGER NOT NULL PRIMARY KEY,
    question  TEXT    NOT NULL,
    context   TEXT    NOT NULL
) STRICT;

-- What the reviewer was shown and what it tried. Erasable in the same way.
CREATE TABLE review_exhibits (
    review_no INTEGER NOT NULL PRIMARY KEY,
    exhibit   TEXT    NOT NULL
) STRICT;

-- A session belongs to the caller that opened it.
CREATE TABLE sessions (
    tenant_id  TEXT    NOT NULL,
    session_id TEXT    NOT NULL,
    caller     TEXT    NOT NULL,
    opened_at  INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, session_id)
) STRICT, WITHOUT ROWID;

-- Who may call over TCP. The token itself is shown once and stored nowhere.
CREATE TABLE tokens (
    token_id   TEXT    NOT NULL PRIMARY KEY,
    tenant_id  TEXT    NOT NULL,
    name       TEXT    NOT NULL,
    hash       BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32),
    created_at INTEGER NOT NULL,
    revoked_at INTEGER
) STRICT, WITHOUT ROWID;

-- One row that readiness writes to: whether the store can be written is found out by writing to it.
CREATE TABLE probe (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    at INTEGER NOT NULL
) STRICT;

INSERT INTO probe (id, at) VALUES (1, 0);

-- `ARVW`: whose file it is.
PRAGMA application_id = 1095915095;
