-- Whose policy applies, who may do what, and until when. Tokens made before this step keep what they could do: ask for
-- reviews and see their own.

CREATE TABLE tenants (
    tenant_id  TEXT    NOT NULL PRIMARY KEY,
    title      TEXT    NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO tenants (tenant_id, title, created_at) VALUES ('default', '', 0);

-- `roles` is a list of names with a blank between them. `person` names the human behind several tokens, so that nobody
-- answers a question that they asked themselves. `replaces` is the token that this one was made to follow.
ALTER TABLE tokens ADD COLUMN roles TEXT NOT NULL DEFAULT 'runner';
ALTER TABLE tokens ADD COLUMN person TEXT;
ALTER TABLE tokens ADD COLUMN expires_at INTEGER;
ALTER TABLE tokens ADD COLUMN replaces TEXT;
