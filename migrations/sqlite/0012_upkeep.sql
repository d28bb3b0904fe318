-- What a call has made is found by its name, not by looking through all pictures.
CREATE INDEX pictures_by_attempt ON pictures (attempt) WHERE attempt IS NOT NULL;
-- Pictures that are sent with a request are kept once for all drafts of it, under the hash of their hashes in `request`,
-- until the last of these drafts expires.
ALTER TABLE drafts ADD COLUMN inputs BLOB;  -- that hash; NULL: none were sent, or they are kept under the draft's request
CREATE INDEX drafts_by_inputs ON drafts (inputs) WHERE inputs IS NOT NULL;
CREATE INDEX draft_inputs_by_expiry ON draft_inputs (expires_ms, request);
