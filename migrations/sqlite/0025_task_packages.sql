-- What a task says of its packages, a JSON object; NULL: it has one for all of its devices, and no device is given a version below
-- the one that it runs. Tasks from before may do so: nobody was asked.
ALTER TABLE tasks ADD COLUMN packages TEXT;
UPDATE tasks SET packages = '{"allow_downgrade":true}' WHERE state IN ('scheduled', 'running', 'stopping', 'finished');

-- The packages of a task that has several, its first one included.
CREATE TABLE task_packages (
    package_id INTEGER NOT NULL REFERENCES packages (id),
    task_id    INTEGER NOT NULL REFERENCES tasks (id) ON DELETE CASCADE,
    PRIMARY KEY (package_id, task_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX task_packages_of_task ON task_packages (task_id, package_id);

-- The package that the device is served, where its task has several; NULL: the first one.
ALTER TABLE upgrades ADD COLUMN package_id INTEGER;
-- The step of the attempt that is done with it, from 1.
ALTER TABLE upgrades ADD COLUMN step INTEGER NOT NULL DEFAULT 1;
