-- As migrations/sqlite 0005, in which every column is explained.
CREATE TABLE price_changes (
  seq          BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at_ms        BIGINT NOT NULL,
  effective_ms BIGINT NOT NULL,
  provider     TEXT NOT NULL,
  model        TEXT NOT NULL,
  quality      TEXT NOT NULL DEFAULT '',
  old          TEXT NOT NULL,
  new          TEXT NOT NULL,
  source       TEXT NOT NULL,
  certainty    TEXT NOT NULL
);
CREATE INDEX price_changes_by_model ON price_changes (provider, model, source, quality, seq);
CREATE FUNCTION price_changes_are_append_only() RETURNS trigger LANGUAGE plpgsql AS
  $$ BEGIN RAISE EXCEPTION 'the history of prices is append-only'; END $$;
CREATE TRIGGER price_changes_are_append_only BEFORE UPDATE OR DELETE ON price_changes
  FOR EACH ROW EXECUTE FUNCTION price_changes_are_append_only();
CREATE TRIGGER price_changes_are_not_emptied BEFORE TRUNCATE ON price_changes
  FOR EACH STATEMENT EXECUTE FUNCTION price_changes_are_append_only();

CREATE TABLE price_accuracy (
  day      BIGINT NOT NULL,
  provider TEXT NOT NULL,
  model    TEXT NOT NULL,
  quality  TEXT NOT NULL,
  calls    BIGINT NOT NULL,
  bound    BIGINT NOT NULL,
  estimate BIGINT NOT NULL,
  billed   BIGINT NOT NULL,
  missed   BIGINT NOT NULL,
  PRIMARY KEY (day, provider, model, quality)
);

CREATE TABLE alerts (
  seq     BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  at_ms   BIGINT NOT NULL,
  kind    TEXT NOT NULL,
  subject TEXT NOT NULL,
  message TEXT NOT NULL,
  tries   BIGINT NOT NULL DEFAULT 0,
  next_ms BIGINT,
  told_ms BIGINT
);
CREATE INDEX alerts_by_subject ON alerts (kind, subject, at_ms);
CREATE INDEX alerts_to_tell ON alerts (next_ms) WHERE next_ms IS NOT NULL;
