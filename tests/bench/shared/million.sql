-- Measures the statements that read all sites, with a million sites that have a tunnel each at one of forty relays. For a
-- new PostgreSQL database:
--
--   cat relay/src/store/migrations/postgres/*.sql tests/bench/shared/million.sql | psql -d DATABASE
INSERT INTO sites (site, note, created_ms) SELECT 'customer-' || lpad(n::text, 7, '0'), '', 0 FROM generate_series(1, 1000000) AS n;
INSERT INTO relay_runs (run, started_ms, alive_ms, url, lease_ms)
    SELECT lpad(n::text, 24, '0'), 0, 1, 'http://10.0.0.1:8091', 0 FROM generate_series(0, 39) AS n;
INSERT INTO tunnels (session, site, run, instance, slot, agent_version, host, address, opened_ms, link_key)
    SELECT left(md5(n::text), 24), 'customer-' || lpad(n::text, 7, '0'), lpad((n % 40)::text, 24, '0'), md5(n::text), 0, '0.1.0',
    'pbx-' || n, '203.0.113.5', 1764340000000, left(md5(n::text), 16) FROM generate_series(1, 1000000) AS n;
ANALYZE;
SELECT pg_total_relation_size('tunnels') / COUNT(*) AS bytes_of_a_tunnel FROM tunnels;
-- Reads all routes (`ROUTES` in store/routes.rs).
EXPLAIN ANALYZE SELECT tunnels.site, tunnels.session, tunnels.run, tunnels.link_key FROM tunnels
    JOIN relay_runs ON relay_runs.run = tunnels.run WHERE tunnels.closed_ms IS NULL AND tunnels.link_key IS NOT NULL
    AND relay_runs.url IS NOT NULL AND relay_runs.stopped_ms IS NULL AND tunnels.run <> 'own';
-- `CLOSE_ORPHANS` in store/history.rs, which finds no tunnel.
EXPLAIN ANALYZE UPDATE tunnels SET reason = 'gone', closed_ms = COALESCE((SELECT alive_ms FROM relay_runs
    WHERE relay_runs.run = tunnels.run), opened_ms) WHERE closed_ms IS NULL AND run <> 'own' AND NOT EXISTS
    (SELECT 1 FROM relay_runs WHERE relay_runs.run = tunnels.run AND stopped_ms IS NULL AND alive_ms >= 1);
-- `LAST_SEEN` in store/history.rs.
EXPLAIN ANALYZE SELECT site, MAX(COALESCE(closed_ms, opened_ms)) FROM tunnels GROUP BY site;
-- `OPEN_TUNNELS` in store/history.rs, with which every relay reads its own tunnels.
EXPLAIN ANALYZE SELECT session, site FROM tunnels WHERE run = lpad('7', 24, '0') AND closed_ms IS NULL;
