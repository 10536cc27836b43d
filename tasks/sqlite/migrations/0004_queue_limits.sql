-- When a queued task has waited as long as its queue limit says; NULL without a limit, as for all tasks so far.
ALTER TABLE tasks ADD COLUMN queue_until INTEGER;

-- Only tasks with a queue limit stand in it, so a long queue without limits costs nothing.
CREATE INDEX tasks_overdue ON tasks (queue_until, seq) WHERE status = 'queued' AND queue_until IS NOT NULL;
