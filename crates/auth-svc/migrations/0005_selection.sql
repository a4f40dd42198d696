-- How a provider's credentials are chosen, where somebody has said so. Without a row: 'session'.
CREATE TABLE selections (
    provider TEXT NOT NULL PRIMARY KEY,
    -- 'order': the first that can be used, by position. 'session': each session keeps to one of them.
    mode     TEXT NOT NULL CHECK (mode IN ('order', 'session'))
) STRICT;

-- Positions that are not those of arrival are an order that somebody has given.
INSERT INTO selections (provider, mode)
SELECT DISTINCT a.provider, 'order'
FROM credentials AS a JOIN credentials AS b ON a.provider = b.provider
WHERE a.position < b.position AND a.id > b.id;

-- Rests get the window that is used up into their key: limits of several windows can be met at a time. What was written
-- before says no window and no model, and goes on to be good for all.
CREATE TABLE rests_by_window (
    credential_id TEXT    NOT NULL REFERENCES credentials (id) ON DELETE CASCADE,
    -- Upstream model name; '' is all models.
    model         TEXT    NOT NULL,
    kind          TEXT    NOT NULL CHECK (kind IN ('USAGE_LIMIT', 'RATE_LIMITED', 'NOT_ENTITLED')),
    -- Length in seconds of the window that is used up; 0 where there is none, or it is not known.
    window_s      INTEGER NOT NULL DEFAULT 0,
    -- Id of the limit that was met, e.g. 'codex'; '' where there is none, or it is not known.
    limit_id      TEXT    NOT NULL DEFAULT '',
    -- Unix milliseconds at which the limit was last met.
    began_ms      INTEGER NOT NULL DEFAULT 0,
    -- Unix milliseconds.
    until_ms      INTEGER NOT NULL,
    -- Rests of this kind in a row, for the backoff.
    strikes       INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (credential_id, model, kind, window_s, limit_id)
) STRICT;

INSERT INTO rests_by_window (credential_id, model, kind, until_ms, strikes)
SELECT credential_id, model, kind, until_ms, strikes FROM rests;

DROP TABLE rests;
ALTER TABLE rests_by_window RENAME TO rests;

-- How much of a credential's quota is used, as the provider told it last. A window is known by its length, never by the
-- place at which it was told.
CREATE TABLE quota_windows (
    credential_id TEXT    NOT NULL REFERENCES credentials (id) ON DELETE CASCADE,
    -- Id of the limit, e.g. 'codex'.
    limit_id      TEXT    NOT NULL,
    -- Length in seconds; 0 where the provider does not say.
    window_s      INTEGER NOT NULL,
    used_percent  REAL    NOT NULL,
    -- Unix seconds; NULL where the provider does not say.
    resets_at     INTEGER,
    -- The limit's name for people, where the provider gives one.
    limit_name    TEXT,
    -- Unix milliseconds at which it was told.
    observed_ms   INTEGER NOT NULL,
    PRIMARY KEY (credential_id, limit_id, window_s)
) STRICT;
