-- Every statement of the store. A line `--- name: sentence` begins each one.

--- draw_seqs: The numbers that the next tasks will get; their events are announced as well.
SELECT nextval('tasks_seq') FROM (SELECT announce_events()) AS announced, generate_series(1, %(count)s)

--- has_inputs: Whether a list of input files is kept.
SELECT 1 FROM input_lists WHERE sha256 = %(sha256)s

--- add_inputs: Keep a list of input files, once.
INSERT INTO input_lists (sha256, files) VALUES (%(sha256)s, %(files)s) ON CONFLICT DO NOTHING

--- read_inputs: The list of input files of a task.
SELECT input_lists.files FROM tasks JOIN input_lists ON input_lists.sha256 = tasks.inputs WHERE tasks.id = %(id)s

--- add_tasks: Keep new tasks; gives the ids of those that did not collide with what another transaction added.
INSERT INTO tasks (
    seq, id, status, priority, ready_at, lease_until, holder, retries, failures, losses, ended_at,
    "user", simulator, project, name, machine_group, key, digest, inputs, sweep, queue_until,
    fingerprint, output_bytes, body
)
SELECT * FROM unnest(
    %(seq)s::bigint[], %(id)s::text[], %(status)s::text[], %(priority)s::bigint[], %(ready_at)s::bigint[],
    %(lease_until)s::bigint[], %(holder)s::text[], %(retries)s::bigint[], %(failures)s::bigint[], %(losses)s::bigint[],
    %(ended_at)s::bigint[], %(user)s::text[], %(simulator)s::text[], %(project)s::text[], %(name)s::text[], %(machine_group)s::text[],
    %(key)s::text[], %(digest)s::text[], %(inputs)s::bytea[], %(sweep)s::text[], %(queue_until)s::bigint[],
    %(fingerprint)s::text[], %(output_bytes)s::bigint[], %(body)s::text[]
)
ON CONFLICT DO NOTHING
RETURNING id

--- save_task: Keep what a stimulus made of a task.
UPDATE tasks
SET status = %(status)s, ready_at = %(ready_at)s, queue_until = %(queue_until)s, lease_until = %(lease_until)s, holder = %(holder)s,
    failures = %(failures)s, losses = %(losses)s, held = %(held)s, ended_at = %(ended_at)s,
    reused_from = %(reused_from)s, output_bytes = %(output_bytes)s, cost = %(cost)s, cost_month = %(cost_month)s,
    body = %(body)s, mark = %(mark)s
WHERE seq = %(seq)s

--- save_lease: Keep a renewed lease.
UPDATE tasks SET lease_until = %(lease_until)s WHERE seq = %(seq)s

--- find_known: The tasks that users made with idempotency keys, and those with ids; one may come twice.
SELECT tasks.seq, body, tasks."user", retries, failures, losses, ready_at, lease_until, holder, tasks.key, digest
FROM unnest(%(users)s::text[], %(keys)s::text[]) AS asked ("user", key)
JOIN tasks ON tasks."user" = asked."user" AND tasks.key = asked.key
UNION ALL
SELECT seq, body, "user", retries, failures, losses, ready_at, lease_until, holder, key, digest
FROM tasks WHERE id = ANY(%(ids)s::text[])

--- find_by_id: The task with an id.
SELECT seq, body, "user", retries, failures, losses, ready_at, lease_until, holder, key, digest
FROM tasks WHERE id = %(id)s

--- lock_task: The task with an id, kept from all others until the end of the transaction.
SELECT seq, body, "user", retries, failures, losses, ready_at, lease_until, holder, key, digest, mark
FROM tasks WHERE id = %(id)s FOR UPDATE

--- lock_named: The tasks with ids and those that users made with idempotency keys; they do not end before this commits.
SELECT seq, body, "user", retries, failures, losses, ready_at, lease_until, holder, key, digest
FROM tasks
WHERE seq = ANY(ARRAY(
    SELECT tasks.seq FROM unnest(%(users)s::text[], %(keys)s::text[]) AS asked ("user", key)
    JOIN tasks ON tasks."user" = asked."user" AND tasks.key = asked.key
    UNION
    SELECT seq FROM tasks WHERE id = ANY(%(ids)s::text[])
))
ORDER BY seq FOR SHARE

