-- What decides a task's result, as a hash; NULL where no later task may have it, as for all tasks so far.
ALTER TABLE tasks ADD COLUMN fingerprint TEXT;
-- The earlier task whose result a task has; NULL where it was computed.
ALTER TABLE tasks ADD COLUMN reused_from TEXT;

-- The results that later tasks may have.
CREATE INDEX tasks_by_fingerprint ON tasks (user, fingerprint, seq)
WHERE status = 'succeeded' AND fingerprint IS NOT NULL AND reused_from IS NULL;
CREATE INDEX tasks_by_source ON tasks (reused_from, seq) WHERE reused_from IS NOT NULL;
