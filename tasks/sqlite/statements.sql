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
    seq, id, status, priority, ready_at, lease_until, holder, retries, failures, losses, ended_at,
    user, simulator, project, name, machine_group, key, digest, inputs, sweep, queue_until,
    fingerprint, output_bytes, body
) VALUES (
    :seq, :id, :status, :priority, :ready_at, :lease_until, :holder, :retries, :failures, :losses, :ended_at,
    :user, :simulator, :project, :name, :machine_group, :key, :digest, :inputs, :sweep, :queue_until,
    :fingerprint, :output_bytes, :body
)

--- save_task: Keep what a stimulus made of a task.
UPDATE tasks
SET status = :status, ready_at = :ready_at, queue_until = :queue_until, lease_until = :lease_until, holder = :holder,
    failures = :failures, losses = :losses, held = :held, ended_at = :ended_at,
    reused_from = :reused_from, output_bytes = :output_bytes, cost = :cost, cost_month = :cost_month,
    body = :body
WHERE seq = :seq

--- save_lease: Keep a renewed lease.
UPDATE tasks SET lease_until = :lease_until WHERE seq = :seq

--- find_by_keys: The tasks that users made with idempotency keys, given as JSON: a list of pairs of user and key.
SELECT seq, body, user, retries, failures, losses, ready_at, lease_until, holder, tasks.key, digest
FROM json_each(:keys) AS wanted CROSS JOIN tasks
ON tasks.user = json_extract(wanted.value, '$[0]') AND tasks.key = json_extract(wanted.value, '$[1]')

--- find_by_ids: The tasks with ids, given as a list in JSON.
SELECT seq, body, user, retries, failures, losses, ready_at, lease_until, holder, tasks.key, digest
FROM json_each(:ids) AS wanted CROSS JOIN tasks ON tasks.id = wanted.value

--- find_by_id: The task with an id.
SELECT seq, body, user, retries, failures, losses, ready_at, lease_until, holder, key, digest
FROM tasks WHERE id = :id

--- add_edge: Keep that one task waits for another.
INSERT INTO dependencies (child, parent, needs_success, tie) VALUES (:child, :parent, :needs_success, :tie)

--- mark_unsettled: Keep that a task has ended and that some who wait for it have not been told.
INSERT INTO unsettled (task) SELECT :task
WHERE EXISTS (SELECT 1 FROM dependencies INDEXED BY dependencies_open WHERE parent = :task AND tie = 'open')

--- has_unsettled: Whether anybody is to be told that a task has ended.
SELECT EXISTS (SELECT 1 FROM unsettled)

--- unsettled: Who is to be told that a task has ended.
SELECT open.child, open.parent, open.needs_success, tasks.id, tasks.status
FROM unsettled CROSS JOIN dependencies AS open INDEXED BY dependencies_open ON open.parent = unsettled.task
CROSS JOIN tasks ON tasks.seq = unsettled.task
WHERE open.tie = 'open' LIMIT :limit

--- forget_settled: Forget the ended tasks of which everybody has been told.
DELETE FROM unsettled WHERE NOT EXISTS (
    SELECT 1 FROM dependencies INDEXED BY dependencies_open WHERE parent = unsettled.task AND tie = 'open'
)

--- save_tie: Keep how a task stands to one that it waits for.
UPDATE dependencies SET tie = :tie WHERE child = :child AND parent = :parent

--- release: Let a task wait no more for those that have failed.
UPDATE dependencies SET tie = 'met' WHERE child = :child AND tie = 'failed'

--- is_free: Whether a task waits for no other one.
SELECT NOT EXISTS (SELECT 1 FROM dependencies INDEXED BY dependencies_unmet WHERE child = :child AND tie <> 'met')

--- find_by_seq: The task with a number.
SELECT seq, body, user, retries, failures, losses, ready_at, lease_until, holder FROM tasks WHERE seq = :seq

