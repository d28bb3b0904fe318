-- What calls teach about who made them: how long each took, and whom it was asked of. NULL where they teach nothing,
-- as of refusals, and of calls before this column was.
ALTER TABLE attempts ADD COLUMN candidate TEXT;  -- PROVIDER/MODEL@QUALITY
ALTER TABLE attempts ADD COLUMN took_ms INTEGER; -- what its provider took, without waiting for limits
CREATE INDEX attempts_by_end ON attempts (updated_ms) WHERE took_ms IS NOT NULL;
