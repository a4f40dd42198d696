-- One row, sealed with the database key: tells a wrong key from a damaged row.
CREATE TABLE vault_canary (
    id      INTEGER PRIMARY KEY CHECK (id = 1),
    key_id  TEXT NOT NULL,
    sealed  BLOB NOT NULL
) STRICT;

-- BLOB columns hold key id, nonce and ciphertext (src/vault.rs).
CREATE TABLE credentials (
    id                TEXT    NOT NULL PRIMARY KEY,
    label             TEXT    NOT NULL UNIQUE,
    provider          TEXT    NOT NULL,
    kind              TEXT    NOT NULL CHECK (kind IN ('oauth', 'api-key')),
    -- Order within the provider, lowest first.
    position          INTEGER NOT NULL,
    issuer            TEXT,
    client_id         TEXT,
    account_id        TEXT,
    email             TEXT,
    plan              TEXT,
    user_id           TEXT,
    fedramp           INTEGER NOT NULL DEFAULT 0,
    source            TEXT    NOT NULL,
    profile           TEXT,
    borrowed          INTEGER NOT NULL DEFAULT 0,
    -- Counts every change of the secrets.
    version           INTEGER NOT NULL DEFAULT 1,
    access_token      BLOB,
    refresh_token     BLOB,
    id_token          BLOB,
    api_key           BLOB,
    extra             BLOB,
    -- Set by an import that could not open the secrets: why.
    undecryptable     TEXT,
    -- Unix seconds.
    access_expires_at INTEGER,
    last_refresh      INTEGER,
    -- The version that a refresh after a rejection has brought.
    recovery_version  INTEGER,
    -- Not used while its version is latch_version: 'needs_login' or 'rejected'.
    latch             TEXT,
    latch_version     INTEGER,
    latch_detail      TEXT,
    created_at        INTEGER NOT NULL
) STRICT;

CREATE INDEX credentials_by_provider ON credentials (provider, position);

-- Times in which a credential is not used.
CREATE TABLE rests (
    credential_id TEXT    NOT NULL REFERENCES credentials (id) ON DELETE CASCADE,
    -- Upstream model name; '' is all models.
    model         TEXT    NOT NULL,
    kind          TEXT    NOT NULL CHECK (kind IN ('USAGE_LIMIT', 'RATE_LIMITED', 'NOT_ENTITLED')),
    -- Unix milliseconds.
    until_ms      INTEGER NOT NULL,
    -- Rests of this kind in a row, for the backoff.
    strikes       INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (credential_id, model, kind)
) STRICT;

CREATE TABLE agent_keys (
    id          TEXT    NOT NULL PRIMARY KEY,
    name        TEXT    NOT NULL,
    agent       TEXT    NOT NULL,
    -- First characters, to recognise it.
    prefix      TEXT    NOT NULL,
    -- BLAKE3 of the whole key.
    hash        BLOB    NOT NULL UNIQUE,
    -- JSON arrays of strings; empty allows all.
    models      TEXT    NOT NULL,
    credentials TEXT    NOT NULL,
    -- Unix seconds.
    created_at  INTEGER NOT NULL,
    expires_at  INTEGER,
    revoked_at  INTEGER,
    last_used_at INTEGER
) STRICT;

CREATE UNIQUE INDEX agent_keys_live_name ON agent_keys (name) WHERE revoked_at IS NULL;