--- list: A page of tasks, newest first; `/* filters */` is replaced by some of the conditions below, and the index named.
SELECT seq, body, user, retries, failures, losses, ready_at, lease_until, holder
FROM tasks /* index */ WHERE TRUE /* filters */
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
--- list.sweep: Condition of a page.
AND sweep = :sweep
--- list.reused_from: Condition of a page.
AND reused_from = :reused_from
--- list.before: Condition of a page.
AND seq < :before

--- next_lanes: Lanes after another one in which tasks are queued, the next one among them; a row value would be a scan.
SELECT * FROM (
    SELECT machine_group, user, project FROM tasks INDEXED BY tasks_lanes
    WHERE status = 'queued' AND held = 0 AND machine_group = :group AND user = :user AND project > :project
    ORDER BY project LIMIT 1
)
UNION ALL SELECT * FROM (
    SELECT machine_group, user, project FROM tasks INDEXED BY tasks_lanes
    WHERE status = 'queued' AND held = 0 AND machine_group = :group AND user > :user
    ORDER BY user, project LIMIT 1
)
UNION ALL SELECT * FROM (
    SELECT machine_group, user, project FROM tasks INDEXED BY tasks_lanes
    WHERE status = 'queued' AND held = 0 AND machine_group > :group
    ORDER BY machine_group, user, project LIMIT 1
)

--- queue: The queued tasks of a lane that are ready, in their order.
SELECT seq, body, user, retries, failures, losses, ready_at, lease_until, holder
FROM tasks INDEXED BY tasks_lanes
WHERE status = 'queued' AND held = 0 AND machine_group = :group AND user = :user AND project = :project AND ready_at <= :now
ORDER BY priority DESC, seq LIMIT :limit

--- place: Where a task stands, and what orders it in the queue.
SELECT machine_group, user, project, seq, priority, status, held FROM tasks WHERE id = :id

--- waiting: By lane of a group, how many queued tasks come before a task by priority, and how many are level with it.
SELECT user, project, sum(priority > :priority),
       sum(priority = :priority AND (seq < :seq OR user <> :user OR project <> :project))
FROM tasks INDEXED BY tasks_lanes
WHERE status = 'queued' AND held = 0 AND machine_group = :group
GROUP BY user, project

--- queued: How many queued tasks each machine group has that are not held.
SELECT machine_group, count(*) FROM tasks INDEXED BY tasks_lanes
WHERE status = 'queued' AND held = 0 GROUP BY machine_group

--- next_ready: When the next queued task becomes ready that is not ready now.
SELECT min(ready_at) FROM tasks INDEXED BY tasks_ready WHERE status = 'queued' AND held = 0 AND ready_at > :now

--- overdue: The queued tasks that have waited longer than their queue limit, the longest overdue first.
SELECT seq, body, user, retries, failures, losses, ready_at, lease_until, holder
FROM tasks INDEXED BY tasks_overdue WHERE status = 'queued' AND queue_until <= :now
ORDER BY queue_until, seq LIMIT :limit

--- active: The tasks whose attempt holds a machine, in any order.
SELECT seq, body, user, retries, failures, losses, ready_at, lease_until, holder
FROM tasks WHERE status IN ('preparing', 'running', 'finalizing')

--- ended: The tasks that ended before a moment, oldest end first.
SELECT seq, body, user, retries, failures, losses, ready_at, lease_until, holder
FROM tasks WHERE ended_at < :before
  AND (ended_at, seq) > (:at, :seq)
  AND (:project IS NULL OR project = :project)
  AND NOT EXISTS (
    SELECT 1 FROM dependencies JOIN tasks AS child ON child.seq = dependencies.child
    WHERE dependencies.parent = tasks.seq AND child.ended_at IS NULL
)
ORDER BY ended_at, seq LIMIT :limit

