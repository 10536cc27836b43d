BEGIN TRANSACTION;
CREATE TABLE events (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    task    INTEGER NOT NULL REFERENCES tasks (seq) ON DELETE CASCADE,
    at      INTEGER NOT NULL,
    kind    TEXT    NOT NULL,
    status  TEXT    NOT NULL,
    attempt INTEGER,
    reason  TEXT,                      -- JSON
    message TEXT
, sweep TEXT REFERENCES sweeps (id)) STRICT;
INSERT INTO "events" VALUES(1,1,1772366400000250,'submitted','queued',NULL,NULL,NULL,NULL);
INSERT INTO "events" VALUES(2,2,1772366400000250,'submitted','queued',NULL,NULL,NULL,NULL);
INSERT INTO "events" VALUES(3,2,1772366400000250,'status','preparing',1,NULL,NULL,NULL);
INSERT INTO "events" VALUES(4,3,1772366400000250,'submitted','queued',NULL,NULL,NULL,NULL);
INSERT INTO "events" VALUES(5,3,1772366400000250,'status','preparing',1,NULL,NULL,NULL);
INSERT INTO "events" VALUES(6,3,1772366400000250,'status','running',1,NULL,NULL,NULL);
INSERT INTO "events" VALUES(7,4,1772366400000250,'submitted','queued',NULL,NULL,NULL,NULL);
INSERT INTO "events" VALUES(8,4,1772366400000250,'status','preparing',1,NULL,NULL,NULL);
INSERT INTO "events" VALUES(9,4,1772366400000250,'status','running',1,NULL,NULL,NULL);
INSERT INTO "events" VALUES(10,4,1772366400000250,'status','finalizing',1,NULL,NULL,NULL);
INSERT INTO "events" VALUES(11,5,1772366400000250,'submitted','queued',NULL,NULL,NULL,NULL);
INSERT INTO "events" VALUES(12,5,1772366400000250,'status','preparing',1,NULL,NULL,NULL);
INSERT INTO "events" VALUES(13,5,1772366400000250,'status','running',1,NULL,NULL,NULL);
INSERT INTO "events" VALUES(14,5,1772366400000250,'status','finalizing',1,NULL,NULL,NULL);
INSERT INTO "events" VALUES(15,5,1772366405000250,'status','succeeded',1,NULL,NULL,NULL);
INSERT INTO "events" VALUES(16,6,1772366400000250,'submitted','queued',NULL,NULL,NULL,NULL);
INSERT INTO "events" VALUES(17,6,1772366400000250,'status','preparing',1,NULL,NULL,NULL);
INSERT INTO "events" VALUES(18,6,1772366400000250,'status','running',1,NULL,NULL,NULL);
INSERT INTO "events" VALUES(19,6,1772366405000250,'status','failed',1,'{"code":"exit-code","message":"Something happened.","evidence":{"exit_code":3,"text":"a ''b'' \"c\"\nd é 日本 %_; DROP TABLE tasks; --","share":0.25,"none":null}}',NULL,NULL);
INSERT INTO "events" VALUES(20,7,1772366400000250,'submitted','queued',NULL,NULL,NULL,NULL);
INSERT INTO "events" VALUES(21,7,1772366405000250,'status','cancelled',NULL,'{"code":"cancelled-by-user","message":"It was cancelled.","evidence":{}}',NULL,NULL);
INSERT INTO "events" VALUES(22,8,1772366400000250,'submitted','queued',NULL,NULL,NULL,NULL);
INSERT INTO "events" VALUES(23,8,1772366400000250,'status','preparing',1,NULL,NULL,NULL);
INSERT INTO "events" VALUES(24,8,1772366400000250,'status','running',1,NULL,NULL,NULL);
INSERT INTO "events" VALUES(25,8,1772366405000250,'attempt-lost','queued',1,'{"code":"machine-lost","message":"Something happened.","evidence":{"exit_code":3,"text":"a ''b'' \"c\"\nd é 日本 %_; DROP TABLE tasks; --","share":0.25,"none":null}}',NULL,NULL);
INSERT INTO "events" VALUES(26,8,1772366405000250,'status','queued',1,'{"code":"machine-lost","message":"Something happened.","evidence":{"exit_code":3,"text":"a ''b'' \"c\"\nd é 日本 %_; DROP TABLE tasks; --","share":0.25,"none":null}}',NULL,NULL);
INSERT INTO "events" VALUES(27,9,1772366400000250,'submitted','queued',NULL,NULL,NULL,'synjj4xwz22f9');
INSERT INTO "events" VALUES(28,10,1772366400000250,'submitted','queued',NULL,NULL,NULL,'synjj4xwz22f9');
CREATE TABLE input_lists (
    sha256 BLOB NOT NULL PRIMARY KEY,  -- of the JSON text
    files  BLOB NOT NULL               -- the JSON text, compressed with zlib
) STRICT;
INSERT INTO "input_lists" VALUES(X'E21833B89B5411269BBED0475E84BE128F9B4DB7CDEDAE1DE7FD0FB38012D7F9',X'78018BAE562A482CC950B252CACD4F49CDD1CBCC2B50D2512ACE48343235030A26520840666556A52A59191AE9806D50B2323132A8D581DB9A99A79FA8A09EA4AE10A3941CA3149397A27078A5C2B3E94B9FCD59A3A01A6FADE012E41FA010E2E8E4E3AA5092589C5D6CADA0AB8BECC0240A01DC810670F7591AD7C60200A7EA5E4F');
CREATE TABLE keys (
    id         TEXT    NOT NULL PRIMARY KEY,
    hash       TEXT    NOT NULL UNIQUE,
    user       TEXT    NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER
) STRICT;
INSERT INTO "keys" VALUES('k941aabe1640d','33743e6c913254ff7603e36eb19bb5b3b997ef5c53cec194da00f834e37ddb41','ada',1772366400000250,NULL);
CREATE TABLE sweeps (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT,
    id         TEXT    NOT NULL UNIQUE,
    user       TEXT    NOT NULL,
    key        TEXT,                   -- idempotency key
    digest     TEXT    NOT NULL,       -- of the request as it was sent
    name       TEXT,
    project    TEXT    NOT NULL,
    simulator  TEXT    NOT NULL,
    version    TEXT    NOT NULL,
    columns    TEXT    NOT NULL,       -- JSON: the names of the parameters
    cases      INTEGER NOT NULL,
    created_at INTEGER NOT NULL
) STRICT;
INSERT INTO "sweeps" VALUES(1,'synjj4xwz22f9','ada','sweep','d1',NULL,'default','swmm','5.2.4','["velocity"]',2,1772366400000250);
CREATE TABLE tasks (
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    id          TEXT    NOT NULL UNIQUE,
    status      TEXT    NOT NULL,
    priority    INTEGER NOT NULL,
    ready_at    INTEGER NOT NULL,
    lease_until INTEGER,
    holder      TEXT,
    retries     INTEGER NOT NULL,
    failures    INTEGER NOT NULL,
    losses      INTEGER NOT NULL,
    user        TEXT    NOT NULL,
    simulator   TEXT    NOT NULL,
    project     TEXT    NOT NULL,
    name        TEXT,
    machine_group TEXT  NOT NULL,
    key         TEXT,                  -- idempotency key
    digest      TEXT    NOT NULL,      -- of the request as it was sent
    inputs      BLOB    NOT NULL REFERENCES input_lists (sha256),
    body        TEXT    NOT NULL       -- the task as users see it, in JSON; last, since it may be long
, sweep TEXT REFERENCES sweeps (id), ended_at INTEGER, queue_until INTEGER) STRICT;
INSERT INTO "tasks" VALUES(1,'tkrnh860803eq','queued',0,1772366400000250,NULL,NULL,0,0,0,'ada','swmm','default','queued','local','queued','d1',X'E21833B89B5411269BBED0475E84BE128F9B4DB7CDEDAE1DE7FD0FB38012D7F9','{"id":"tkrnh860803eq","name":"queued","project":"default","simulator":"swmm","version":"5.2.4","runtime":"native","status":"queued","reason":null,"parameters":{"input_file":"model.inp","steps":3,"dt":0.5,"quiet":true,"one":1.0},"commands":[{"argv":["run","a ''b'' \"c\"\nd é 日本 %_; DROP TABLE tasks; --"],"stdin":null,"environment":{},"shell":false}],"resources":{"cpus":1.0,"memory":1073741824,"gpus":0,"disk":21474836480},"limits":{"queue":null,"staging":null,"run":null,"upload":null,"stall":null,"end_stalled":false},"retry":{"on":null,"memory":null},"group":"local","priority":0,"metadata":{"note":"a ''b'' \"c\"\nd é 日本 %_; DROP TABLE tasks; --"},"created_at":"2026-03-01T12:00:00.000250Z","started_at":null,"ended_at":null,"cancel_requested":false,"attempts":[],"result":null,"case":null}',NULL,NULL,NULL);
INSERT INTO "tasks" VALUES(2,'tws8p141cec40','preparing',0,1772366400000250,1772366430000250,'sim-tws8p141cec40',0,0,0,'ada','swmm','default','preparing','local','preparing','d1',X'E21833B89B5411269BBED0475E84BE128F9B4DB7CDEDAE1DE7FD0FB38012D7F9','{"id":"tws8p141cec40","name":"preparing","project":"default","simulator":"swmm","version":"5.2.4","runtime":"native","status":"preparing","reason":null,"parameters":{"input_file":"model.inp","steps":3,"dt":0.5,"quiet":true,"one":1.0},"commands":[{"argv":["run","a ''b'' \"c\"\nd é 日本 %_; DROP TABLE tasks; --"],"stdin":null,"environment":{},"shell":false}],"resources":{"cpus":1.0,"memory":1073741824,"gpus":0,"disk":21474836480},"limits":{"queue":null,"staging":null,"run":null,"upload":null,"stall":null,"end_stalled":false},"retry":{"on":null,"memory":null},"group":"local","priority":0,"metadata":{"note":"a ''b'' \"c\"\nd é 日本 %_; DROP TABLE tasks; --"},"created_at":"2026-03-01T12:00:00.000250Z","started_at":null,"ended_at":null,"cancel_requested":false,"attempts":[{"number":1,"machine":"node-1","runtime":"native","created_at":"2026-03-01T12:00:00.000250Z","started_at":null,"ended_at":null,"adoptions":0,"reason":null,"exit_code":null,"peak_memory":null,"cpu_seconds":null,"stdout_tail":"","stderr_tail":"","stalls":0}],"result":null,"case":null}',NULL,NULL,NULL);
INSERT INTO "tasks" VALUES(3,'tsjvmc9wreh10','running',0,1772366400000250,1772366430000250,'sim-tsjvmc9wreh10',0,0,0,'ada','swmm','default','running','local','running','d1',X'E21833B89B5411269BBED0475E84BE128F9B4DB7CDEDAE1DE7FD0FB38012D7F9','{"id":"tsjvmc9wreh10","name":"running","project":"default","simulator":"swmm","version":"5.2.4","runtime":"native","status":"running","reason":null,"parameters":{"input_file":"model.inp","steps":3,"dt":0.5,"quiet":true,"one":1.0},"commands":[{"argv":["run","a ''b'' \"c\"\nd é 日本 %_; DROP TABLE tasks; --"],"stdin":null,"environment":{},"shell":false}],"resources":{"cpus":1.0,"memory":1073741824,"gpus":0,"disk":21474836480},"limits":{"queue":null,"staging":null,"run":null,"upload":null,"stall":null,"end_stalled":false},"retry":{"on":null,"memory":null},"group":"local","priority":0,"metadata":{"note":"a ''b'' \"c\"\nd é 日本 %_; DROP TABLE tasks; --"},"created_at":"2026-03-01T12:00:00.000250Z","started_at":"2026-03-01T12:00:00.000250Z","ended_at":null,"cancel_requested":false,"attempts":[{"number":1,"machine":"node-1","runtime":"native","created_at":"2026-03-01T12:00:00.000250Z","started_at":"2026-03-01T12:00:00.000250Z","ended_at":null,"adoptions":0,"reason":null,"exit_code":null,"peak_memory":null,"cpu_seconds":null,"stdout_tail":"","stderr_tail":"","stalls":0}],"result":null,"case":null}',NULL,NULL,NULL);
INSERT INTO "tasks" VALUES(4,'tt2e7y83e96ap','finalizing',0,1772366400000250,1772366430000250,'sim-tt2e7y83e96ap',0,0,0,'ada','swmm','default','finalizing','local','finalizing','d1',X'E21833B89B5411269BBED0475E84BE128F9B4DB7CDEDAE1DE7FD0FB38012D7F9','{"id":"tt2e7y83e96ap","name":"finalizing","project":"default","simulator":"swmm","version":"5.2.4","runtime":"native","status":"finalizing","reason":null,"parameters":{"input_file":"model.inp","steps":3,"dt":0.5,"quiet":true,"one":1.0},"commands":[{"argv":["run","a ''b'' \"c\"\nd é 日本 %_; DROP TABLE tasks; --"],"stdin":null,"environment":{},"shell":false}],"resources":{"cpus":1.0,"memory":1073741824,"gpus":0,"disk":21474836480},"limits":{"queue":null,"staging":null,"run":null,"upload":null,"stall":null,"end_stalled":false},"retry":{"on":null,"memory":null},"group":"local","priority":0,"metadata":{"note":"a ''b'' \"c\"\nd é 日本 %_; DROP TABLE tasks; --"},"created_at":"2026-03-01T12:00:00.000250Z","started_at":"2026-03-01T12:00:00.000250Z","ended_at":null,"cancel_requested":false,"attempts":[{"number":1,"machine":"node-1","runtime":"native","created_at":"2026-03-01T12:00:00.000250Z","started_at":"2026-03-01T12:00:00.000250Z","ended_at":null,"adoptions":0,"reason":null,"exit_code":null,"peak_memory":null,"cpu_seconds":null,"stdout_tail":"","stderr_tail":"","stalls":0}],"result":null,"case":null}',NULL,NULL,NULL);
INSERT INTO "tasks" VALUES(5,'t0e9wfqypm3va','succeeded',0,1772366400000250,NULL,NULL,0,0,0,'ada','swmm','default','succeeded','local',NULL,'d1',X'E21833B89B5411269BBED0475E84BE128F9B4DB7CDEDAE1DE7FD0FB38012D7F9','{"id":"t0e9wfqypm3va","name":"succeeded","project":"default","simulator":"swmm","version":"5.2.4","runtime":"native","status":"succeeded","reason":null,"parameters":{"input_file":"model.inp","steps":3,"dt":0.5,"quiet":true,"one":1.0},"commands":[{"argv":["run","a ''b'' \"c\"\nd é 日本 %_; DROP TABLE tasks; --"],"stdin":null,"environment":{},"shell":false}],"resources":{"cpus":1.0,"memory":1073741824,"gpus":0,"disk":21474836480},"limits":{"queue":null,"staging":null,"run":null,"upload":null,"stall":null,"end_stalled":false},"retry":{"on":null,"memory":null},"group":"local","priority":0,"metadata":{"note":"a ''b'' \"c\"\nd é 日本 %_; DROP TABLE tasks; --"},"created_at":"2026-03-01T12:00:00.000250Z","started_at":"2026-03-01T12:00:00.000250Z","ended_at":"2026-03-01T12:00:05.000250Z","cancel_requested":false,"attempts":[{"number":1,"machine":"node-1","runtime":"native","created_at":"2026-03-01T12:00:00.000250Z","started_at":"2026-03-01T12:00:00.000250Z","ended_at":"2026-03-01T12:00:05.000250Z","adoptions":0,"reason":null,"exit_code":0,"peak_memory":1000,"cpu_seconds":1.25,"stdout_tail":"","stderr_tail":"","stalls":0}],"result":1,"case":null}',NULL,1772366405000250,NULL);
INSERT INTO "tasks" VALUES(6,'tcbawqf8e9zjd','failed',0,1772366400000250,NULL,NULL,0,1,0,'ada','swmm','default','failed','local',NULL,'d1',X'E21833B89B5411269BBED0475E84BE128F9B4DB7CDEDAE1DE7FD0FB38012D7F9','{"id":"tcbawqf8e9zjd","name":"failed","project":"default","simulator":"swmm","version":"5.2.4","runtime":"native","status":"failed","reason":{"code":"exit-code","message":"Something happened.","evidence":{"exit_code":3,"text":"a ''b'' \"c\"\nd é 日本 %_; DROP TABLE tasks; --","share":0.25,"none":null}},"parameters":{"input_file":"model.inp","steps":3,"dt":0.5,"quiet":true,"one":1.0},"commands":[{"argv":["run","a ''b'' \"c\"\nd é 日本 %_; DROP TABLE tasks; --"],"stdin":null,"environment":{},"shell":false}],"resources":{"cpus":1.0,"memory":1073741824,"gpus":0,"disk":21474836480},"limits":{"queue":null,"staging":null,"run":null,"upload":null,"stall":null,"end_stalled":false},"retry":{"on":null,"memory":null},"group":"local","priority":0,"metadata":{"note":"a ''b'' \"c\"\nd é 日本 %_; DROP TABLE tasks; --"},"created_at":"2026-03-01T12:00:00.000250Z","started_at":"2026-03-01T12:00:00.000250Z","ended_at":"2026-03-01T12:00:05.000250Z","cancel_requested":false,"attempts":[{"number":1,"machine":"node-1","runtime":"native","created_at":"2026-03-01T12:00:00.000250Z","started_at":"2026-03-01T12:00:00.000250Z","ended_at":"2026-03-01T12:00:05.000250Z","adoptions":0,"reason":{"code":"exit-code","message":"Something happened.","evidence":{"exit_code":3,"text":"a ''b'' \"c\"\nd é 日本 %_; DROP TABLE tasks; --","share":0.25,"none":null}},"exit_code":3,"peak_memory":null,"cpu_seconds":null,"stdout_tail":"","stderr_tail":"","stalls":0}],"result":1,"case":null}',NULL,1772366405000250,NULL);
INSERT INTO "tasks" VALUES(7,'t1gvbjz7bf3cq','cancelled',0,1772366400000250,NULL,NULL,0,0,0,'ada','swmm','default','cancelled','local',NULL,'d1',X'E21833B89B5411269BBED0475E84BE128F9B4DB7CDEDAE1DE7FD0FB38012D7F9','{"id":"t1gvbjz7bf3cq","name":"cancelled","project":"default","simulator":"swmm","version":"5.2.4","runtime":"native","status":"cancelled","reason":{"code":"cancelled-by-user","message":"It was cancelled.","evidence":{}},"parameters":{"input_file":"model.inp","steps":3,"dt":0.5,"quiet":true,"one":1.0},"commands":[{"argv":["run","a ''b'' \"c\"\nd é 日本 %_; DROP TABLE tasks; --"],"stdin":null,"environment":{},"shell":false}],"resources":{"cpus":1.0,"memory":1073741824,"gpus":0,"disk":21474836480},"limits":{"queue":null,"staging":null,"run":null,"upload":null,"stall":null,"end_stalled":false},"retry":{"on":null,"memory":null},"group":"local","priority":0,"metadata":{"note":"a ''b'' \"c\"\nd é 日本 %_; DROP TABLE tasks; --"},"created_at":"2026-03-01T12:00:00.000250Z","started_at":null,"ended_at":"2026-03-01T12:00:05.000250Z","cancel_requested":true,"attempts":[],"result":null,"case":null}',NULL,1772366405000250,NULL);
INSERT INTO "tasks" VALUES(8,'tj61sznj4fy0g','queued',0,1772366405000250,NULL,NULL,0,0,1,'ada','swmm','default','lost','local',NULL,'d1',X'E21833B89B5411269BBED0475E84BE128F9B4DB7CDEDAE1DE7FD0FB38012D7F9','{"id":"tj61sznj4fy0g","name":"lost","project":"default","simulator":"swmm","version":"5.2.4","runtime":"native","status":"queued","reason":{"code":"machine-lost","message":"Something happened.","evidence":{"exit_code":3,"text":"a ''b'' \"c\"\nd é 日本 %_; DROP TABLE tasks; --","share":0.25,"none":null}},"parameters":{"input_file":"model.inp","steps":3,"dt":0.5,"quiet":true,"one":1.0},"commands":[{"argv":["run","a ''b'' \"c\"\nd é 日本 %_; DROP TABLE tasks; --"],"stdin":null,"environment":{},"shell":false}],"resources":{"cpus":1.0,"memory":1073741824,"gpus":0,"disk":21474836480},"limits":{"queue":null,"staging":null,"run":null,"upload":null,"stall":null,"end_stalled":false},"retry":{"on":null,"memory":null},"group":"local","priority":0,"metadata":{"note":"a ''b'' \"c\"\nd é 日本 %_; DROP TABLE tasks; --"},"created_at":"2026-03-01T12:00:00.000250Z","started_at":"2026-03-01T12:00:00.000250Z","ended_at":null,"cancel_requested":false,"attempts":[{"number":1,"machine":"node-1","runtime":"native","created_at":"2026-03-01T12:00:00.000250Z","started_at":"2026-03-01T12:00:00.000250Z","ended_at":"2026-03-01T12:00:05.000250Z","adoptions":0,"reason":{"code":"machine-lost","message":"Something happened.","evidence":{"exit_code":3,"text":"a ''b'' \"c\"\nd é 日本 %_; DROP TABLE tasks; --","share":0.25,"none":null}},"exit_code":null,"peak_memory":null,"cpu_seconds":null,"stdout_tail":"","stderr_tail":"","stalls":0}],"result":null,"case":null}',NULL,NULL,NULL);
INSERT INTO "tasks" VALUES(9,'tmf6j024eebxr','queued',0,1772366400000250,NULL,NULL,0,0,0,'ada','swmm','default','case-1','local',NULL,'d1',X'E21833B89B5411269BBED0475E84BE128F9B4DB7CDEDAE1DE7FD0FB38012D7F9','{"id":"tmf6j024eebxr","name":"case-1","project":"default","simulator":"swmm","version":"5.2.4","runtime":"native","status":"queued","reason":null,"parameters":{"input_file":"model.inp","steps":3,"dt":0.5,"quiet":true,"one":1.0},"commands":[{"argv":["run","a ''b'' \"c\"\nd é 日本 %_; DROP TABLE tasks; --"],"stdin":null,"environment":{},"shell":false}],"resources":{"cpus":1.0,"memory":1073741824,"gpus":0,"disk":21474836480},"limits":{"queue":null,"staging":null,"run":null,"upload":null,"stall":null,"end_stalled":false},"retry":{"on":null,"memory":null},"group":"local","priority":0,"metadata":{"note":"a ''b'' \"c\"\nd é 日本 %_; DROP TABLE tasks; --"},"created_at":"2026-03-01T12:00:00.000250Z","started_at":null,"ended_at":null,"cancel_requested":false,"attempts":[],"result":null,"case":{"sweep":"synjj4xwz22f9","number":1,"values":{"velocity":2.5,"note":"a ''b'' \"c\"\nd é 日本 %_; DROP TABLE tasks; --","on":true,"n":1}}}','synjj4xwz22f9',NULL,NULL);
INSERT INTO "tasks" VALUES(10,'t30z5yhhcmt74','queued',0,1772366400000250,NULL,NULL,0,0,0,'ada','swmm','default','case-2','local',NULL,'d1',X'E21833B89B5411269BBED0475E84BE128F9B4DB7CDEDAE1DE7FD0FB38012D7F9','{"id":"t30z5yhhcmt74","name":"case-2","project":"default","simulator":"swmm","version":"5.2.4","runtime":"native","status":"queued","reason":null,"parameters":{"input_file":"model.inp","steps":3,"dt":0.5,"quiet":true,"one":1.0},"commands":[{"argv":["run","a ''b'' \"c\"\nd é 日本 %_; DROP TABLE tasks; --"],"stdin":null,"environment":{},"shell":false}],"resources":{"cpus":1.0,"memory":1073741824,"gpus":0,"disk":21474836480},"limits":{"queue":null,"staging":null,"run":null,"upload":null,"stall":null,"end_stalled":false},"retry":{"on":null,"memory":null},"group":"local","priority":0,"metadata":{"note":"a ''b'' \"c\"\nd é 日本 %_; DROP TABLE tasks; --"},"created_at":"2026-03-01T12:00:00.000250Z","started_at":null,"ended_at":null,"cancel_requested":false,"attempts":[],"result":null,"case":{"sweep":"synjj4xwz22f9","number":2,"values":{"velocity":5.0,"note":"a ''b'' \"c\"\nd é 日本 %_; DROP TABLE tasks; --","on":true,"n":2}}}','synjj4xwz22f9',NULL,NULL);
CREATE UNIQUE INDEX tasks_by_key ON tasks (user, key) WHERE key IS NOT NULL;
CREATE INDEX tasks_queued ON tasks (priority DESC, seq, ready_at) WHERE status = 'queued';
CREATE INDEX tasks_ready ON tasks (ready_at) WHERE status = 'queued';
CREATE INDEX tasks_by_status ON tasks (status, seq);
CREATE INDEX tasks_by_simulator ON tasks (simulator, seq);
CREATE INDEX tasks_by_project ON tasks (project, seq);
CREATE INDEX tasks_by_name ON tasks (name, seq) WHERE name IS NOT NULL;
CREATE INDEX tasks_by_group ON tasks (machine_group, seq);
CREATE INDEX tasks_by_user ON tasks (user, seq);
CREATE INDEX events_by_task ON events (task, seq);
CREATE INDEX events_refused ON events (task) WHERE kind = 'report-refused';
CREATE UNIQUE INDEX sweeps_by_key ON sweeps (user, key) WHERE key IS NOT NULL;
CREATE INDEX sweeps_by_user ON sweeps (user, seq);
CREATE INDEX tasks_by_sweep ON tasks (sweep, seq) WHERE sweep IS NOT NULL;
CREATE INDEX tasks_by_sweep_and_status ON tasks (sweep, status, seq) WHERE sweep IS NOT NULL;
CREATE INDEX events_by_sweep ON events (sweep, seq) WHERE sweep IS NOT NULL;
CREATE INDEX tasks_ended ON tasks (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX tasks_overdue ON tasks (queue_until, seq) WHERE status = 'queued' AND queue_until IS NOT NULL;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('tasks',10);
INSERT INTO "sqlite_sequence" VALUES('events',28);
INSERT INTO "sqlite_sequence" VALUES('sweeps',1);
COMMIT;
PRAGMA user_version = 4;
PRAGMA application_id = 1400463730;