--- add_edges: Keep which tasks wait for which.
INSERT INTO dependencies (child, parent, needs_success, tie)
SELECT * FROM unnest(%(child)s::bigint[], %(parent)s::bigint[], %(needs_success)s::boolean[], %(tie)s::text[])

--- mark_unsettled: Keep that a task has ended and that some who wait for it have not been told.
INSERT INTO unsettled (task) SELECT %(task)s::bigint
WHERE EXISTS (SELECT 1 FROM dependencies WHERE parent = %(task)s AND tie = 'open')
ON CONFLICT DO NOTHING

--- has_unsettled: Whether anybody is to be told that a task has ended.
SELECT EXISTS (SELECT 1 FROM unsettled)

--- unsettled: Who is to be told that a task has ended.
SELECT open.child, open.parent, open.needs_success, tasks.id, tasks.status
FROM unsettled
JOIN dependencies AS open ON open.parent = unsettled.task AND open.tie = 'open'
JOIN tasks ON tasks.seq = unsettled.task
ORDER BY open.child LIMIT %(limit)s

--- lock_seqs: The tasks with numbers, kept from all others until the end of the transaction.
SELECT seq, body, "user", retries, failures, losses, ready_at, lease_until, holder
FROM tasks WHERE seq = ANY(%(seqs)s::bigint[]) ORDER BY seq FOR UPDATE

--- forget_settled: Forget the ended tasks of which everybody has been told.
DELETE FROM unsettled WHERE NOT EXISTS (
    SELECT 1 FROM dependencies WHERE parent = unsettled.task AND tie = 'open'
)

--- save_tie: Keep how a task stands to one that it waits for.
UPDATE dependencies SET tie = %(tie)s WHERE child = %(child)s AND parent = %(parent)s

--- release: Let a task wait no more for those that have failed.
UPDATE dependencies SET tie = 'met' WHERE child = %(child)s AND tie = 'failed'

--- is_free: Whether a task waits for no other one.
SELECT NOT EXISTS (SELECT 1 FROM dependencies WHERE child = %(child)s AND tie <> 'met')

--- list: A page of tasks, newest first; `/* filters */` is replaced by some of the conditions below.
SELECT seq, body, "user", retries, failures, losses, ready_at, lease_until, holder
FROM tasks WHERE TRUE /* filters */
ORDER BY seq DESC LIMIT %(limit)s

--- list.status: Condition of a page.
AND status = %(status)s
--- list.simulator: Condition of a page.
AND simulator = %(simulator)s
--- list.project: Condition of a page.
AND project = %(project)s
--- list.name: Condition of a page.
AND name = %(name)s
--- list.group: Condition of a page.
AND machine_group = %(group)s
--- list.user: Condition of a page.
AND "user" = %(user)s
--- list.sweep: Condition of a page.
AND sweep = %(sweep)s
--- list.reused_from: Condition of a page.
AND reused_from = %(reused_from)s
--- list.before: Condition of a page.
AND seq < %(before)s

--- lanes: The lanes in which tasks are queued; each step goes straight to the next one.
WITH RECURSIVE lanes AS (
    (
        SELECT machine_group, "user", project FROM tasks WHERE status = 'queued' AND NOT held
        ORDER BY machine_group, "user", project LIMIT 1
    )
    UNION ALL
    SELECT following.* FROM lanes CROSS JOIN LATERAL (
        SELECT machine_group, "user", project FROM tasks
        WHERE status = 'queued' AND NOT held
          AND (machine_group, "user", project) > (lanes.machine_group, lanes."user", lanes.project)
        ORDER BY machine_group, "user", project LIMIT 1
    ) AS following
)
SELECT machine_group, "user", project FROM lanes

