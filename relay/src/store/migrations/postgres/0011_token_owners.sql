-- A token belongs to the user who made it, and ends with that user. Those of the command line have no owner. Every token has an
-- end: those that had none get ninety days from this moment.
ALTER TABLE api_tokens ADD COLUMN owner TEXT REFERENCES users (name) ON DELETE CASCADE;
CREATE INDEX api_tokens_by_owner ON api_tokens (owner);
UPDATE api_tokens SET expires_ms = (CAST(extract(epoch FROM now()) AS BIGINT) + 90 * 86400) * 1000 WHERE expires_ms IS NULL;
