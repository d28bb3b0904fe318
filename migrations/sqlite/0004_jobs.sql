-- Jobs that a provider has accepted: whoever finds one whose process is gone asks for it, instead of giving it up.
ALTER TABLE attempts ADD COLUMN papers TEXT;  -- JSON: what it takes to end it, once accepted; neither prompt nor picture
ALTER TABLE replies ADD COLUMN stop INTEGER NOT NULL DEFAULT 0; -- 1: its caller does not want it any more
