-- Who may look: users, their sessions at browsers, and API tokens. `all_sites` and `playback` are 0 or 1. A site that
-- is removed leaves every scope, and another one of the same name does not come back into it.
CREATE TABLE users (
    name TEXT COLLATE "C" PRIMARY KEY,
    role TEXT COLLATE "C" NOT NULL,
    all_sites BIGINT NOT NULL,
    playback BIGINT NOT NULL,
    password TEXT COLLATE "C" NOT NULL,
    created_ms BIGINT NOT NULL,
    password_ms BIGINT NOT NULL,
    login_ms BIGINT
);

CREATE TABLE user_sites (
    name TEXT COLLATE "C" NOT NULL REFERENCES users (name) ON DELETE CASCADE,
    site TEXT COLLATE "C" NOT NULL REFERENCES sites (site) ON DELETE CASCADE,
    PRIMARY KEY (name, site)
);

CREATE INDEX user_sites_by_site ON user_sites (site);

-- `digest` is SHA-256 of the secret in the cookie.
CREATE TABLE user_sessions (
    digest TEXT COLLATE "C" PRIMARY KEY,
    name TEXT COLLATE "C" NOT NULL REFERENCES users (name) ON DELETE CASCADE,
    created_ms BIGINT NOT NULL,
    seen_ms BIGINT NOT NULL
);

CREATE INDEX user_sessions_by_name ON user_sessions (name);

CREATE TABLE api_tokens (
    name TEXT COLLATE "C" PRIMARY KEY,
    digest TEXT COLLATE "C" NOT NULL UNIQUE,
    role TEXT COLLATE "C" NOT NULL,
    all_sites BIGINT NOT NULL,
    playback BIGINT NOT NULL,
    created_ms BIGINT NOT NULL,
    expires_ms BIGINT,
    used_ms BIGINT
);

CREATE TABLE api_token_sites (
    name TEXT COLLATE "C" NOT NULL REFERENCES api_tokens (name) ON DELETE CASCADE,
    site TEXT COLLATE "C" NOT NULL REFERENCES sites (site) ON DELETE CASCADE,
    PRIMARY KEY (name, site)
);

CREATE INDEX api_token_sites_by_site ON api_token_sites (site);

-- At most one row: the link by which the first user is made.
CREATE TABLE setup_link (
    id BIGINT PRIMARY KEY CHECK (id = 1),
    digest TEXT COLLATE "C" NOT NULL,
    expires_ms BIGINT NOT NULL
);
