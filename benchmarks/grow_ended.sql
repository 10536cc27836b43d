-- Copies the first :size tasks of a store from :common on, all of them ended, once for each block from :first to :last,
-- with all that belongs to them: the first :sweeps sweeps and the first :events events are theirs. Each copy has an id, a
-- key, a digest and a fingerprint of its own, and each block its own sweeps.
INSERT INTO sweeps (id, user, key, digest, name, project, simulator, version, columns, cases, created_at)
WITH RECURSIVE blocks (n) AS (SELECT :first UNION ALL SELECT n + 1 FROM blocks WHERE n < :last)
SELECT 's' || printf('%06d', n) || substr(id, 8), user, key || n, digest, name, project, simulator, version, columns,
       cases, created_at + n * 1000000000
FROM blocks CROSS JOIN sweeps WHERE seq <= :sweeps;

INSERT INTO tasks (
    seq, id, status, priority, ready_at, retries, failures, losses, user, simulator, project, name, machine_group, key,
    digest, inputs, sweep, ended_at, fingerprint, body
)
WITH RECURSIVE blocks (n) AS (SELECT :first UNION ALL SELECT n + 1 FROM blocks WHERE n < :last),
fresh AS MATERIALIZED (
    SELECT n, tasks.seq, 't' || lower(hex(randomblob(6))) AS id,
           CASE n % 100 WHEN 0 THEN name ELSE name || ' ' || (n % 100) END AS name,
           's' || printf('%06d', n) || substr(sweep, 8) AS sweep, ended_at + n * 1000000000 AS ended_at
    FROM blocks CROSS JOIN tasks WHERE seq BETWEEN :common AND :size
)
SELECT fresh.n * :size + seq, fresh.id, status, priority, ready_at + n * 1000000000, retries, failures, losses, user,
       simulator, project, fresh.name, machine_group, key || '-' || lower(hex(randomblob(8))),
       lower(hex(randomblob(32))), inputs, fresh.sweep, fresh.ended_at,
       CASE WHEN fingerprint IS NOT NULL THEN lower(hex(randomblob(32))) END,
       json_replace(
           body, '$.id', fresh.id, '$.name', fresh.name, '$.case.sweep', fresh.sweep,
           '$.ended_at', strftime('%Y-%m-%dT%H:%M:%SZ', fresh.ended_at / 1000000, 'unixepoch')
       )
FROM fresh CROSS JOIN tasks USING (seq);

INSERT INTO events (task, at, kind, status, attempt, reason, message, sweep)
WITH RECURSIVE blocks (n) AS (SELECT :first UNION ALL SELECT n + 1 FROM blocks WHERE n < :last)
SELECT n * :size + task, at + n * 1000000000, kind, status, attempt, reason, message,
       's' || printf('%06d', n) || substr(sweep, 8)
FROM blocks CROSS JOIN events WHERE seq <= :events AND task >= :common;

INSERT INTO dependencies (child, parent, needs_success, tie)
WITH RECURSIVE blocks (n) AS (SELECT :first UNION ALL SELECT n + 1 FROM blocks WHERE n < :last)
SELECT n * :size + child, n * :size + parent, needs_success, tie
FROM blocks CROSS JOIN dependencies WHERE child BETWEEN :common AND :size;