--- ended_with_outputs: The tasks that ended before a moment and whose outputs may be there, oldest end first.
SELECT seq, body, user, retries, failures, losses, ready_at, lease_until, holder
FROM tasks WHERE ended_at < :before
  AND (ended_at, seq) > (:at, :seq)
  AND output_bytes IS NOT 0
  AND (:project IS NULL OR project = :project)
  AND NOT EXISTS (
    SELECT 1 FROM dependencies JOIN tasks AS child ON child.seq = dependencies.child
    WHERE dependencies.parent = tasks.seq AND child.ended_at IS NULL
)
ORDER BY ended_at, seq LIMIT :limit

--- runs: The newest successes of a simulator among the last tasks that ended.
SELECT seq, body, user, retries, failures, losses, ready_at, lease_until, holder
FROM (SELECT * FROM tasks INDEXED BY tasks_ended WHERE ended_at IS NOT NULL ORDER BY ended_at DESC, seq DESC LIMIT 500)
WHERE simulator = :simulator AND status = 'succeeded' AND reused_from IS NULL
ORDER BY ended_at DESC, seq DESC LIMIT :limit

--- earlier_results: For tasks with ids, given as a list in JSON, the newest computed task with their result.
SELECT earlier.seq, earlier.body, earlier.user, earlier.retries, earlier.failures, earlier.losses, earlier.ready_at,
       earlier.lease_until, earlier.holder, mine.id
FROM json_each(:ids) AS wanted CROSS JOIN tasks AS mine ON mine.id = wanted.value
CROSS JOIN tasks AS earlier ON earlier.seq = (
    SELECT max(seq) FROM tasks INDEXED BY tasks_by_fingerprint
    WHERE user = mine.user AND fingerprint = mine.fingerprint AND status = 'succeeded' AND reused_from IS NULL
)

--- is_reusable: Whether later tasks may have the result of a task.
SELECT 1 FROM tasks WHERE id = :id AND fingerprint IS NOT NULL

--- withdraw: Let no later task have the result of an ended task, where none has it or needs it.
UPDATE tasks SET fingerprint = NULL
WHERE id = :id AND ended_at IS NOT NULL AND NOT EXISTS (SELECT 1 FROM tasks AS later WHERE later.reused_from = :id)
  AND NOT EXISTS (
    SELECT 1 FROM dependencies JOIN tasks AS child ON child.seq = dependencies.child
    WHERE dependencies.parent = tasks.seq AND child.ended_at IS NULL
  )

--- forget: Forget an ended task with its events, where no other one has its result or needs it.
DELETE FROM tasks
WHERE id = :id AND ended_at IS NOT NULL AND NOT EXISTS (SELECT 1 FROM tasks AS later WHERE later.reused_from = :id)
  AND NOT EXISTS (
    SELECT 1 FROM dependencies JOIN tasks AS child ON child.seq = dependencies.child
    WHERE dependencies.parent = tasks.seq AND child.ended_at IS NULL
  )

--- drop_unused_inputs: Forget the lists of input files that no task names.
DELETE FROM input_lists WHERE sha256 NOT IN (SELECT inputs FROM tasks)

--- check.status: Tasks whose column and body differ.
SELECT id FROM tasks WHERE status IS NOT json_extract(body, '$.status')

--- check.held: Active tasks without a holder, and others with one.
SELECT id FROM tasks WHERE (status IN ('preparing', 'running', 'finalizing')) IS NOT (holder IS NOT NULL)

--- check.waiting: Tasks that wait for nothing.
SELECT id FROM tasks WHERE status = 'waiting' AND NOT EXISTS (
    SELECT 1 FROM dependencies WHERE child = tasks.seq AND tie <> 'met'
)

--- check.story: Tasks whose last event tells another status.
SELECT id FROM tasks WHERE status IS NOT (SELECT status FROM events WHERE task = tasks.seq ORDER BY seq DESC LIMIT 1)

--- counts: How many tasks stand in each status.
SELECT status, count(*) FROM tasks GROUP BY status

--- counts_of_sweep: How many tasks of a sweep stand in each status.
SELECT status, count(*) FROM tasks WHERE sweep = :sweep GROUP BY status

