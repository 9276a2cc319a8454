-- Times are milliseconds since the Unix epoch; digests are lower-case hexadecimal. The statements keep to what
-- SQLite and PostgreSQL both understand.

-- One row: how often the tables below have changed, and what the last start of the relay knew of itself.
CREATE TABLE meta (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    generation BIGINT NOT NULL,
    public_url TEXT
);

INSERT INTO meta (id, generation) VALUES (1, 1);

CREATE TABLE sites (
    site TEXT PRIMARY KEY,
    note TEXT NOT NULL,
    created_ms BIGINT NOT NULL,
    disabled_ms BIGINT
);

-- Every name under which a site may be asked for: its own, and its aliases. One table, so that the primary key
-- itself keeps sites and aliases apart.
CREATE TABLE names (
    name TEXT PRIMARY KEY,
    site TEXT NOT NULL REFERENCES sites (site) ON DELETE CASCADE
);

CREATE INDEX names_by_site ON names (site);

-- `seq` counts the keys of a site; times alone could tie.
CREATE TABLE site_keys (
    digest TEXT PRIMARY KEY,
    site TEXT NOT NULL REFERENCES sites (site) ON DELETE CASCADE,
    seq BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    revoked_ms BIGINT,
    UNIQUE (site, seq)
);
