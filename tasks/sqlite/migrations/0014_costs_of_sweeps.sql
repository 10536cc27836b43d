-- What the ended attempts at a sweep's tasks have cost, in millionths of a US dollar; NULL where no price is known. The
-- database adds it up itself. A task that is forgotten has cost what it has cost.
ALTER TABLE sweeps ADD COLUMN cost INTEGER;

UPDATE sweeps SET cost = (SELECT sum(cost) FROM tasks WHERE tasks.sweep = sweeps.id);

CREATE TRIGGER sweep_cost_counted AFTER UPDATE OF cost ON tasks
WHEN new.sweep IS NOT NULL AND new.cost IS NOT old.cost
BEGIN
    UPDATE sweeps SET cost = ifnull(cost, 0) + ifnull(new.cost, 0) - ifnull(old.cost, 0) WHERE id = new.sweep;
END;
