-- From this step on a leave that is given and one that is spent are lines of the chain, under the review that was denied
-- (`leave_given`, `leave_spent`). For leaves of before it says 0.
ALTER TABLE leaves ADD COLUMN in_chain INTEGER NOT NULL DEFAULT 0;

-- A leave is given once and spent once, whatever its row says.
CREATE UNIQUE INDEX review_events_leave_once ON review_events (review_id, kind)
WHERE kind IN ('leave_given', 'leave_spent');
