-- As migrations/sqlite 0006.
ALTER TABLE pictures ADD COLUMN candidate TEXT;
ALTER TABLE pictures ADD COLUMN category TEXT;
CREATE TABLE feedback (
  seq       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at_ms     BIGINT NOT NULL,
  picture   BYTEA NOT NULL,
  request   BYTEA,
  tenant    TEXT NOT NULL,
  api_key   TEXT NOT NULL,
  candidate TEXT NOT NULL,
  category  TEXT NOT NULL,
  kind      TEXT NOT NULL,
  value     BIGINT NOT NULL,
  trials    BIGINT NOT NULL,
  note      TEXT
);
CREATE INDEX feedback_by_voice ON feedback (picture, api_key, kind, seq);
