-- Each absent limit does not limit. The first two are held by each gateway, the third by auth-svc.
ALTER TABLE agent_keys ADD COLUMN requests_per_minute INTEGER;
ALTER TABLE agent_keys ADD COLUMN concurrent_calls INTEGER;
-- Input and output, per UTC day.
ALTER TABLE agent_keys ADD COLUMN tokens_per_day INTEGER;
-- BLAKE3 of the secret before the last rotation; it is good until previous_until (Unix seconds), and kept after that so
-- that its holder is told what became of it.
ALTER TABLE agent_keys ADD COLUMN previous_hash BLOB;
ALTER TABLE agent_keys ADD COLUMN previous_until INTEGER;
-- Unix seconds of the last rotation.
ALTER TABLE agent_keys ADD COLUMN rotated_at INTEGER;

CREATE UNIQUE INDEX agent_keys_previous_hash ON agent_keys (previous_hash) WHERE previous_hash IS NOT NULL;

CREATE TABLE key_usage (
    key_id TEXT    NOT NULL REFERENCES agent_keys (id) ON DELETE CASCADE,
    -- UTC days since 1970-01-01.
    day    INTEGER NOT NULL,
    -- Input and output.
    tokens INTEGER NOT NULL,
    PRIMARY KEY (key_id, day)
) STRICT;

CREATE INDEX key_usage_by_day ON key_usage (day);