--- add_sweep: Keep a new sweep.
INSERT INTO sweeps (id, user, key, digest, name, project, simulator, version, columns, cases, created_at)
VALUES (:id, :user, :key, :digest, :name, :project, :simulator, :version, :columns, :cases, :created_at)

--- known_sweep: The sweep that a user made with an idempotency key, or else the one with an id.
SELECT seq, id, user, key, digest, name, project, simulator, version, columns, cases, created_at, cost
FROM sweeps WHERE (user = :user AND key = :key) OR id = :id
ORDER BY user = :user AND key = :key DESC LIMIT 1

--- find_sweep: The sweep with an id.
SELECT seq, id, user, key, digest, name, project, simulator, version, columns, cases, created_at, cost
FROM sweeps WHERE id = :id

--- list_sweeps: A page of sweeps, newest first.
SELECT seq, id, user, key, digest, name, project, simulator, version, columns, cases, created_at, cost
FROM sweeps
WHERE (:user IS NULL OR user = :user) AND (:key IS NULL OR key = :key) AND (:before IS NULL OR seq < :before)
ORDER BY seq DESC LIMIT :limit

--- add_event: Keep something that happened.
INSERT INTO events (task, at, kind, status, attempt, reason, message, sweep)
VALUES (:task, :at, :kind, :status, :attempt, :reason, :message, :sweep)

--- add_submitted: Keep that tasks were submitted, from one number on.
INSERT INTO events (task, at, kind, status, sweep)
SELECT seq, :at, 'submitted', status, sweep FROM tasks WHERE seq >= :first

--- count_refused: How many refused reports a task has kept.
SELECT count(*) FROM events WHERE task = :task AND kind = 'report-refused'

--- trim_events: Forget the oldest events of a task beyond its bound.
DELETE FROM events WHERE task = :task AND seq <= (
    SELECT seq FROM events WHERE task = :task ORDER BY seq DESC LIMIT 1 OFFSET :keep
)

--- read_events: What happened to all tasks after an event.
SELECT events.seq, tasks.id, events.at, events.kind, events.status, events.attempt, events.reason, events.message,
       events.sweep
FROM events JOIN tasks ON tasks.seq = events.task
WHERE events.seq > :after ORDER BY events.seq LIMIT :limit

--- latest_event: The number of the newest event.
SELECT coalesce(max(seq), 0) FROM events

--- read_task_events: What happened to one task after an event.
SELECT events.seq, tasks.id, events.at, events.kind, events.status, events.attempt, events.reason, events.message,
       events.sweep
FROM tasks JOIN events ON tasks.seq = events.task
WHERE tasks.id = :id AND events.seq > :after ORDER BY events.seq LIMIT :limit

--- read_sweep_events: What happened to the tasks of one sweep after an event.
SELECT events.seq, tasks.id, events.at, events.kind, events.status, events.attempt, events.reason, events.message,
       events.sweep
FROM events INDEXED BY events_by_sweep JOIN tasks ON tasks.seq = events.task
WHERE events.sweep = :sweep AND events.seq > :after ORDER BY events.seq LIMIT :limit

--- add_key: Keep an API key.
INSERT INTO keys (id, hash, user, created_at, expires_at) VALUES (:id, :hash, :user, :created_at, :expires_at)

--- find_key: The key with a hash.
SELECT id, hash, user, created_at, expires_at FROM keys WHERE hash = :hash

--- list_keys: All keys, oldest first.
SELECT id, hash, user, created_at, expires_at FROM keys ORDER BY created_at, id

--- revoke_key: Forget a key.
DELETE FROM keys WHERE id = :id

--- list_pauses: All pauses; an empty text stands for all.
SELECT user, project, machine_group FROM pauses ORDER BY user, project, machine_group

--- add_pause: Keep a pause.
INSERT INTO pauses (user, project, machine_group) VALUES (:user, :project, :group) ON CONFLICT DO NOTHING

--- drop_pause: Forget a pause.
DELETE FROM pauses WHERE user = :user AND project = :project AND machine_group = :group

