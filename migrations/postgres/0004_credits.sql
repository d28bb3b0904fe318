-- As migrations/sqlite 0005.
ALTER TABLE attempts ADD COLUMN credit TEXT;
