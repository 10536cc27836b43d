-- What the outputs of a task take in the storage; NULL where an earlier release stored them and did not count.
ALTER TABLE tasks ADD COLUMN output_bytes BIGINT;

-- The sums of that for each user's projects, kept by the database itself: nobody adds up a million tasks.
CREATE TABLE stored (
    "user"  TEXT NOT NULL,
    project TEXT NOT NULL,
    bytes   BIGINT NOT NULL,
    PRIMARY KEY ("user", project)
);

CREATE FUNCTION count_outputs() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' THEN
        UPDATE stored SET bytes = bytes - old.output_bytes WHERE "user" = old."user" AND project = old.project;
        RETURN NULL;
    END IF;
    INSERT INTO stored ("user", project, bytes)
    VALUES (new."user", new.project, coalesce(new.output_bytes, 0) - coalesce(old.output_bytes, 0))
    ON CONFLICT ("user", project) DO UPDATE SET bytes = stored.bytes + excluded.bytes;
    RETURN NULL;
END
$$;

CREATE TRIGGER outputs_counted AFTER UPDATE OF output_bytes ON tasks FOR EACH ROW
WHEN (coalesce(new.output_bytes, 0) <> coalesce(old.output_bytes, 0)) EXECUTE FUNCTION count_outputs();

CREATE TRIGGER outputs_forgotten AFTER DELETE ON tasks FOR EACH ROW
WHEN (old.output_bytes > 0) EXECUTE FUNCTION count_outputs();

-- The ended tasks whose outputs retention may remove, the oldest end first.
CREATE INDEX tasks_with_outputs ON tasks (ended_at, seq)
WHERE ended_at IS NOT NULL AND output_bytes IS DISTINCT FROM 0;

ALTER TABLE quotas ADD COLUMN storage BIGINT;    -- bytes

-- How long what has ended is kept, in seconds; an empty text stands for all projects without a rule of their own.
CREATE TABLE retention (
    project TEXT NOT NULL PRIMARY KEY,
    outputs BIGINT,
    tasks   BIGINT
);
