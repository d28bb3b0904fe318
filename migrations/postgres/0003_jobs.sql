-- As migrations/sqlite 0004.
ALTER TABLE attempts ADD COLUMN papers TEXT;
ALTER TABLE replies ADD COLUMN stop BIGINT NOT NULL DEFAULT 0;
