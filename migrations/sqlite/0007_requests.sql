-- What came of each request, and why so: for people who ask. Nothing is decided by it, and no money is in it.
CREATE TABLE requests (
  id     BLOB NOT NULL UNIQUE,
  tenant TEXT NOT NULL,
  at_ms  INTEGER NOT NULL,
  parent BLOB,                          -- the request that it goes on with, such as the draft of a final
  story  TEXT NOT NULL                  -- JSON, see domain/story.rs
);
CREATE INDEX requests_by_time ON requests (at_ms);
CREATE INDEX requests_by_parent ON requests (parent) WHERE parent IS NOT NULL;
