-- What a policy was made of, as JSON, so that it can be put in force again; empty for those that were kept before.
ALTER TABLE policies ADD COLUMN body TEXT NOT NULL DEFAULT '';

-- What was done with policies, by whom: which one is in force follows from these lines alone. Each is signed by the server,
-- together with the one before it. Only grows.
CREATE TABLE policy_changes (
    tenant_id   TEXT    NOT NULL,
    number      INTEGER NOT NULL CHECK (number > 0),
    at          INTEGER NOT NULL,
    author      TEXT    NOT NULL,
    reason      TEXT    NOT NULL,
    what        TEXT    NOT NULL,
    -- Which policy and the SHA-256 of its body; missing where a shadow ends.
    revision    TEXT,
    body_digest TEXT,
    -- Of a staged policy: its share of the sessions, or from when on it is the policy of all.
    percent     INTEGER,
    starts_at   INTEGER,
    signature   TEXT    NOT NULL,
    CHECK ((revision IS NULL) = (body_digest IS NULL)),
    PRIMARY KEY (tenant_id, number)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER policy_changes_are_not_changed BEFORE UPDATE ON policy_changes
BEGIN
    SELECT RAISE(ABORT, 'policy_changes is append-only');
END;

CREATE TRIGGER policy_changes_are_not_removed BEFORE DELETE ON policy_changes
BEGIN
    SELECT RAISE(ABORT, 'policy_changes is append-only');
END;

-- What shadows came to, by the hour in which they judged.
CREATE TABLE shadow_counts (
    tenant_id TEXT    NOT NULL,
    hour      INTEGER NOT NULL,
    revision  TEXT    NOT NULL,
    came      TEXT    NOT NULL,
    count     INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, hour, revision, came)
) STRICT, WITHOUT ROWID;