--- queue: The queued tasks of lanes that are ready, of each lane the first ones in their order.
SELECT found.*
FROM unnest(%(groups)s::text[], %(users)s::text[], %(projects)s::text[]) AS lane (machine_group, "user", project)
CROSS JOIN LATERAL (
    SELECT seq, body, tasks."user", retries, failures, losses, ready_at, lease_until, holder
    FROM tasks
    WHERE status = 'queued' AND NOT held AND tasks.machine_group = lane.machine_group
      AND tasks."user" = lane."user" AND tasks.project = lane.project AND ready_at <= %(now)s
    ORDER BY priority DESC, seq LIMIT %(limit)s
) AS found

--- place: Where a task stands, and what orders it in the queue.
SELECT machine_group, "user", project, seq, priority, status, held FROM tasks WHERE id = %(id)s

--- waiting: By lane of a group, how many queued tasks come before a task by priority, and how many are level with it.
SELECT "user", project, count(*) FILTER (WHERE priority > %(priority)s),
       count(*) FILTER (WHERE priority = %(priority)s AND (seq < %(seq)s OR "user" <> %(user)s OR project <> %(project)s))
FROM tasks WHERE status = 'queued' AND NOT held AND machine_group = %(group)s
GROUP BY "user", project

--- queued: How many queued tasks each machine group has that are not held.
SELECT machine_group, count(*) FROM tasks 
WHERE status = 'queued' AND NOT held GROUP BY machine_group

--- next_ready: When the next queued task becomes ready that is not ready now.
SELECT min(ready_at) FROM tasks WHERE status = 'queued' AND NOT held AND ready_at > %(now)s

--- overdue: The queued tasks that have waited longer than their queue limit, the longest overdue first.
SELECT seq, body, "user", retries, failures, losses, ready_at, lease_until, holder
FROM tasks WHERE status = 'queued' AND queue_until <= %(now)s
ORDER BY queue_until, seq LIMIT %(limit)s

--- active: The tasks whose attempt holds a machine, in any order.
SELECT seq, body, "user", retries, failures, losses, ready_at, lease_until, holder
FROM tasks WHERE status IN ('preparing', 'running', 'finalizing')

--- counts: How many tasks stand in each status.
SELECT status, count(*) FROM tasks GROUP BY status

--- counts_of_sweep: How many tasks of a sweep stand in each status.
SELECT status, count(*) FROM tasks WHERE sweep = %(sweep)s GROUP BY status

--- ended: The tasks that ended before a moment, oldest end first.
SELECT seq, body, "user", retries, failures, losses, ready_at, lease_until, holder
FROM tasks WHERE ended_at < %(before)s
  AND (ended_at, seq) > (%(at)s, %(seq)s)
  AND (%(project)s::text IS NULL OR project = %(project)s)
  AND NOT EXISTS (
    SELECT 1 FROM dependencies JOIN tasks AS child ON child.seq = dependencies.child
    WHERE dependencies.parent = tasks.seq AND child.ended_at IS NULL
)
ORDER BY ended_at, seq LIMIT %(limit)s

--- ended_with_outputs: The tasks that ended before a moment and whose outputs may be there, oldest end first.
SELECT seq, body, "user", retries, failures, losses, ready_at, lease_until, holder
FROM tasks WHERE ended_at < %(before)s
  AND (ended_at, seq) > (%(at)s, %(seq)s)
  AND output_bytes IS DISTINCT FROM 0
  AND (%(project)s::text IS NULL OR project = %(project)s)
  AND NOT EXISTS (
    SELECT 1 FROM dependencies JOIN tasks AS child ON child.seq = dependencies.child
    WHERE dependencies.parent = tasks.seq AND child.ended_at IS NULL
)
ORDER BY ended_at, seq LIMIT %(limit)s

--- runs: The newest successes of a simulator among the last tasks that ended.
SELECT seq, body, "user", retries, failures, losses, ready_at, lease_until, holder
FROM (SELECT * FROM tasks WHERE ended_at IS NOT NULL ORDER BY ended_at DESC, seq DESC LIMIT 500) AS newest
WHERE simulator = %(simulator)s AND status = 'succeeded' AND reused_from IS NULL
ORDER BY ended_at DESC, seq DESC LIMIT %(limit)s

