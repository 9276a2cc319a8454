-- Times are milliseconds since the Unix epoch; digests are lower-case hexadecimal. These are the tables of SQLite's
-- migrations, by the same names and numbers; texts are compared and sorted octet by octet, as SQLite does, whatever the
-- locale of the database.

-- One row: how often the tables below have changed, and what the last start of the relay knew of itself.
CREATE TABLE meta (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    generation BIGINT NOT NULL,
    public_url TEXT COLLATE "C"
);

INSERT INTO meta (id, generation) VALUES (1, 1);

CREATE TABLE sites (
    site TEXT COLLATE "C" PRIMARY KEY,
    note TEXT COLLATE "C" NOT NULL,
    created_ms BIGINT NOT NULL,
    disabled_ms BIGINT
);

-- Every name under which a site may be asked for: its own, and its aliases. One table, so that the primary key
-- itself keeps sites and aliases apart.
CREATE TABLE names (
    name TEXT COLLATE "C" PRIMARY KEY,
    site TEXT COLLATE "C" NOT NULL REFERENCES sites (site) ON DELETE CASCADE
);

CREATE INDEX names_by_site ON names (site);

-- `seq` counts the keys of a site; times alone could tie.
CREATE TABLE site_keys (
    digest TEXT COLLATE "C" PRIMARY KEY,
    site TEXT COLLATE "C" NOT NULL REFERENCES sites (site) ON DELETE CASCADE,
    seq BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    revoked_ms BIGINT,
    UNIQUE (site, seq)
);
