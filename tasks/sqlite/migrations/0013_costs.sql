-- What the ended attempts at a task have cost, and the month in UTC, such as 2026-11, in which the newest of them ended.
ALTER TABLE tasks ADD COLUMN cost INTEGER;       -- millionths of a US dollar
ALTER TABLE tasks ADD COLUMN cost_month TEXT;

-- The sums of that for each user's projects and months, kept by the database itself. A task that is forgotten has cost
-- what it has cost.
CREATE TABLE spent (
    month   TEXT NOT NULL,
    user    TEXT NOT NULL,
    project TEXT NOT NULL,
    cost    INTEGER NOT NULL,
    PRIMARY KEY (month, user, project)
) STRICT;

CREATE TRIGGER cost_counted AFTER UPDATE OF cost ON tasks
WHEN ifnull(new.cost, 0) <> ifnull(old.cost, 0) AND new.cost_month IS NOT NULL
BEGIN
    INSERT INTO spent (month, user, project, cost)
    VALUES (new.cost_month, new.user, new.project, ifnull(new.cost, 0) - ifnull(old.cost, 0))
    ON CONFLICT (month, user, project) DO UPDATE SET cost = cost + excluded.cost;
END;

ALTER TABLE quotas ADD COLUMN usd_per_hour REAL;
ALTER TABLE quotas ADD COLUMN usd_per_month REAL;
