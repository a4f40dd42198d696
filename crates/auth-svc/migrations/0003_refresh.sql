-- Refreshes that are under way, or whose answer was lost. A row is here before the request is sent, and goes in the
-- transaction that stores its answer.
CREATE TABLE refresh_intents (
    credential_id TEXT    NOT NULL PRIMARY KEY REFERENCES credentials (id) ON DELETE CASCADE,
    -- Version of the credential that is refreshed.
    version       INTEGER NOT NULL,
    -- BLAKE3 of the refresh token that is spent.
    spent_hash    BLOB    NOT NULL,
    -- Who sends the request: host, process and a random part.
    owner         TEXT    NOT NULL,
    -- 'sending': a request is under way, or its owner was stopped. 'in_doubt': it ended without an answer.
    state         TEXT    NOT NULL CHECK (state IN ('sending', 'in_doubt')),
    -- Unix milliseconds.
    started_ms    INTEGER NOT NULL,
    -- Unix milliseconds until which nobody else takes it over.
    deadline_ms   INTEGER NOT NULL,
    -- Unix milliseconds of the first request with this token whose answer was lost.
    doubt_ms      INTEGER,
    -- What happened to that request; NULL: its process was stopped.
    doubt_cause   TEXT
) STRICT;

-- One token request at a time for each OAuth client.
CREATE TABLE token_turns (
    client_id   TEXT    NOT NULL PRIMARY KEY,
    owner       TEXT    NOT NULL,
    -- Unix milliseconds.
    deadline_ms INTEGER NOT NULL
) STRICT;

-- Credentials whose refresh fails. No row: it does not.
CREATE TABLE refresh_state (
    credential_id TEXT    NOT NULL PRIMARY KEY REFERENCES credentials (id) ON DELETE CASCADE,
    -- Version that this is about; of another one it says nothing.
    version       INTEGER NOT NULL,
    -- Unix milliseconds of the first failure in a row.
    since_ms      INTEGER NOT NULL,
    -- Failures in a row.
    failures      INTEGER NOT NULL,
    -- Of the last one.
    cause         TEXT    NOT NULL,
    -- Unix milliseconds before which it is not tried again unasked.
    next_ms       INTEGER NOT NULL
) STRICT;