--- earlier_results: For tasks with ids the newest computed task with their result.
SELECT earlier.seq, earlier.body, earlier."user", earlier.retries, earlier.failures, earlier.losses, earlier.ready_at,
       earlier.lease_until, earlier.holder, mine.id
FROM tasks AS mine CROSS JOIN LATERAL (
    SELECT * FROM tasks
    WHERE "user" = mine."user" AND fingerprint = mine.fingerprint AND status = 'succeeded' AND reused_from IS NULL
    ORDER BY seq DESC LIMIT 1
) AS earlier
WHERE mine.id = ANY(%(ids)s::text[])

--- is_reusable: Whether later tasks may have the result of a task; it stays so until the end of the transaction.
SELECT 1 FROM tasks WHERE id = %(id)s AND fingerprint IS NOT NULL FOR SHARE

--- withdraw: Let no later task have the result of an ended task, where none has it or needs it.
UPDATE tasks SET fingerprint = NULL
WHERE id = %(id)s AND ended_at IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM tasks AS later WHERE later.reused_from = %(id)s)
  AND NOT EXISTS (
    SELECT 1 FROM dependencies JOIN tasks AS child ON child.seq = dependencies.child
    WHERE dependencies.parent = tasks.seq AND child.ended_at IS NULL
  )
RETURNING id

--- forget: Forget an ended task with its events, where no other one has its result or needs it.
DELETE FROM tasks
WHERE id = %(id)s AND ended_at IS NOT NULL
  AND NOT EXISTS (SELECT 1 FROM tasks AS later WHERE later.reused_from = %(id)s)
  AND NOT EXISTS (
    SELECT 1 FROM dependencies JOIN tasks AS child ON child.seq = dependencies.child
    WHERE dependencies.parent = tasks.seq AND child.ended_at IS NULL
  )
RETURNING id

--- add_sweep: Keep a new sweep; nothing where another transaction has added it.
INSERT INTO sweeps (id, "user", key, digest, name, project, simulator, version, columns, cases, created_at)
VALUES (
    %(id)s, %(user)s, %(key)s, %(digest)s, %(name)s, %(project)s, %(simulator)s, %(version)s, %(columns)s, %(cases)s,
    %(created_at)s
)
ON CONFLICT DO NOTHING
RETURNING seq, id, "user", key, digest, name, project, simulator, version, columns, cases, created_at, cost

--- known_sweep: The sweep that a user made with an idempotency key, or else the one with an id.
SELECT seq, id, "user", key, digest, name, project, simulator, version, columns, cases, created_at, cost
FROM sweeps WHERE ("user" = %(user)s AND key = %(key)s) OR id = %(id)s
ORDER BY coalesce("user" = %(user)s AND key = %(key)s, FALSE) DESC LIMIT 1

--- find_sweep: The sweep with an id.
SELECT seq, id, "user", key, digest, name, project, simulator, version, columns, cases, created_at, cost
FROM sweeps WHERE id = %(id)s

--- list_sweeps: A page of sweeps, newest first.
SELECT seq, id, "user", key, digest, name, project, simulator, version, columns, cases, created_at, cost
FROM sweeps
WHERE (%(user)s::text IS NULL OR "user" = %(user)s) AND (%(key)s::text IS NULL OR key = %(key)s)
  AND (%(before)s::bigint IS NULL OR seq < %(before)s)
ORDER BY seq DESC LIMIT %(limit)s

--- announce_events: Announce that this transaction draws numbers of events; see the schema.
SELECT announce_events()

--- add_events: Keep things that happened, in their order.
INSERT INTO events (seq, task, at, kind, status, attempt, reason, message, sweep)
SELECT nextval('events_seq'), happened.* FROM unnest(
    %(task)s::bigint[], %(at)s::bigint[], %(kind)s::text[], %(status)s::text[], %(attempt)s::bigint[],
    %(reason)s::text[], %(message)s::text[], %(sweep)s::text[]
) AS happened

