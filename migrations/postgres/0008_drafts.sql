-- As migrations/sqlite 0008.
CREATE TABLE drafts (
  picture    BYTEA NOT NULL,
  tenant     TEXT NOT NULL,
  request    BYTEA NOT NULL,
  saved      BIGINT NOT NULL,
  finalized  BIGINT NOT NULL DEFAULT 0,
  expires_ms BIGINT NOT NULL,
  papers     TEXT,
  PRIMARY KEY (picture, tenant)
);
CREATE INDEX drafts_by_expiry ON drafts (expires_ms);
CREATE TABLE draft_inputs (
  request    BYTEA NOT NULL,
  place      BIGINT NOT NULL,
  bytes      BYTEA NOT NULL,
  expires_ms BIGINT NOT NULL,
  PRIMARY KEY (request, place)
);
