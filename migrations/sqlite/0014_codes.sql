-- What is told to people is kept as codes with arguments; sentences are made where they are read. A line of a timeline has a
-- code and a JSON object. A line from before is of the code 'legacy', and its argument is the sentence as it stands.
ALTER TABLE upgrade_events ADD COLUMN code TEXT NOT NULL DEFAULT 'legacy';
ALTER TABLE upgrade_events RENAME COLUMN text TO arguments;

-- The arguments of an outcome, a JSON object; NULL where the outcome was written as a sentence, in outcome_detail.
ALTER TABLE upgrades ADD COLUMN outcome_arguments TEXT;
ALTER TABLE events ADD COLUMN arguments TEXT;
