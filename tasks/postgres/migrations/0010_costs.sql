-- What the ended attempts at a task have cost, and the month in UTC, such as 2026-11, in which the newest of them ended.
ALTER TABLE tasks ADD COLUMN cost BIGINT;        -- millionths of a US dollar
ALTER TABLE tasks ADD COLUMN cost_month TEXT;

-- The sums of that for each user's projects and months, kept by the database itself. A task that is forgotten has cost
-- what it has cost.
CREATE TABLE spent (
    month   TEXT NOT NULL,
    "user"  TEXT NOT NULL,
    project TEXT NOT NULL,
    cost    BIGINT NOT NULL,
    PRIMARY KEY (month, "user", project)
);

CREATE FUNCTION count_cost() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO spent (month, "user", project, cost)
    VALUES (new.cost_month, new."user", new.project, coalesce(new.cost, 0) - coalesce(old.cost, 0))
    ON CONFLICT (month, "user", project) DO UPDATE SET cost = spent.cost + excluded.cost;
    RETURN NULL;
END
$$;

CREATE TRIGGER cost_counted AFTER UPDATE OF cost ON tasks FOR EACH ROW
WHEN (coalesce(new.cost, 0) <> coalesce(old.cost, 0) AND new.cost_month IS NOT NULL) EXECUTE FUNCTION count_cost();

ALTER TABLE quotas ADD COLUMN usd_per_hour DOUBLE PRECISION;
ALTER TABLE quotas ADD COLUMN usd_per_month DOUBLE PRECISION;
