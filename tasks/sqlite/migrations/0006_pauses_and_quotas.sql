-- Pauses and quotas; an empty text stands for all users, projects or groups.
CREATE TABLE pauses (
    user          TEXT NOT NULL,
    project       TEXT NOT NULL,
    machine_group TEXT NOT NULL,
    PRIMARY KEY (user, project, machine_group)
) STRICT;

CREATE TABLE quotas (
    user    TEXT NOT NULL,
    project TEXT NOT NULL,
    running INTEGER,                   -- tasks
    cpus    REAL,
    PRIMARY KEY (user, project)
) STRICT;
