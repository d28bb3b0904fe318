-- Several processes and machines: who is alive, what is under way for which key, where bytes lie; and what
-- budgets, idempotent answers and retention need.

-- A process that may do paid work, and until when the others believe it. An attempt whose owner is not in
-- here has nobody who would finish it; a process that finds itself gone is nobody any more.
CREATE TABLE instances (
  id         BLOB PRIMARY KEY,
  started_ms INTEGER NOT NULL,
  expires_ms INTEGER NOT NULL
) WITHOUT ROWID;

ALTER TABLE attempts ADD COLUMN key BLOB;                            -- what it is to answer; NULL: made before this column was
ALTER TABLE attempts ADD COLUMN joinable INTEGER NOT NULL DEFAULT 0; -- 1: others may wait for its pictures
ALTER TABLE attempts ADD COLUMN route TEXT NOT NULL DEFAULT '';
ALTER TABLE attempts ADD COLUMN job TEXT;                            -- the provider's name for it, once accepted
DROP INDEX attempts_out;
-- Money that is out: under way, or unknown and not yet resolved. Never many.
CREATE INDEX attempts_out ON attempts (state, key) WHERE state IN ('reserved', 'sending', 'accepted', 'unknown');
CREATE INDEX attempts_of_request ON attempts (request);

ALTER TABLE ledger ADD COLUMN route TEXT NOT NULL DEFAULT '';

-- What was spent, per hour and per whom, so that a budget is a sum of few rows. Always the sums of the ledger.
CREATE TABLE spending (
  scope    TEXT NOT NULL,               -- key, tenant, route or provider
  name     TEXT NOT NULL,
  hour     INTEGER NOT NULL,            -- hours since the Unix epoch
  spent    INTEGER NOT NULL CHECK (typeof(spent) = 'integer'),
  pictures INTEGER NOT NULL,
  PRIMARY KEY (scope, name, hour)
) WITHOUT ROWID;
INSERT INTO spending SELECT 'key', api_key, at_ms / 3600000, sum(spent), sum(pictures) FROM ledger
  WHERE kind IN ('settle', 'resolve') AND (spent <> 0 OR unpriced) GROUP BY 2, 3;
INSERT INTO spending SELECT 'tenant', tenant, at_ms / 3600000, sum(spent), sum(pictures) FROM ledger
  WHERE kind IN ('settle', 'resolve') AND (spent <> 0 OR unpriced) GROUP BY 2, 3;
INSERT INTO spending SELECT 'provider', provider, at_ms / 3600000, sum(spent), sum(pictures) FROM ledger
  WHERE kind IN ('settle', 'resolve') AND (spent <> 0 OR unpriced) GROUP BY 2, 3;

-- Where the bytes of a content hash lie. A name is never used twice, so who deletes one deletes nobody else's.
CREATE TABLE blobs (
  digest BLOB PRIMARY KEY,
  name   TEXT NOT NULL UNIQUE,
  bytes  INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO blobs SELECT blob, substr(lower(hex(blob)), 1, 2) || '/' || lower(hex(blob)), max(bytes) FROM pictures GROUP BY blob;
-- Names that nothing refers to and nothing ever will: to be deleted.
CREATE TABLE trash (
  name     TEXT PRIMARY KEY,
  since_ms INTEGER NOT NULL
) WITHOUT ROWID;

ALTER TABLE entries ADD COLUMN route TEXT NOT NULL DEFAULT '';
CREATE INDEX entries_by_expiry ON entries (expires_ms) WHERE expires_ms IS NOT NULL;
CREATE TABLE tags (
  tag     TEXT NOT NULL,
  picture BLOB NOT NULL,
  PRIMARY KEY (tag, picture)
) WITHOUT ROWID;
CREATE INDEX tags_by_picture ON tags (picture);

-- Answers that are kept for who asks again: under an Idempotency-Key, or because the caller did not wait.
CREATE TABLE replies (
  id          BLOB PRIMARY KEY,         -- the request
  tenant      TEXT NOT NULL,
  idempotency TEXT,                     -- the caller's key
  fingerprint BLOB NOT NULL,            -- of what was asked for
  owner       BLOB NOT NULL,            -- the process that answers it
  answer      TEXT,                     -- JSON; NULL: under way
  created_ms  INTEGER NOT NULL,
  expires_ms  INTEGER NOT NULL
) WITHOUT ROWID;
CREATE UNIQUE INDEX replies_by_idempotency ON replies (tenant, idempotency) WHERE idempotency IS NOT NULL;
CREATE INDEX replies_by_expiry ON replies (expires_ms);
