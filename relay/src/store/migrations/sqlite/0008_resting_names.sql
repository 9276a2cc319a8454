-- Names of sites and aliases that were removed, and which site had them. Nobody else gets such a name for a while.
CREATE TABLE resting_names (
    name TEXT PRIMARY KEY,
    site TEXT NOT NULL,
    removed_ms BIGINT NOT NULL
);
