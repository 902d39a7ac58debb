-- From this step on what the door decided while a command ran may be a line of the chain (`network`), under an id that is
-- made of tenant, caller and run, and is no review's. Told once.
CREATE UNIQUE INDEX review_events_network_once ON review_events (review_id) WHERE kind = 'network';
-- What is listed: newest first, and nothing else of the chain is read for it.
CREATE INDEX review_events_network ON review_events (tenant_id, seq) WHERE kind = 'network';
