-- Drafts that can be made final. What was asked for is kept until they expire, the prompt included; after that, for a
-- while, only that there was one.
CREATE TABLE drafts (
  picture    BLOB NOT NULL,
  tenant     TEXT NOT NULL,
  request    BLOB NOT NULL,              -- the request that made or found the draft
  saved      INTEGER NOT NULL,           -- noted as saved because its final is not made
  finalized  INTEGER NOT NULL DEFAULT 0, -- 1: it was made, and that was taken back
  expires_ms INTEGER NOT NULL,
  papers     TEXT,                       -- JSON; NULL: expired
  PRIMARY KEY (picture, tenant)
) WITHOUT ROWID;
CREATE INDEX drafts_by_expiry ON drafts (expires_ms);
-- The pictures that were sent with the request of a draft, in their order; a mask is the last.
CREATE TABLE draft_inputs (
  request    BLOB NOT NULL,
  place      INTEGER NOT NULL,
  bytes      BLOB NOT NULL,
  expires_ms INTEGER NOT NULL,
  PRIMARY KEY (request, place)
);
