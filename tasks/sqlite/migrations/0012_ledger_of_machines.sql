-- The machines that a cloud had for this server, from their launch to their end.
CREATE TABLE rentals (
    id             TEXT NOT NULL PRIMARY KEY,
    machine_group  TEXT NOT NULL,
    machine_type   TEXT NOT NULL,
    market         TEXT NOT NULL,
    zone           TEXT NOT NULL,
    launched_at    INTEGER NOT NULL,
    last_seen_at   INTEGER NOT NULL,
    ended_at       INTEGER,
    why_ended      TEXT NOT NULL,
    price_per_hour REAL                   -- US dollars
) STRICT;

CREATE INDEX rentals_by_launch ON rentals (launched_at, id);

CREATE INDEX rentals_by_group ON rentals (machine_group, launched_at, id);

CREATE INDEX rentals_by_end ON rentals (ended_at);
