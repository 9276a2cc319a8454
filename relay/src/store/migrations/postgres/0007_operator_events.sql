-- Who changed what, and who read the audit: written with the change that it records. It outlives its site, its user and
-- its token. `told_ms` says when the event was handed to the webhook.
CREATE TABLE operator_events (
    id TEXT COLLATE "C" PRIMARY KEY,
    at_ms BIGINT NOT NULL,
    actor_kind TEXT COLLATE "C" NOT NULL,
    actor TEXT COLLATE "C" NOT NULL,
    owner TEXT COLLATE "C",
    address TEXT COLLATE "C",
    action TEXT COLLATE "C" NOT NULL,
    site TEXT COLLATE "C",
    subject TEXT COLLATE "C",
    before_json TEXT COLLATE "C",
    after_json TEXT COLLATE "C",
    reason TEXT COLLATE "C",
    told_ms BIGINT
);

CREATE INDEX operator_events_by_time ON operator_events (at_ms);
CREATE INDEX operator_events_by_site ON operator_events (site, at_ms);
CREATE INDEX operator_events_untold ON operator_events (at_ms) WHERE told_ms IS NULL;
