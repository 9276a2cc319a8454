-- Codes by which sites get their keys: `digest` is SHA-256 of one. A code that was not used goes when it expires or the
-- next one of its site is made; a row that was used stays, and tells from where, and which key was handed out.
-- Without `created_by` the code was made by the command line.
CREATE TABLE enrolments (
    digest TEXT COLLATE "C" PRIMARY KEY,
    site TEXT COLLATE "C" NOT NULL REFERENCES sites (site) ON DELETE CASCADE,
    created_ms BIGINT NOT NULL,
    created_by TEXT COLLATE "C",
    expires_ms BIGINT NOT NULL,
    used_ms BIGINT,
    used_from TEXT COLLATE "C",
    key_digest TEXT COLLATE "C"
);

CREATE INDEX enrolments_by_site ON enrolments (site, created_ms);
