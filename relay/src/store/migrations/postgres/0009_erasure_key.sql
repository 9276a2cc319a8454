-- The key under which erased calls are remembered. Digests without a key give the id back to whoever tries all ids there are, so those
-- that stand here go: what they kept from being written, events on their way when the call was erased, has long arrived.
-- A random UUID has 122 random bits.
ALTER TABLE meta ADD COLUMN erasure_key TEXT COLLATE "C";
UPDATE meta SET erasure_key = replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', '');
DELETE FROM erasures;
