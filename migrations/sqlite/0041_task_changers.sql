-- Who has changed how a task is run since it was created, a JSON array of callers: none of them approves it. What was changed before is not known.
ALTER TABLE tasks ADD COLUMN changed_by TEXT NOT NULL DEFAULT '[]';
