-- Every statement of the store. A line `--- name: sentence` begins each one.

--- next_seq: The number that the next task will get.
SELECT ifnull((SELECT seq FROM sqlite_sequence WHERE name = 'tasks'), 0) + 1

--- has_inputs: Whether a list of input files is kept.
SELECT 1 FROM input_lists WHERE sha256 = :sha256

--- add_inputs: Keep a list of input files, once.
INSERT INTO input_lists (sha256, files) VALUES (:sha256, :files) ON CONFLICT DO NOTHING

--- read_inputs: The list of input files of a task.
SELECT input_lists.files FROM tasks JOIN input_lists ON input_lists.sha256 = tasks.inputs WHERE tasks.id = :id

--- add_task: Keep a new task.
INSERT INTO tasks (
    seq, id, status, priority, ready_at, lease_until, holder, retries, failures, losses,
    user, simulator, project, name, machine_group, key, digest, inputs, queue_until, body
) VALUES (
    :seq, :id, :status, :priority, :ready_at, :lease_until, :holder, :retries, :failures, :losses,
    :user, :simulator, :project, :name, :machine_group, :key, :digest, :inputs, :queue_until, :body
)

--- save_task: Keep what a stimulus made of a task.
UPDATE tasks
SET status = :status, ready_at = :ready_at, queue_until = :queue_until, lease_until = :lease_until, holder = :holder,
    failures = :failures, losses = :losses, body = :body
WHERE seq = :seq

--- save_lease: Keep a renewed lease.
UPDATE tasks SET lease_until = :lease_until WHERE seq = :seq

--- find_by_key: The task that a user made with an idempotency key.
SELECT seq, body, user, retries, failures, losses, ready_at, lease_until, holder, key, digest
FROM tasks WHERE user = :user AND key = :key

--- find_by_id: The task with an id.
SELECT seq, body, user, retries, failures, losses, ready_at, lease_until, holder, key, digest
FROM tasks WHERE id = :id

--- list: A page of tasks, newest first; `/* filters */` is replaced by some of the conditions below.
SELECT seq, body, user, retries, failures, losses, ready_at, lease_until, holder
FROM tasks WHERE TRUE /* filters */
ORDER BY seq DESC LIMIT :limit

--- list.status: Condition of a page.
AND status = :status
--- list.simulator: Condition of a page.
AND simulator = :simulator
--- list.project: Condition of a page.
AND project = :project
--- list.name: Condition of a page.
AND name = :name
--- list.group: Condition of a page.
AND machine_group = :group
--- list.user: Condition of a page.
AND user = :user
--- list.before: Condition of a page.
AND seq < :before

--- queue: The queued tasks that are ready, in their order.
SELECT seq, body, user, retries, failures, losses, ready_at, lease_until, holder
FROM tasks INDEXED BY tasks_queued WHERE status = 'queued' AND ready_at <= :now
ORDER BY priority DESC, seq LIMIT :limit

--- place: What orders a queued task; nothing for one that is not queued.
SELECT seq, priority, status FROM tasks WHERE id = :id

--- position: How many queued tasks come before one.
SELECT (SELECT count(*) FROM tasks INDEXED BY tasks_queued WHERE status = 'queued' AND priority > :priority)
     + (SELECT count(*) FROM tasks INDEXED BY tasks_queued WHERE status = 'queued' AND priority = :priority AND seq < :seq)

--- next_ready: When the next queued task becomes ready that is not ready now.
SELECT min(ready_at) FROM tasks INDEXED BY tasks_ready WHERE status = 'queued' AND ready_at > :now

--- overdue: The queued tasks that have waited longer than their queue limit, the longest overdue first.
SELECT seq, body, user, retries, failures, losses, ready_at, lease_until, holder
FROM tasks INDEXED BY tasks_overdue WHERE status = 'queued' AND queue_until <= :now
ORDER BY queue_until, seq LIMIT :limit

--- active: The tasks whose attempt holds a machine, oldest first.
SELECT seq, body, user, retries, failures, losses, ready_at, lease_until, holder
FROM tasks WHERE status IN ('preparing', 'running', 'finalizing')
ORDER BY seq

--- counts: How many tasks stand in each status.
SELECT status, count(*) FROM tasks GROUP BY status

--- add_event: Keep something that happened.
INSERT INTO events (task, at, kind, status, attempt, reason, message)
VALUES (:task, :at, :kind, :status, :attempt, :reason, :message)

--- count_refused: How many refused reports a task has kept.
SELECT count(*) FROM events WHERE task = :task AND kind = 'report-refused'

--- trim_events: Forget the oldest events of a task beyond its bound.
DELETE FROM events WHERE task = :task AND seq <= (
    SELECT seq FROM events WHERE task = :task ORDER BY seq DESC LIMIT 1 OFFSET :keep
)

--- read_events: What happened to all tasks after an event.
SELECT events.seq, tasks.id, events.at, events.kind, events.status, events.attempt, events.reason, events.message
FROM events JOIN tasks ON tasks.seq = events.task
WHERE events.seq > :after ORDER BY events.seq LIMIT :limit

--- latest_event: The number of the newest event.
SELECT coalesce(max(seq), 0) FROM events

--- read_task_events: What happened to one task after an event.
SELECT events.seq, tasks.id, events.at, events.kind, events.status, events.attempt, events.reason, events.message
FROM tasks JOIN events ON tasks.seq = events.task
WHERE tasks.id = :id AND events.seq > :after ORDER BY events.seq LIMIT :limit

--- add_key: Keep an API key.
INSERT INTO keys (id, hash, user, created_at, expires_at) VALUES (:id, :hash, :user, :created_at, :expires_at)

--- find_key: The key with a hash.
SELECT id, hash, user, created_at, expires_at FROM keys WHERE hash = :hash

--- list_keys: All keys, oldest first.
SELECT id, hash, user, created_at, expires_at FROM keys ORDER BY created_at, id

--- revoke_key: Forget a key.
DELETE FROM keys WHERE id = :id
