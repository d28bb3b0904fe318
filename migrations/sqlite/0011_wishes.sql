-- One picture may be the draft of several requests that differ in what they want of the final.
CREATE TABLE wanted (
  picture    BLOB NOT NULL,
  tenant     TEXT NOT NULL,
  wish       BLOB NOT NULL,              -- names what was asked for; all zeros: from before there were such names
  request    BLOB NOT NULL,              -- the last request that asked for that and made or found the draft
  saved      INTEGER NOT NULL,           -- noted as saved because its final is not made
  finalized  INTEGER NOT NULL DEFAULT 0, -- 1: it was made, and that was taken back
  expires_ms INTEGER NOT NULL,
  papers     TEXT,                       -- JSON; NULL: expired
  PRIMARY KEY (picture, tenant, wish)
) WITHOUT ROWID;
INSERT INTO wanted SELECT picture, tenant, zeroblob(16), request, saved, finalized, expires_ms, papers FROM drafts;
DROP TABLE drafts;
ALTER TABLE wanted RENAME TO drafts;
CREATE INDEX drafts_by_expiry ON drafts (expires_ms);
