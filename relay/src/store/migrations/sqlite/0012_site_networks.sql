-- Networks from which agents of a site have come: an IPv4 address, or the 64 leading bits of an IPv6 address. A tunnel from
-- another one is an event of the operators.
CREATE TABLE site_networks (
    site TEXT NOT NULL REFERENCES sites (site) ON DELETE CASCADE,
    network TEXT NOT NULL,
    seen_ms BIGINT NOT NULL,
    PRIMARY KEY (site, network)
);

CREATE INDEX tunnels_by_instance ON tunnels (site, instance);
CREATE INDEX tunnels_of_site_open ON tunnels (site, instance) WHERE closed_ms IS NULL;
