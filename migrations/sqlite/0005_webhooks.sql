-- Whom a tenant wants to be told. The secret that signs what is sent is derived from the server's key and the id, and
-- stands nowhere. `events` is a list of names with a blank between them; `reached` is the last event that was looked at.
CREATE TABLE webhooks (
    webhook_id TEXT    NOT NULL PRIMARY KEY,
    tenant_id  TEXT    NOT NULL,
    url        TEXT    NOT NULL,
    events     TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    removed_at INTEGER,
    reached    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What is to be told, until it is told, or given up and forgotten. Made from the events, in one transaction with `reached`, so that nothing is told
-- that is not on record, and nothing on record is left out.
CREATE TABLE webhook_deliveries (
    delivery_id INTEGER NOT NULL PRIMARY KEY,
    webhook_id  TEXT    NOT NULL,
    tenant_id   TEXT    NOT NULL,
    review_id   BLOB    NOT NULL CHECK (length(review_id) = 16),
    seq         INTEGER NOT NULL,
    event       TEXT    NOT NULL,
    created_at  INTEGER NOT NULL,
    status      TEXT    NOT NULL DEFAULT 'pending' CHECK (status IN ('pending', 'dead')),
    attempts    INTEGER NOT NULL DEFAULT 0,
    -- When it is tried next; while it is being tried, when another server may try it.
    next_at     INTEGER NOT NULL,
    last_error  TEXT,
    UNIQUE (webhook_id, seq)
) STRICT;

CREATE INDEX webhook_deliveries_due ON webhook_deliveries (next_at) WHERE status = 'pending';
CREATE INDEX webhook_deliveries_of ON webhook_deliveries (webhook_id, status, delivery_id);
