-- From this step on a leave that was not spent can be taken back; who did and why is its line `leave_withdrawn`. Milliseconds
-- since the Unix epoch; NULL where nobody took it back.
ALTER TABLE leaves ADD COLUMN withdrawn_at INTEGER;

-- A leave is either spent or taken back, once, whatever its row says and whichever program writes: the chain takes one such
-- line.
CREATE UNIQUE INDEX review_events_leave_over ON review_events (review_id)
WHERE kind IN ('leave_spent', 'leave_withdrawn');
