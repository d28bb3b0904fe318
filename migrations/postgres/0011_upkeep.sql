-- As migrations/sqlite 0012.
-- An index over many pictures takes longer than any statement of ours may.
SET LOCAL statement_timeout = 0;
CREATE INDEX pictures_by_attempt ON pictures (attempt) WHERE attempt IS NOT NULL;
ALTER TABLE drafts ADD COLUMN inputs BYTEA;
CREATE INDEX drafts_by_inputs ON drafts (inputs) WHERE inputs IS NOT NULL;
CREATE INDEX draft_inputs_by_expiry ON draft_inputs (expires_ms, request);
