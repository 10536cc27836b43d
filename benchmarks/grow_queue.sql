-- Copies the first :count tasks of a store behind its last one, each with an id, a key and an event of its own.
INSERT INTO tasks (
    seq, id, status, priority, ready_at, lease_until, holder, retries, failures, losses,
    user, simulator, project, name, machine_group, key, digest, inputs, body
)
WITH fresh AS MATERIALIZED (
    SELECT seq, 't' || lower(hex(randomblob(6))) AS id FROM tasks WHERE seq <= :count
)
SELECT :last + tasks.seq, fresh.id, status, priority, ready_at, lease_until, holder, retries, failures, losses,
       user, simulator, project, name, machine_group, fresh.id, digest, inputs, json_set(body, '$.id', fresh.id)
FROM fresh JOIN tasks ON tasks.seq = fresh.seq;

INSERT INTO events (task, at, kind, status)
SELECT seq, ready_at, 'submitted', 'queued' FROM tasks WHERE seq > :last;
