-- As migrations/sqlite 0010.
-- An index over many attempts takes longer than any statement of ours may.
SET LOCAL statement_timeout = 0;
ALTER TABLE attempts ADD COLUMN candidate TEXT;
ALTER TABLE attempts ADD COLUMN took_ms BIGINT;
CREATE INDEX attempts_by_end ON attempts (updated_ms) WHERE took_ms IS NOT NULL;
