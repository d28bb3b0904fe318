-- What is worth keeping: how each picture was asked for, and what was learned from all of them.
ALTER TABLE pictures ADD COLUMN asked INTEGER NOT NULL DEFAULT 1;   -- times, the first included
ALTER TABLE pictures ADD COLUMN pace INTEGER NOT NULL DEFAULT 0;    -- thousandths of the binary logarithm of milliseconds
ALTER TABLE pictures ADD COLUMN used_ms INTEGER NOT NULL DEFAULT 0; -- 0: when it was made
CREATE TABLE notes (
  name  TEXT PRIMARY KEY,
  value TEXT NOT NULL
) WITHOUT ROWID;
