-- As migrations/sqlite 0011.
ALTER TABLE drafts ADD COLUMN wish BYTEA NOT NULL DEFAULT decode(repeat('00', 16), 'hex');
ALTER TABLE drafts ALTER COLUMN wish DROP DEFAULT;
ALTER TABLE drafts DROP CONSTRAINT drafts_pkey;
ALTER TABLE drafts ADD PRIMARY KEY (picture, tenant, wish);
