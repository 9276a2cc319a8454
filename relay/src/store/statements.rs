//! Every statement of the store, in the dialect that SQLite and PostgreSQL share: `$n` parameters, `BIGINT`
//! milliseconds, `TEXT`, `ON CONFLICT`.

/// Comes first in every change: it takes the write lock before anything is read, so that two writers queue up
/// instead of one of them failing at commit.
pub(super) const BUMP_GENERATION: &str = "UPDATE meta SET generation = generation + 1 WHERE id = 1";
pub(super) const GENERATION: &str = "SELECT generation FROM meta WHERE id = 1";
pub(super) const PUBLIC_URL: &str = "SELECT public_url FROM meta WHERE id = 1";
pub(super) const SET_PUBLIC_URL: &str = "UPDATE meta SET public_url = $1 WHERE id = 1";

pub(super) const SITES: &str = "SELECT site, note, created_ms, disabled_ms FROM sites ORDER BY site";
pub(super) const SITE: &str = "SELECT site, note, created_ms, disabled_ms FROM sites WHERE site = $1";
pub(super) const INSERT_SITE: &str = "INSERT INTO sites (site, note, created_ms) VALUES ($1, $2, $3)";
/// Keeps the time of the first disabling when a disabled site is disabled again.
pub(super) const DISABLE_SITE: &str =
    "UPDATE sites SET disabled_ms = COALESCE(disabled_ms, $2) WHERE site = $1";
pub(super) const ENABLE_SITE: &str = "UPDATE sites SET disabled_ms = NULL WHERE site = $1";
pub(super) const DELETE_SITE: &str = "DELETE FROM sites WHERE site = $1";

pub(super) const NAMES: &str = "SELECT name, site FROM names ORDER BY name";
pub(super) const NAMES_OF_SITE: &str = "SELECT name, site FROM names WHERE site = $1 ORDER BY name";
pub(super) const OWNER_OF_NAME: &str = "SELECT site FROM names WHERE name = $1";
pub(super) const INSERT_NAME: &str =
    "INSERT INTO names (name, site) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING";
/// The name of the site itself is never deleted this way.
pub(super) const DELETE_ALIAS: &str = "DELETE FROM names WHERE name = $1 AND site = $2 AND name <> site";

pub(super) const KEYS: &str = "SELECT digest, site, created_ms, revoked_ms FROM site_keys ORDER BY site, seq";
pub(super) const KEYS_OF_SITE: &str =
    "SELECT digest, site, created_ms, revoked_ms FROM site_keys WHERE site = $1 ORDER BY seq";
pub(super) const INSERT_KEY: &str = "INSERT INTO site_keys (digest, site, seq, created_ms) \
     VALUES ($1, $2, (SELECT COALESCE(MAX(seq), 0) + 1 FROM site_keys WHERE site = $2), $3)";
pub(super) const REVOKE_KEY: &str =
    "UPDATE site_keys SET revoked_ms = $3 WHERE site = $1 AND digest = $2 AND revoked_ms IS NULL";