--- count_refused: How many refused reports a task has kept.
SELECT count(*) FROM events WHERE task = %(task)s AND kind = 'report-refused'

--- trim_events: Forget the oldest events of a task beyond its bound.
DELETE FROM events WHERE task = %(task)s AND seq <= (
    SELECT seq FROM events WHERE task = %(task)s ORDER BY seq DESC LIMIT 1 OFFSET %(keep)s
)

--- decided_events: The number up to which every event is committed or never will be; see the schema.
SELECT decided_events()

--- read_events: What happened to all tasks after an event, up to another one.
SELECT events.seq, tasks.id, events.at, events.kind, events.status, events.attempt, events.reason, events.message,
       events.sweep
FROM events JOIN tasks ON tasks.seq = events.task
WHERE events.seq > %(after)s AND events.seq <= %(decided)s ORDER BY events.seq LIMIT %(limit)s

--- latest_event: The number of the newest event up to another one.
SELECT coalesce(max(seq), 0) FROM events WHERE seq <= %(decided)s

--- read_task_events: What happened to one task after an event; no other writes the task meanwhile, so all are in order.
SELECT events.seq, tasks.id, events.at, events.kind, events.status, events.attempt, events.reason, events.message,
       events.sweep
FROM tasks JOIN events ON tasks.seq = events.task
WHERE tasks.id = %(id)s AND events.seq > %(after)s ORDER BY events.seq LIMIT %(limit)s

--- read_sweep_events: What happened to the tasks of one sweep after an event, up to another one.
SELECT events.seq, tasks.id, events.at, events.kind, events.status, events.attempt, events.reason, events.message,
       events.sweep
FROM events JOIN tasks ON tasks.seq = events.task
WHERE events.sweep = %(sweep)s AND events.seq > %(after)s AND events.seq <= %(decided)s
ORDER BY events.seq LIMIT %(limit)s

--- add_key: Keep an API key, where neither its id nor its hash is there.
INSERT INTO keys (id, hash, "user", created_at, expires_at)
VALUES (%(id)s, %(hash)s, %(user)s, %(created_at)s, %(expires_at)s) ON CONFLICT DO NOTHING RETURNING id

--- find_key: The key with a hash.
SELECT id, hash, "user", created_at, expires_at FROM keys WHERE hash = %(hash)s

--- list_keys: All keys, oldest first.
SELECT id, hash, "user", created_at, expires_at FROM keys ORDER BY created_at, id

--- revoke_key: Forget a key.
DELETE FROM keys WHERE id = %(id)s RETURNING id

--- list_pauses: All pauses; an empty text stands for all.
SELECT "user", project, machine_group FROM pauses ORDER BY "user", project, machine_group

--- add_pause: Keep a pause.
INSERT INTO pauses ("user", project, machine_group) VALUES (%(user)s, %(project)s, %(group)s) ON CONFLICT DO NOTHING

--- drop_pause: Forget a pause.
DELETE FROM pauses WHERE "user" = %(user)s AND project = %(project)s AND machine_group = %(group)s

--- list_quotas: All quotas; an empty text stands for all projects of the user.
SELECT "user", project, running, cpus, storage, usd_per_hour, usd_per_month FROM quotas ORDER BY "user", project

--- stored: Bytes of outputs of each user's projects, or of one user's; an empty text stands for all users.
SELECT "user", project, bytes FROM stored WHERE %(user)s IN ('', "user")

--- spent: Cost of each user's projects in a month, or of one user's; an empty text stands for all users.
SELECT "user", project, cost FROM spent WHERE month = %(month)s AND %(user)s IN ('', "user")

--- set_quota: Keep a quota instead of the one that was there.
INSERT INTO quotas ("user", project, running, cpus, storage, usd_per_hour, usd_per_month)
VALUES (%(user)s, %(project)s, %(running)s, %(cpus)s, %(storage)s, %(usd_per_hour)s, %(usd_per_month)s)
ON CONFLICT ("user", project) DO UPDATE
SET running = excluded.running, cpus = excluded.cpus, storage = excluded.storage,
    usd_per_hour = excluded.usd_per_hour, usd_per_month = excluded.usd_per_month

