-- Between which numbers the reviews of a time lie is found by two looks at `history_by_time`, however long the history
-- is, because it is known how far times and numbers were ever out of step: `latest` is the latest time so far, `disorder`
-- the most that a review was older than one before it (milliseconds).
ALTER TABLE history_state ADD COLUMN latest INTEGER NOT NULL DEFAULT 0;
ALTER TABLE history_state ADD COLUMN disorder INTEGER NOT NULL DEFAULT 0;

UPDATE history_state SET
    latest = ifnull((SELECT max(created_at) FROM history h WHERE h.tenant_id = history_state.tenant_id), 0),
    disorder = ifnull((
        SELECT max(before - created_at) FROM (
            SELECT tenant_id, created_at, max(created_at) OVER (PARTITION BY tenant_id ORDER BY review_no) AS before
            FROM history
        ) seen WHERE seen.tenant_id = history_state.tenant_id
    ), 0);
