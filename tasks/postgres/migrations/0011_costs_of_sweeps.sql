-- What the ended attempts at a sweep's tasks have cost, in millionths of a US dollar; NULL where no price is known. The
-- database adds it up itself. A task that is forgotten has cost what it has cost.
ALTER TABLE sweeps ADD COLUMN cost BIGINT;

UPDATE sweeps SET cost = (SELECT sum(tasks.cost) FROM tasks WHERE tasks.sweep = sweeps.id);

CREATE FUNCTION count_cost_of_sweep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE sweeps SET cost = coalesce(cost, 0) + coalesce(new.cost, 0) - coalesce(old.cost, 0) WHERE id = new.sweep;
    RETURN NULL;
END
$$;

CREATE TRIGGER sweep_cost_counted AFTER UPDATE OF cost ON tasks FOR EACH ROW
WHEN (new.sweep IS NOT NULL AND new.cost IS DISTINCT FROM old.cost) EXECUTE FUNCTION count_cost_of_sweep();
