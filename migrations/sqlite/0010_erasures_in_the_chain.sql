-- From this step on each erased review gets a line of its own in the chain, `erased`: who wanted it so, and up to which
-- time. Erasures of before are known by this table alone; for those it says 0.
ALTER TABLE erasures ADD COLUMN in_chain INTEGER NOT NULL DEFAULT 0;
