-- Tasks with their inputs, what happened to them, and the API keys. Moments are microseconds since 1970 in UTC.

-- The bytes "Syar" mark the file as ours, so that another program's is not taken for it.
PRAGMA application_id = 1400463730;

-- Lists of input files, each kept once: the tasks of a sweep mostly share theirs.
CREATE TABLE input_lists (
    sha256 BLOB NOT NULL PRIMARY KEY,  -- of the JSON text
    files  BLOB NOT NULL               -- the JSON text, compressed with zlib
) STRICT;

CREATE TABLE tasks (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    id          TEXT    NOT NULL UNIQUE,
    status      TEXT    NOT NULL,
    priority    INTEGER NOT NULL,
    ready_at    INTEGER NOT NULL,
    lease_until INTEGER,
    holder      TEXT,
    retries     INTEGER NOT NULL,
    failures    INTEGER NOT NULL,
    losses      INTEGER NOT NULL,
    user        TEXT    NOT NULL,
    simulator   TEXT    NOT NULL,
    project     TEXT    NOT NULL,
    name        TEXT,
    machine_group TEXT  NOT NULL,
    key         TEXT,                  -- idempotency key
    digest      TEXT    NOT NULL,      -- of the request as it was sent
    inputs      BLOB    NOT NULL REFERENCES input_lists (sha256),
    body        TEXT    NOT NULL       -- the task as users see it, in JSON; last, since it may be long
) STRICT;

CREATE UNIQUE INDEX tasks_by_key ON tasks (user, key) WHERE key IS NOT NULL;
-- The queue in its order; ready_at stands in it so that tasks that are not ready are skipped without reading them.
CREATE INDEX tasks_queued ON tasks (priority DESC, seq, ready_at) WHERE status = 'queued';
CREATE INDEX tasks_ready ON tasks (ready_at) WHERE status = 'queued';
CREATE INDEX tasks_by_status ON tasks (status, seq);
CREATE INDEX tasks_by_simulator ON tasks (simulator, seq);
CREATE INDEX tasks_by_project ON tasks (project, seq);
CREATE INDEX tasks_by_name ON tasks (name, seq) WHERE name IS NOT NULL;
CREATE INDEX tasks_by_group ON tasks (machine_group, seq);
CREATE INDEX tasks_by_user ON tasks (user, seq);

CREATE TABLE events (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    task    INTEGER NOT NULL REFERENCES tasks (seq) ON DELETE CASCADE,
    at      INTEGER NOT NULL,
    kind    TEXT    NOT NULL,
    status  TEXT    NOT NULL,
    attempt INTEGER,
    reason  TEXT,                      -- JSON
    message TEXT
) STRICT;

CREATE INDEX events_by_task ON events (task, seq);
-- How many refused reports a task has kept.
CREATE INDEX events_refused ON events (task) WHERE kind = 'report-refused';

CREATE TABLE keys (
    id         TEXT    NOT NULL PRIMARY KEY,
    hash       TEXT    NOT NULL UNIQUE,
    user       TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER
) STRICT;
