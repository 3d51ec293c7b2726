-- The owner of its device has confirmed it for this time; NULL where he has not, or for no certain time.
ALTER TABLE upgrades ADD COLUMN confirmed_for INTEGER;
-- What 'not_before' was before that; it is so again when the confirmation is changed or taken back.
ALTER TABLE upgrades ADD COLUMN not_before_else INTEGER;
CREATE INDEX upgrades_confirmed_for ON upgrades (confirmed_for) WHERE phase = 0 AND confirmed_for IS NOT NULL;
