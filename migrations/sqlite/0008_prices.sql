-- What was learned of prices while the gateway ran, and what its operator was told.

-- Every change of a price that was noticed at run time. Rows are appended, never changed.
CREATE TABLE price_changes (
  seq          INTEGER PRIMARY KEY AUTOINCREMENT,
  at_ms        INTEGER NOT NULL,          -- when it was noticed
  effective_ms INTEGER NOT NULL,          -- from when on it holds
  provider     TEXT NOT NULL,
  model        TEXT NOT NULL,
  quality      TEXT NOT NULL DEFAULT '',  -- '': whatever the quality
  old          TEXT NOT NULL,             -- JSON, as `new`
  new          TEXT NOT NULL,             -- JSON: prices, a ratio of bills, or back to the catalogue
  source       TEXT NOT NULL,             -- 'bills', or the name of a feed
  certainty    TEXT NOT NULL
);
CREATE INDEX price_changes_by_model ON price_changes (provider, model, source, quality, seq);
CREATE TRIGGER price_changes_are_append_only_1 BEFORE UPDATE ON price_changes
  BEGIN SELECT RAISE(ABORT, 'the history of prices is append-only'); END;
CREATE TRIGGER price_changes_are_append_only_2 BEFORE DELETE ON price_changes
  BEGIN SELECT RAISE(ABORT, 'the history of prices is append-only'); END;

-- What settled calls cost beside what was expected of them, in sums per day (UTC, from 1970). Calls whose price or bill
-- nobody knows are in none.
CREATE TABLE price_accuracy (
  day      INTEGER NOT NULL,
  provider TEXT NOT NULL,
  model    TEXT NOT NULL,
  quality  TEXT NOT NULL,                 -- '': the model's default
  calls    INTEGER NOT NULL,
  bound    INTEGER NOT NULL,              -- what was set aside
  estimate INTEGER NOT NULL,              -- what was thought likely
  billed   INTEGER NOT NULL,
  missed   INTEGER NOT NULL,              -- sum of the differences between estimate and bill, without their signs
  PRIMARY KEY (day, provider, model, quality)
) WITHOUT ROWID;

-- What the operator is told. A row is told once, and tried a few times.
CREATE TABLE alerts (
  seq     INTEGER PRIMARY KEY AUTOINCREMENT,
  at_ms   INTEGER NOT NULL,
  kind    TEXT NOT NULL,
  subject TEXT NOT NULL,
  message TEXT NOT NULL,
  tries   INTEGER NOT NULL DEFAULT 0,
  next_ms INTEGER,                        -- when it may be sent (again); NULL: not to be sent (any more)
  told_ms INTEGER                         -- when it was taken
);
CREATE INDEX alerts_by_subject ON alerts (kind, subject, at_ms);
CREATE INDEX alerts_to_tell ON alerts (next_ms) WHERE next_ms IS NOT NULL;
