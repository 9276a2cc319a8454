-- What happened: runs of relays, tunnels, traffic, and the audit. Nothing here decides about requests.

-- One row for each run of a relay. A run that ended without saying so is known by its last sign of life.
CREATE TABLE relay_runs (
    run TEXT COLLATE "C" PRIMARY KEY,
    started_ms BIGINT NOT NULL,
    alive_ms BIGINT NOT NULL,
    stopped_ms BIGINT
);

-- One row for each tunnel whose agent introduced itself.
CREATE TABLE tunnels (
    session TEXT COLLATE "C" PRIMARY KEY,
    site TEXT COLLATE "C" NOT NULL REFERENCES sites (site) ON DELETE CASCADE,
    run TEXT COLLATE "C" NOT NULL,
    instance TEXT COLLATE "C" NOT NULL,
    slot BIGINT NOT NULL,
    agent_version TEXT COLLATE "C" NOT NULL,
    host TEXT COLLATE "C" NOT NULL,
    address TEXT COLLATE "C" NOT NULL,
    opened_ms BIGINT NOT NULL,
    closed_ms BIGINT,
    reason TEXT COLLATE "C"
);

CREATE INDEX tunnels_by_site ON tunnels (site, opened_ms);
CREATE INDEX tunnels_by_run ON tunnels (run, closed_ms);

CREATE TABLE traffic (
    site TEXT COLLATE "C" NOT NULL REFERENCES sites (site) ON DELETE CASCADE,
    hour_ms BIGINT NOT NULL,
    searches BIGINT NOT NULL,
    errors BIGINT NOT NULL,
    bytes BIGINT NOT NULL,
    PRIMARY KEY (site, hour_ms)
);

-- One row for each search and each delivery. It outlives its site. `call_key` is the call id as ids are compared:
-- in lower case, with dots for underscores. A row without `closed_ms` tells of at least `bytes` octets.
CREATE TABLE audit (
    request_id TEXT COLLATE "C" PRIMARY KEY,
    kind TEXT COLLATE "C" NOT NULL,
    site TEXT COLLATE "C" NOT NULL,
    opened_ms BIGINT NOT NULL,
    closed_ms BIGINT,
    tenant TEXT COLLATE "C",
    call_id TEXT COLLATE "C",
    call_key TEXT COLLATE "C",
    recording TEXT COLLATE "C",
    user_name TEXT COLLATE "C",
    client TEXT COLLATE "C",
    user_agent TEXT COLLATE "C",
    status BIGINT NOT NULL,
    found BIGINT,
    range_start BIGINT,
    bytes BIGINT NOT NULL,
    size BIGINT,
    bytes_per_second BIGINT,
    outcome TEXT COLLATE "C" NOT NULL
);

CREATE INDEX audit_by_time ON audit (opened_ms);
CREATE INDEX audit_by_site ON audit (site, opened_ms);
CREATE INDEX audit_by_call ON audit (call_key, opened_ms);

-- Calls that were erased: SHA-256 of `call_key`. What was still on its way to the audit then is not written.
CREATE TABLE erasures (
    call_digest TEXT COLLATE "C" PRIMARY KEY,
    erased_ms BIGINT NOT NULL
);

-- Up to when client addresses are pseudonyms, and the secret that makes them.
ALTER TABLE meta ADD COLUMN pseudonyms_until_ms BIGINT NOT NULL DEFAULT 0;
ALTER TABLE meta ADD COLUMN pseudonym_key TEXT COLLATE "C";

-- The state of each site that was last announced to the webhook: whoever changes a row announces it, so that several
-- relays on one database announce a change once.
CREATE TABLE announcements (
    site TEXT COLLATE "C" PRIMARY KEY REFERENCES sites (site) ON DELETE CASCADE,
    state TEXT COLLATE "C" NOT NULL
);
