-- What one turn has asked for and got: the state of its circuit breaker. `turn_key` is 128 bits of a SHA-256 over tenant,
-- caller, session and turn, or over user and workspace where no turn is named. Written in the transaction that appends
-- the events it counts.
CREATE TABLE turns (
    turn_key   BLOB    NOT NULL PRIMARY KEY CHECK (length(turn_key) = 16),
    tenant_id  TEXT    NOT NULL,
    caller     TEXT    NOT NULL,
    session_id TEXT,
    turn_id    TEXT,
    opened_at  INTEGER NOT NULL,
    last_at    INTEGER NOT NULL,
    state      TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX turns_of_session ON turns (tenant_id, session_id, opened_at) WHERE session_id IS NOT NULL;

-- In which turn a review was asked for, and what the user had said by then: 128 bits of a hash over the trusted entries;
-- NULL where there were none.
ALTER TABLE reviews ADD COLUMN turn_key BLOB;
ALTER TABLE reviews ADD COLUMN words BLOB;
-- What the user had said when the last review of the session was opened.
ALTER TABLE sessions ADD COLUMN words BLOB;

-- A person's leave for an action that was denied: one run, of exactly that action, in that session, in time. Signed, so
-- that a row alone lifts nothing.
CREATE TABLE leaves (
    review_id     BLOB    NOT NULL PRIMARY KEY CHECK (length(review_id) = 16),
    tenant_id     TEXT    NOT NULL,
    caller        TEXT    NOT NULL,
    session_id    TEXT,
    action_digest TEXT    NOT NULL,
    nonce         TEXT    NOT NULL,
    given_by      TEXT    NOT NULL,
    reason        TEXT    NOT NULL,
    given_at      INTEGER NOT NULL,
    expires_at    INTEGER NOT NULL,
    signature     TEXT    NOT NULL,
    -- The review that it lifted.
    spent_by      BLOB CHECK (length(spent_by) = 16)
) STRICT, WITHOUT ROWID;

CREATE INDEX leaves_to_spend ON leaves (tenant_id, caller, action_digest) WHERE spent_by IS NULL;
