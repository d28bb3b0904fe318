-- What people think of pictures, and who made them: the candidate as people name it, such as provider/model@quality.
ALTER TABLE pictures ADD COLUMN candidate TEXT;  -- NULL: stored before this column was
ALTER TABLE pictures ADD COLUMN category TEXT;   -- NULL: nobody said

-- One row per word about a picture. Rows are appended; of the same kind, by the same key, about the same picture, the
-- last one counts.
CREATE TABLE feedback (
  seq       INTEGER PRIMARY KEY AUTOINCREMENT,
  at_ms     INTEGER NOT NULL,
  picture   BLOB NOT NULL,
  request   BLOB,                       -- NULL: no paid call made it
  tenant    TEXT NOT NULL,
  api_key   TEXT NOT NULL,
  candidate TEXT NOT NULL,
  category  TEXT NOT NULL,              -- '': none
  kind      TEXT NOT NULL,              -- rating, accepted, clicks or judge
  value     INTEGER NOT NULL,           -- 1 to 5; 0 or 1; clicks; 0 to 100
  trials    INTEGER NOT NULL,           -- clicks: how often it was shown; else 1
  note      TEXT
);
CREATE INDEX feedback_by_voice ON feedback (picture, api_key, kind, seq);
