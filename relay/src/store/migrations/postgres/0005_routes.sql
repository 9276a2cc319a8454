-- Where other relays reach the one of a run, and when it last renewed its lease; nothing for a relay that stands alone.
ALTER TABLE relay_runs ADD COLUMN url TEXT COLLATE "C";
ALTER TABLE relay_runs ADD COLUMN lease_ms BIGINT;

-- The key by which the agent of a tunnel makes its links.
ALTER TABLE tunnels ADD COLUMN link_key TEXT COLLATE "C";

-- Tunnels that live are few beside those that were.
CREATE INDEX tunnels_open ON tunnels (run) WHERE closed_ms IS NULL;