--- list_quotas: All quotas; an empty text stands for all projects of the user.
SELECT user, project, running, cpus, storage, usd_per_hour, usd_per_month FROM quotas ORDER BY user, project

--- stored: Bytes of outputs of each user's projects, or of one user's; an empty text stands for all users.
SELECT user, project, bytes FROM stored WHERE :user IN ('', user)

--- spent: Cost of each user's projects in a month, or of one user's; an empty text stands for all users.
SELECT user, project, cost FROM spent WHERE month = :month AND :user IN ('', user)

--- set_quota: Keep a quota instead of the one that was there.
INSERT INTO quotas (user, project, running, cpus, storage, usd_per_hour, usd_per_month)
VALUES (:user, :project, :running, :cpus, :storage, :usd_per_hour, :usd_per_month)
ON CONFLICT (user, project) DO UPDATE
SET running = excluded.running, cpus = excluded.cpus, storage = excluded.storage,
    usd_per_hour = excluded.usd_per_hour, usd_per_month = excluded.usd_per_month

--- drop_quota: Forget a quota.
DELETE FROM quotas WHERE user = :user AND project = :project

--- list_retention: How long what has ended is kept; an empty text stands for all other projects.
SELECT project, outputs, tasks FROM retention ORDER BY project

--- set_retention: Keep a rule instead of the one that was there.
INSERT INTO retention (project, outputs, tasks) VALUES (:project, :outputs, :tasks)
ON CONFLICT (project) DO UPDATE SET outputs = excluded.outputs, tasks = excluded.tasks

--- drop_retention: Forget a rule.
DELETE FROM retention WHERE project = :project

--- list_groups: The machine groups that were made by a command.
SELECT body FROM machine_groups ORDER BY created_at, id

--- add_group: Keep a new machine group, where no other has its name.
INSERT INTO machine_groups (id, name, created_at, has_ended, body) VALUES (:id, :name, :created_at, :has_ended, :body)
ON CONFLICT DO NOTHING

--- change_group: Keep what has become of a machine group, where it is still what it was.
UPDATE machine_groups SET has_ended = :has_ended, body = :body WHERE id = :id AND body = :before

--- drop_group: Forget a machine group.
DELETE FROM machine_groups WHERE id = :id

--- keep_rentals: Keep machines of the ledger, given as JSON, instead of what was there of them.
INSERT INTO rentals
    (id, machine_group, machine_type, market, zone, launched_at, last_seen_at, ended_at, why_ended, price_per_hour)
SELECT json_extract(value, '$.id'), json_extract(value, '$.group'), json_extract(value, '$.machine_type'),
       json_extract(value, '$.market'), json_extract(value, '$.zone'), json_extract(value, '$.launched_at'),
       json_extract(value, '$.last_seen_at'), json_extract(value, '$.ended_at'), json_extract(value, '$.why_ended'),
       json_extract(value, '$.price_per_hour')
FROM json_each(:rentals) WHERE TRUE
ON CONFLICT (id) DO UPDATE
SET machine_group = excluded.machine_group, machine_type = excluded.machine_type, market = excluded.market,
    zone = excluded.zone, launched_at = excluded.launched_at, last_seen_at = excluded.last_seen_at,
    ended_at = excluded.ended_at, why_ended = excluded.why_ended, price_per_hour = excluded.price_per_hour

--- list_rentals: Machines of the ledger, those launched last first.
SELECT id, machine_group, machine_type, market, zone, launched_at, last_seen_at, ended_at, why_ended, price_per_hour
FROM rentals
WHERE (:group IS NULL OR machine_group = :group)
  AND (:ended IS NULL OR (ended_at IS NOT NULL) = :ended)
  AND (:since IS NULL OR ended_at IS NULL OR ended_at > :since)
ORDER BY launched_at DESC, id DESC LIMIT :limit

--- forget_rentals: Forget machines of the ledger that ended before a moment, or were last seen then.
DELETE FROM rentals WHERE coalesce(ended_at, last_seen_at) < :before
