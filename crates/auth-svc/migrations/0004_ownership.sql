-- Unix seconds at which the credential's ownership was handed to another program by an export; NULL while it is ours.
ALTER TABLE credentials ADD COLUMN exported_at INTEGER;

-- Refresh tokens that were spent, or replaced by others: whoever brings one of them back brings an older state of the
-- login.
CREATE TABLE spent_tokens (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    -- BLAKE3 of the refresh token. Tokens are random and long: nobody finds one by trying.
    hash          BLOB    NOT NULL UNIQUE,
    credential_id TEXT    NOT NULL REFERENCES credentials (id) ON DELETE CASCADE,
    -- Unix seconds.
    spent_at      INTEGER NOT NULL
) STRICT;

CREATE INDEX spent_tokens_by_credential ON spent_tokens (credential_id, id);
