-- Sweeps: each made together with the tasks of its cases, and never changed.

CREATE TABLE sweeps (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT    NOT NULL UNIQUE,
    user       TEXT    NOT NULL,
    key        TEXT,                   -- idempotency key
    digest     TEXT    NOT NULL,       -- of the request as it was sent
    name       TEXT,
    project    TEXT    NOT NULL,
    simulator  TEXT    NOT NULL,
    version    TEXT    NOT NULL,
    columns    TEXT    NOT NULL,       -- JSON: the names of the parameters
    cases      INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;

CREATE UNIQUE INDEX sweeps_by_key ON sweeps (user, key) WHERE key IS NOT NULL;
CREATE INDEX sweeps_by_user ON sweeps (user, seq);

ALTER TABLE tasks ADD COLUMN sweep TEXT REFERENCES sweeps (id);
CREATE INDEX tasks_by_sweep ON tasks (sweep, seq) WHERE sweep IS NOT NULL;
-- The counts of a sweep are read from this index alone.
CREATE INDEX tasks_by_sweep_and_status ON tasks (sweep, status, seq) WHERE sweep IS NOT NULL;

-- A stream of a whole sweep reads its tasks' events in their order; so each event names the sweep itself.
ALTER TABLE events ADD COLUMN sweep TEXT REFERENCES sweeps (id);
CREATE INDEX events_by_sweep ON events (sweep, seq) WHERE sweep IS NOT NULL;
