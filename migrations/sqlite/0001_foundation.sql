-- Index, attempts and ledger. Forward only: later changes are files of their own.
-- Money is in pico-dollars (10^-12 USD). Times are milliseconds since the Unix epoch, from the injected clock.

CREATE TABLE meta (
  name  TEXT PRIMARY KEY,
  value INTEGER NOT NULL
) WITHOUT ROWID;
-- Raised by every purge; running processes poll it and drop what they hold in memory.
INSERT INTO meta (name, value) VALUES ('purge_epoch', 0);

-- A stored picture. Its id is the right to fetch it; its bytes lie in the blob store under their hash.
CREATE TABLE pictures (
  id             BLOB PRIMARY KEY,
  tenant         TEXT NOT NULL,
  blob           BLOB NOT NULL,
  bytes          INTEGER NOT NULL,
  format         TEXT NOT NULL,
  width          INTEGER NOT NULL,
  height         INTEGER NOT NULL,
  provider       TEXT NOT NULL,
  model          TEXT NOT NULL,
  simulated      INTEGER NOT NULL,
  cost           INTEGER,               -- NULL: unknown
  usage          TEXT,                  -- JSON; NULL: not reported
  revised_prompt TEXT,
  attempt        BLOB,                  -- NULL: made here, free
  created_ms     INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX pictures_by_blob ON pictures (blob);

-- What answers a key: a pool of pictures in the order in which they were made.
CREATE TABLE entries (
  key        BLOB NOT NULL,
  seq        INTEGER NOT NULL,
  picture    BLOB NOT NULL,
  tenant     TEXT NOT NULL,
  label      TEXT NOT NULL,             -- what people see in listings: operation and model, never the prompt
  created_ms INTEGER NOT NULL,
  expires_ms INTEGER,                   -- NULL: never
  PRIMARY KEY (key, seq)
) WITHOUT ROWID;
CREATE INDEX entries_by_picture ON entries (picture);

-- Refusals by a content policy, kept briefly so that a repetition is not paid or sent again.
CREATE TABLE refusals (
  key        BLOB PRIMARY KEY,
  provider   TEXT NOT NULL,
  code       TEXT,
  message    TEXT NOT NULL,
  expires_ms INTEGER NOT NULL
) WITHOUT ROWID;

-- One paid call each: reserved -> sending -> (accepted) -> done | refused | failed | unknown.
CREATE TABLE attempts (
  id         BLOB PRIMARY KEY,
  owner      BLOB NOT NULL,             -- the process that runs it, see instances/
  state      TEXT NOT NULL,
  request    BLOB NOT NULL,
  tenant     TEXT NOT NULL,
  api_key    TEXT NOT NULL,
  provider   TEXT NOT NULL,
  model      TEXT NOT NULL,
  purpose    TEXT,
  pictures   INTEGER NOT NULL,
  expected   INTEGER,                   -- NULL: unknown
  fault      TEXT,
  created_ms INTEGER NOT NULL,
  updated_ms INTEGER NOT NULL
) WITHOUT ROWID;
-- Money that is out: under way, or unknown and not yet resolved.
CREATE INDEX attempts_out ON attempts (api_key) WHERE state IN ('reserved', 'sending', 'accepted', 'unknown');

-- The ledger. Rows are appended, never changed; every balance is a sum of its columns.
CREATE TABLE ledger (
  seq       INTEGER PRIMARY KEY AUTOINCREMENT,
  at_ms     INTEGER NOT NULL,
  kind      TEXT NOT NULL CHECK (kind IN ('reserve', 'settle', 'release', 'suspend', 'resolve', 'save')),
  layer     TEXT,                       -- save: which layer saved it
  tenant    TEXT NOT NULL,
  api_key   TEXT NOT NULL,
  provider  TEXT NOT NULL,
  model     TEXT NOT NULL,
  purpose   TEXT,
  request   BLOB NOT NULL,
  attempt   BLOB,
  pictures  INTEGER NOT NULL,
  reserved  INTEGER NOT NULL DEFAULT 0,
  spent     INTEGER NOT NULL DEFAULT 0,
  suspense  INTEGER NOT NULL DEFAULT 0,
  saved     INTEGER NOT NULL DEFAULT 0,
  unpriced  INTEGER NOT NULL DEFAULT 0  -- 1: money moved whose amount nobody knows
);
CREATE UNIQUE INDEX ledger_once ON ledger (attempt, kind) WHERE attempt IS NOT NULL;
CREATE UNIQUE INDEX ledger_one_end ON ledger (attempt) WHERE kind IN ('settle', 'release', 'suspend');
CREATE INDEX ledger_by_key ON ledger (api_key, at_ms);
CREATE TRIGGER ledger_is_append_only_1 BEFORE UPDATE ON ledger BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER ledger_is_append_only_2 BEFORE DELETE ON ledger BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
