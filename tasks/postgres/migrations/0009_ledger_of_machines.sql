-- The machines that a cloud had for this server, from their launch to their end.
CREATE TABLE rentals (
    id             TEXT NOT NULL PRIMARY KEY,
    machine_group  TEXT NOT NULL,
    machine_type   TEXT NOT NULL,
    market         TEXT NOT NULL,
    zone           TEXT NOT NULL,
    launched_at    BIGINT NOT NULL,
    last_seen_at   BIGINT NOT NULL,
    ended_at       BIGINT,
    why_ended      TEXT NOT NULL,
    price_per_hour DOUBLE PRECISION -- US dollars
);

CREATE INDEX rentals_by_launch ON rentals (launched_at, id);

CREATE INDEX rentals_by_group ON rentals (machine_group, launched_at, id);

CREATE INDEX rentals_by_end ON rentals (ended_at);
