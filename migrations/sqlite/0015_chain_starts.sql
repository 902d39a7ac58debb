-- Where a tenant's chain begins since its first lines were let go: after the line `seq`, which had this hash. Signed, so
-- that who cuts the record himself cannot make it look so. What is not after it counts as gone, there or not.
CREATE TABLE chain_starts (
    tenant_id TEXT    NOT NULL PRIMARY KEY,
    seq       INTEGER NOT NULL CHECK (seq > 0),
    hash      BLOB    NOT NULL CHECK (length(hash) = 32),
    at        INTEGER NOT NULL,
    by        TEXT    NOT NULL,
    signature TEXT    NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TRIGGER chain_starts_go_forward BEFORE UPDATE ON chain_starts
WHEN NEW.seq <= OLD.seq OR NEW.tenant_id <> OLD.tenant_id
BEGIN
    SELECT RAISE(ABORT, 'a chain never begins earlier than it did');
END;

CREATE TRIGGER chain_starts_are_not_removed BEFORE DELETE ON chain_starts
BEGIN
    SELECT RAISE(ABORT, 'a chain never begins earlier than it did');
END;

-- Lines are removed where the chain begins later, and nowhere else.
DROP TRIGGER review_events_are_not_removed;
CREATE TRIGGER review_events_are_not_removed BEFORE DELETE ON review_events
WHEN NOT EXISTS (SELECT 1 FROM chain_starts s WHERE s.tenant_id = OLD.tenant_id AND s.seq >= OLD.seq)
BEGIN
    SELECT RAISE(ABORT, 'review_events is append-only');
END;
