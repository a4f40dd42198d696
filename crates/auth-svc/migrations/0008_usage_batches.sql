-- Reports of used tokens that were counted: one that comes again, because its answer was lost or auth-svc was started
-- again, is not counted again. Rows are deleted some time after the gateways have given up sending them.
CREATE TABLE usage_batches (
    -- The gateway's own id of the report, a UUID.
    id       TEXT    NOT NULL PRIMARY KEY,
    -- Unix seconds.
    taken_at INTEGER NOT NULL
) STRICT;

CREATE INDEX usage_batches_by_time ON usage_batches (taken_at);
