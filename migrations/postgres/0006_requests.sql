-- As migrations/sqlite 0007.
CREATE TABLE requests (
  id     BYTEA PRIMARY KEY,
  tenant TEXT NOT NULL,
  at_ms  BIGINT NOT NULL,
  parent BYTEA,
  story  TEXT NOT NULL
);
CREATE INDEX requests_by_time ON requests (at_ms);
CREATE INDEX requests_by_parent ON requests (parent) WHERE parent IS NOT NULL;
