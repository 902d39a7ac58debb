-- Where a tenant's chain stood, signed: who rewrites or cuts the record cannot make these fit without the key, and a copy
-- that is kept elsewhere shows it even where the key was at hand.
CREATE TABLE signed_heads (
    tenant_id TEXT    NOT NULL,
    seq       INTEGER NOT NULL CHECK (seq > 0),
    hash      BLOB    NOT NULL CHECK (length(hash) = 32),
    at        INTEGER NOT NULL,
    signature TEXT    NOT NULL,
    PRIMARY KEY (tenant_id, seq)
) STRICT, WITHOUT ROWID;

CREATE TRIGGER signed_heads_are_not_changed BEFORE UPDATE ON signed_heads
BEGIN
    SELECT RAISE(ABORT, 'signed_heads is append-only');
END;

CREATE TRIGGER signed_heads_are_not_removed BEFORE DELETE ON signed_heads
BEGIN
    SELECT RAISE(ABORT, 'signed_heads is append-only');
END;

-- Whose payloads were erased, up to which time, by whom, and how many there were. The chain holds their digests.
CREATE TABLE erasures (
    tenant_id TEXT    NOT NULL,
    before    INTEGER NOT NULL,
    at        INTEGER NOT NULL,
    by        TEXT    NOT NULL,
    payloads  INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, at, before)
) STRICT, WITHOUT ROWID;

-- Payloads of reviews that were opened before this time are gone already (milliseconds).
ALTER TABLE history_state ADD COLUMN erased_before INTEGER NOT NULL DEFAULT 0;
