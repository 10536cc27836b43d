-- Which tasks wait for which. A row stays as long as both tasks do, so that what a task needs is not removed.

CREATE TABLE dependencies (
    child         INTEGER NOT NULL REFERENCES tasks (seq) ON DELETE CASCADE,
    parent        INTEGER NOT NULL REFERENCES tasks (seq) ON DELETE CASCADE,
    needs_success INTEGER NOT NULL,
    tie           TEXT    NOT NULL,    -- open, met or failed: how the child stands to the parent
    PRIMARY KEY (child, parent)
) STRICT, WITHOUT ROWID;

CREATE INDEX dependencies_by_parent ON dependencies (parent, child);
-- Who is still to be told that a task has ended, however many have been told.
CREATE INDEX dependencies_open ON dependencies (parent, child) WHERE tie = 'open';
-- Whether a task waits for any other one, however many it does not wait for any more.
CREATE INDEX dependencies_unmet ON dependencies (child) WHERE tie <> 'met';

-- Ended tasks of which not everybody has been told who waits for them. It is written with the end itself.
CREATE TABLE unsettled (
    task INTEGER NOT NULL PRIMARY KEY REFERENCES tasks (seq) ON DELETE CASCADE
) STRICT;
