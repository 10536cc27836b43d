-- The machine groups that were made by a command; of those that have not ended each name is there once.
CREATE TABLE machine_groups (
    id         TEXT NOT NULL PRIMARY KEY,
    name       TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    has_ended  BOOLEAN NOT NULL,
    body       TEXT NOT NULL
);

CREATE UNIQUE INDEX machine_groups_by_name ON machine_groups (name) WHERE NOT has_ended;
