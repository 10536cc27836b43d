-- Users list their own tasks only, so the indexes of lists begin with the user: a page is read from one place in one of
-- them, however many tasks others have and however long ago the last one that fits was submitted.
DROP INDEX tasks_by_simulator;
DROP INDEX tasks_by_project;
DROP INDEX tasks_by_name;
DROP INDEX tasks_by_group;

CREATE INDEX tasks_by_user_and_status ON tasks ("user", status, seq);
CREATE INDEX tasks_by_user_and_simulator ON tasks ("user", simulator, seq);
CREATE INDEX tasks_by_user_and_project ON tasks ("user", project, seq);
CREATE INDEX tasks_by_user_project_and_status ON tasks ("user", project, status, seq);
CREATE INDEX tasks_by_user_and_name ON tasks ("user", name, seq) WHERE name IS NOT NULL;
CREATE INDEX tasks_by_user_and_group ON tasks ("user", machine_group, seq);
