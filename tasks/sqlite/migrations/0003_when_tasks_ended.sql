-- When a task ended, so that retention finds the oldest without reading all of them.

ALTER TABLE tasks ADD COLUMN ended_at INTEGER;

-- Days since noon of 24 November 4714 BC, the only form in which all supported releases of SQLite give parts of a second.
UPDATE tasks SET ended_at = CAST((julianday(json_extract(body, '$.ended_at')) - 2440587.5) * 86400000000.0 AS INTEGER)
WHERE json_extract(body, '$.ended_at') IS NOT NULL;

CREATE INDEX tasks_ended ON tasks (ended_at) WHERE ended_at IS NOT NULL;