--- drop_quota: Forget a quota.
DELETE FROM quotas WHERE "user" = %(user)s AND project = %(project)s

--- list_retention: How long what has ended is kept; an empty text stands for all other projects.
SELECT project, outputs, tasks FROM retention ORDER BY project

--- set_retention: Keep a rule instead of the one that was there.
INSERT INTO retention (project, outputs, tasks) VALUES (%(project)s, %(outputs)s, %(tasks)s)
ON CONFLICT (project) DO UPDATE SET outputs = excluded.outputs, tasks = excluded.tasks

--- drop_retention: Forget a rule.
DELETE FROM retention WHERE project = %(project)s

--- lead: Take or keep the lead: it is free, its lease has run out, or it is held by this server; gives the epoch.
INSERT INTO leader AS held (epoch, holder, until)
VALUES (1, %(holder)s, clock_timestamp() + make_interval(secs => %(seconds)s))
ON CONFLICT (only_row) DO UPDATE
SET epoch = CASE WHEN held.epoch = %(epoch)s THEN held.epoch ELSE held.epoch + 1 END,
    holder = excluded.holder, until = clock_timestamp() + make_interval(secs => %(seconds)s)
WHERE held.holder = excluded.holder OR held.until < clock_timestamp()
RETURNING epoch

--- check_lead: Whether an epoch is still the current one; it stays so until the end of the transaction.
SELECT 1 FROM leader WHERE epoch = %(epoch)s FOR SHARE

--- list_groups: The machine groups that were made by a command.
SELECT body FROM machine_groups ORDER BY created_at, id

--- add_group: Keep a new machine group, where no other has its name.
INSERT INTO machine_groups (id, name, created_at, has_ended, body) VALUES (%(id)s, %(name)s, %(created_at)s, %(has_ended)s, %(body)s)
ON CONFLICT DO NOTHING

--- change_group: Keep what has become of a machine group, where it is still what it was.
UPDATE machine_groups SET has_ended = %(has_ended)s, body = %(body)s WHERE id = %(id)s AND body = %(before)s

--- drop_group: Forget a machine group.
DELETE FROM machine_groups WHERE id = %(id)s

--- keep_rentals: Keep machines of the ledger, given as JSON, instead of what was there of them.
INSERT INTO rentals
    (id, machine_group, machine_type, market, zone, launched_at, last_seen_at, ended_at, why_ended, price_per_hour)
SELECT id, "group", machine_type, market, zone, launched_at, last_seen_at, ended_at, why_ended, price_per_hour
FROM json_to_recordset(%(rentals)s::json) AS given (
    id text, "group" text, machine_type text, market text, zone text, launched_at bigint, last_seen_at bigint,
    ended_at bigint, why_ended text, price_per_hour double precision
)
ON CONFLICT (id) DO UPDATE
SET machine_group = excluded.machine_group, machine_type = excluded.machine_type, market = excluded.market,
    zone = excluded.zone, launched_at = excluded.launched_at, last_seen_at = excluded.last_seen_at,
    ended_at = excluded.ended_at, why_ended = excluded.why_ended, price_per_hour = excluded.price_per_hour

--- list_rentals: Machines of the ledger, those launched last first.
SELECT id, machine_group, machine_type, market, zone, launched_at, last_seen_at, ended_at, why_ended, price_per_hour
FROM rentals
WHERE (%(group)s::text IS NULL OR machine_group = %(group)s)
  AND (%(ended)s::boolean IS NULL OR (ended_at IS NOT NULL) = %(ended)s)
  AND (%(since)s::bigint IS NULL OR ended_at IS NULL OR ended_at > %(since)s)
ORDER BY launched_at DESC, id DESC LIMIT %(limit)s

--- forget_rentals: Forget machines of the ledger that ended before a moment, or were last seen then.
DELETE FROM rentals WHERE coalesce(ended_at, last_seen_at) < %(before)s
