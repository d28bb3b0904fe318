-- The same as migrations/sqlite 0001 and 0002, in which every column is explained. All numbers are 64-bit.

CREATE TABLE meta (
  name  TEXT PRIMARY KEY,
  value BIGINT NOT NULL
);
INSERT INTO meta (name, value) VALUES ('purge_epoch', 0);

CREATE TABLE pictures (
  id             BYTEA PRIMARY KEY,
  tenant         TEXT NOT NULL,
  blob           BYTEA NOT NULL,
  bytes          BIGINT NOT NULL,
  format         TEXT NOT NULL,
  width          BIGINT NOT NULL,
  height         BIGINT NOT NULL,
  provider       TEXT NOT NULL,
  model          TEXT NOT NULL,
  simulated      BIGINT NOT NULL,
  cost           BIGINT,
  usage          TEXT,
  revised_prompt TEXT,
  attempt        BYTEA,
  created_ms     BIGINT NOT NULL
);
CREATE INDEX pictures_by_blob ON pictures (blob);

CREATE TABLE entries (
  key        BYTEA NOT NULL,
  seq        BIGINT NOT NULL,
  picture    BYTEA NOT NULL,
  tenant     TEXT NOT NULL,
  label      TEXT NOT NULL,
  created_ms BIGINT NOT NULL,
  expires_ms BIGINT,
  route      TEXT NOT NULL DEFAULT '',
  PRIMARY KEY (key, seq)
);
CREATE INDEX entries_by_picture ON entries (picture);
CREATE INDEX entries_by_expiry ON entries (expires_ms) WHERE expires_ms IS NOT NULL;

CREATE TABLE tags (
  tag     TEXT NOT NULL,
  picture BYTEA NOT NULL,
  PRIMARY KEY (tag, picture)
);
CREATE INDEX tags_by_picture ON tags (picture);

CREATE TABLE refusals (
  key        BYTEA PRIMARY KEY,
  provider   TEXT NOT NULL,
  code       TEXT,
  message    TEXT NOT NULL,
  expires_ms BIGINT NOT NULL
);

CREATE TABLE instances (
  id         BYTEA PRIMARY KEY,
  started_ms BIGINT NOT NULL,
  expires_ms BIGINT NOT NULL
);

CREATE TABLE attempts (
  id         BYTEA PRIMARY KEY,
  owner      BYTEA NOT NULL,
  state      TEXT NOT NULL,
  request    BYTEA NOT NULL,
  tenant     TEXT NOT NULL,
  api_key    TEXT NOT NULL,
  provider   TEXT NOT NULL,
  model      TEXT NOT NULL,
  purpose    TEXT,
  pictures   BIGINT NOT NULL,
  expected   BIGINT,
  fault      TEXT,
  created_ms BIGINT NOT NULL,
  updated_ms BIGINT NOT NULL,
  key        BYTEA,
  joinable   BIGINT NOT NULL DEFAULT 0,
  route      TEXT NOT NULL DEFAULT '',
  job        TEXT
);
CREATE INDEX attempts_out ON attempts (state, key) WHERE state IN ('reserved', 'sending', 'accepted', 'unknown');
CREATE INDEX attempts_of_request ON attempts (request);

CREATE TABLE ledger (
  seq       BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at_ms     BIGINT NOT NULL,
  kind      TEXT NOT NULL CHECK (kind IN ('reserve', 'settle', 'release', 'suspend', 'resolve', 'save')),
  layer     TEXT,
  tenant    TEXT NOT NULL,
  api_key   TEXT NOT NULL,
  provider  TEXT NOT NULL,
  model     TEXT NOT NULL,
  purpose   TEXT,
  request   BYTEA NOT NULL,
  attempt   BYTEA,
  pictures  BIGINT NOT NULL,
  reserved  BIGINT NOT NULL DEFAULT 0,
  spent     BIGINT NOT NULL DEFAULT 0,
  suspense  BIGINT NOT NULL DEFAULT 0,
  saved     BIGINT NOT NULL DEFAULT 0,
  unpriced  BIGINT NOT NULL DEFAULT 0,
  route     TEXT NOT NULL DEFAULT ''
);
CREATE UNIQUE INDEX ledger_once ON ledger (attempt, kind) WHERE attempt IS NOT NULL;
CREATE UNIQUE INDEX ledger_one_end ON ledger (attempt) WHERE kind IN ('settle', 'release', 'suspend');
CREATE INDEX ledger_by_time ON ledger (at_ms);
CREATE FUNCTION ledger_is_append_only() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN RAISE EXCEPTION 'the ledger is append-only'; END $$;
CREATE TRIGGER ledger_is_append_only BEFORE UPDATE OR DELETE ON ledger
  FOR EACH ROW EXECUTE FUNCTION ledger_is_append_only();
CREATE TRIGGER ledger_is_not_emptied BEFORE TRUNCATE ON ledger
  FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();

CREATE TABLE spending (
  scope    TEXT NOT NULL,
  name     TEXT NOT NULL,
  hour     BIGINT NOT NULL,
  spent    BIGINT NOT NULL,
  pictures BIGINT NOT NULL,
  PRIMARY KEY (scope, name, hour)
);

CREATE TABLE blobs (
  digest BYTEA PRIMARY KEY,
  name   TEXT NOT NULL UNIQUE,
  bytes  BIGINT NOT NULL
);
CREATE TABLE trash (
  name     TEXT PRIMARY KEY,
  since_ms BIGINT NOT NULL
);

CREATE TABLE replies (
  id          BYTEA PRIMARY KEY,
  tenant      TEXT NOT NULL,
  idempotency TEXT,
  fingerprint BYTEA NOT NULL,
  owner       BYTEA NOT NULL,
  answer      TEXT,
  created_ms  BIGINT NOT NULL,
  expires_ms  BIGINT NOT NULL
);
CREATE UNIQUE INDEX replies_by_idempotency ON replies (tenant, idempotency) WHERE idempotency IS NOT NULL;
CREATE INDEX replies_by_expiry ON replies (expires_ms);
