-- The policies that a tenant's reviews were judged by, as text: reviews hold the revision alone. Written when a server
-- starts with one, and by people who say who wrote it.
CREATE TABLE policies (
    tenant_id TEXT    NOT NULL,
    revision  TEXT    NOT NULL,
    text      TEXT    NOT NULL,
    author    TEXT    NOT NULL,
    since     INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, revision)
) STRICT, WITHOUT ROWID;
