-- Every time that first lines of a chain were let go: up to which line, when, and who wanted it so, with the signature of
-- the start that it made (0015). `chain_starts` holds the newest alone.
CREATE TABLE chain_cuts (
    tenant_id TEXT    NOT NULL,
    seq       INTEGER NOT NULL CHECK (seq > 0),
    at        INTEGER NOT NULL,
    by        TEXT    NOT NULL,
    signature TEXT    NOT NULL,
    PRIMARY KEY (tenant_id, seq)
) STRICT, WITHOUT ROWID;

INSERT INTO chain_cuts SELECT tenant_id, seq, at, by, signature FROM chain_starts;

CREATE TRIGGER chain_cuts_are_not_changed BEFORE UPDATE ON chain_cuts
BEGIN
    SELECT RAISE(ABORT, 'chain_cuts is append-only');
END;

CREATE TRIGGER chain_cuts_are_not_removed BEFORE DELETE ON chain_cuts
BEGIN
    SELECT RAISE(ABORT, 'chain_cuts is append-only');
END;
