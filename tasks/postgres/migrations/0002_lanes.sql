-- Tasks that somebody holds, and the queue as lanes: one for each user's project in a machine group.
ALTER TABLE tasks ADD COLUMN held BOOLEAN NOT NULL DEFAULT FALSE;

-- Each lane in its order; ready_at stands in it so that tasks that are not ready are skipped without reading them.
DROP INDEX tasks_queued;
CREATE INDEX tasks_lanes ON tasks (machine_group, "user", project, priority DESC, seq, ready_at)
WHERE status = 'queued' AND NOT held;
DROP INDEX tasks_ready;
CREATE INDEX tasks_ready ON tasks (ready_at) WHERE status = 'queued' AND NOT held;
