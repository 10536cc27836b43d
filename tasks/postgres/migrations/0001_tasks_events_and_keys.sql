-- Tasks with their inputs, sweeps, what happened to them, the API keys, and who leads. All lies in the schema `simyard`.
-- Moments are microseconds since 1970 in UTC.

-- Lists of input files, each kept once: the tasks of a sweep mostly share theirs.
CREATE TABLE input_lists (
    sha256 BYTEA NOT NULL PRIMARY KEY,  -- of the JSON text
    files  BYTEA NOT NULL               -- the JSON text, compressed with zlib
);
ALTER TABLE input_lists ALTER COLUMN files SET STORAGE EXTERNAL;

CREATE SEQUENCE tasks_seq;

-- Sweeps: each made together with the tasks of its cases, and never changed.
CREATE TABLE sweeps (
    seq        BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    id         TEXT    NOT NULL UNIQUE,
    "user"     TEXT    NOT NULL,
    key        TEXT,                    -- idempotency key
    digest     TEXT    NOT NULL,        -- of the request as it was sent
    name       TEXT,
    project    TEXT    NOT NULL,
    simulator  TEXT    NOT NULL,
    version    TEXT    NOT NULL,
    columns    TEXT    NOT NULL,        -- JSON: the names of the parameters
    cases      BIGINT  NOT NULL,
    created_at BIGINT  NOT NULL
);

CREATE UNIQUE INDEX sweeps_by_key ON sweeps ("user", key) WHERE key IS NOT NULL;
CREATE INDEX sweeps_by_user ON sweeps ("user", seq);

CREATE TABLE tasks (
    seq         BIGINT  NOT NULL PRIMARY KEY,
    id          TEXT    NOT NULL UNIQUE,
    status      TEXT    NOT NULL,
    priority    BIGINT  NOT NULL,
    ready_at    BIGINT  NOT NULL,
    queue_until BIGINT,
    lease_until BIGINT,
    holder      TEXT,
    retries     BIGINT  NOT NULL,
    failures    BIGINT  NOT NULL,
    losses      BIGINT  NOT NULL,
    ended_at    BIGINT,
    "user"      TEXT    NOT NULL,
    simulator   TEXT    NOT NULL,
    project     TEXT    NOT NULL,
    name        TEXT,
    machine_group TEXT  NOT NULL,
    key         TEXT,                   -- idempotency key
    digest      TEXT    NOT NULL,       -- of the request as it was sent
    inputs      BYTEA   NOT NULL REFERENCES input_lists (sha256),
    sweep       TEXT    REFERENCES sweeps (id),
    mark        BIGINT  NOT NULL DEFAULT 0,  -- of the call that wrote last: a call whose answer was lost finds itself
    body        TEXT    NOT NULL        -- the task as users see it, in JSON
);

CREATE UNIQUE INDEX tasks_by_key ON tasks ("user", key) WHERE key IS NOT NULL;
-- The queue in its order; ready_at stands in it so that tasks that are not ready are skipped without reading them.
CREATE INDEX tasks_queued ON tasks (priority DESC, seq, ready_at) WHERE status = 'queued';
CREATE INDEX tasks_ready ON tasks (ready_at) WHERE status = 'queued';
-- Only tasks with a queue limit stand in it, so a long queue without limits costs nothing.
CREATE INDEX tasks_overdue ON tasks (queue_until, seq) WHERE status = 'queued' AND queue_until IS NOT NULL;
CREATE INDEX tasks_active ON tasks (seq) WHERE status IN ('preparing', 'running', 'finalizing');
CREATE INDEX tasks_by_status ON tasks (status, seq);
CREATE INDEX tasks_by_simulator ON tasks (simulator, seq);
CREATE INDEX tasks_by_project ON tasks (project, seq);
CREATE INDEX tasks_by_name ON tasks (name, seq) WHERE name IS NOT NULL;
CREATE INDEX tasks_by_group ON tasks (machine_group, seq);
CREATE INDEX tasks_by_user ON tasks ("user", seq);
CREATE INDEX tasks_by_sweep ON tasks (sweep, seq) WHERE sweep IS NOT NULL;
-- The counts of a sweep are read from this index alone.
CREATE INDEX tasks_by_sweep_and_status ON tasks (sweep, status, seq) WHERE sweep IS NOT NULL;
CREATE INDEX tasks_ended ON tasks (ended_at, seq) WHERE ended_at IS NOT NULL;

CREATE SEQUENCE events_seq;

CREATE TABLE events (
    seq     BIGINT NOT NULL PRIMARY KEY,
    task    BIGINT NOT NULL REFERENCES tasks (seq) ON DELETE CASCADE,
    at      BIGINT NOT NULL,
    kind    TEXT   NOT NULL,
    status  TEXT   NOT NULL,
    attempt BIGINT,
    reason  TEXT,                       -- JSON
    message TEXT,
    sweep   TEXT REFERENCES sweeps (id) -- a stream of a whole sweep reads its tasks' events in their order
);

CREATE INDEX events_by_task ON events (task, seq);
CREATE INDEX events_by_sweep ON events (sweep, seq) WHERE sweep IS NOT NULL;
-- How many refused reports a task has kept.
CREATE INDEX events_refused ON events (task) WHERE kind = 'report-refused';

-- Transactions that run side by side draw event numbers in one order and commit in another. A reader who goes on from
-- the largest number that was seen would then miss what commits later under a smaller one. So each writer first
-- announces, by an advisory lock that ends with its transaction, a number below all that it will draw; and readers
-- look no further than the smallest one announced. The upper 16 bits of the lock's key say that it is ours.
CREATE FUNCTION announce_events() RETURNS void LANGUAGE sql VOLATILE AS $$
    SELECT pg_advisory_xact_lock_shared((x'5379'::bigint << 48) | (SELECT last_value FROM events_seq))
$$;

-- The number up to which every event is committed or never will be. What is read with it must be read by a later
-- statement, whose snapshot is younger than this answer. The order of the two looks matters: who draws a number up to
-- `drawn` holds the lock by now, or has committed.
CREATE FUNCTION decided_events() RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    drawn bigint;
    announced bigint;
BEGIN
    SELECT last_value INTO drawn FROM events_seq;
    SELECT min(((classid::bigint & 65535) << 32) | objid::bigint) INTO announced
    FROM pg_locks
    WHERE locktype = 'advisory' AND objsubid = 1 AND classid::bigint >> 16 = x'5379'::bigint
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database());
    RETURN least(drawn, announced);
END
$$;

CREATE TABLE keys (
    id         TEXT   NOT NULL PRIMARY KEY,
    hash       TEXT   NOT NULL UNIQUE,
    "user"     TEXT   NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT
);

-- The one dispatcher that may act, by its server's name. Each change of the leader makes the epoch larger. The lease
-- runs by the clock of the database, which is the same for all.
CREATE TABLE leader (
    only_row BOOLEAN     NOT NULL PRIMARY KEY DEFAULT TRUE CHECK (only_row),
    epoch    BIGINT      NOT NULL,
    holder   TEXT        NOT NULL,
    until    TIMESTAMPTZ NOT NULL
);
