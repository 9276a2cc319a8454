-- Who changed what, and who read the audit: written with the change that it records. It outlives its site, its user and
-- its token. `told_ms` says when the event was handed to the webhook.
CREATE TABLE operator_events (
    id TEXT PRIMARY KEY,
    at_ms BIGINT NOT NULL,
    actor_kind TEXT NOT NULL,
    actor TEXT NOT NULL,
    owner TEXT,
    address TEXT,
    action TEXT NOT NULL,
    site TEXT,
    subject TEXT,
    before_json TEXT,
    after_json TEXT,
    reason TEXT,
    told_ms BIGINT
);

CREATE INDEX operator_events_by_time ON operator_events (at_ms);
CREATE INDEX operator_events_by_site ON operator_events (site, at_ms);
CREATE INDEX operator_events_untold ON operator_events (at_ms) WHERE told_ms IS NULL;
