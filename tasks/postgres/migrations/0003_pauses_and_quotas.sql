-- Pauses and quotas; an empty text stands for all users, projects or groups.
CREATE TABLE pauses (
    "user"          TEXT NOT NULL,
    project       TEXT NOT NULL,
    machine_group TEXT NOT NULL,
    PRIMARY KEY ("user", project, machine_group)
);

CREATE TABLE quotas (
    "user"    TEXT NOT NULL,
    project TEXT NOT NULL,
    running BIGINT,                    -- tasks
    cpus    DOUBLE PRECISION,
    PRIMARY KEY ("user", project)
);
