-- A spent refresh token is spent for good: what is known of it outlives its credential, and keeps an older file or backup
-- of the login out after the credential was removed. The table is made anew, for a reference cannot be dropped.
CREATE TABLE spent_tokens_kept (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    -- BLAKE3 of the refresh token. Tokens are random and long: nobody finds one by trying.
    hash          BLOB    NOT NULL UNIQUE,
    -- The credential that had it, which may be gone.
    credential_id TEXT    NOT NULL,
    -- Unix seconds.
    spent_at      INTEGER NOT NULL
) STRICT;

INSERT INTO spent_tokens_kept (id, hash, credential_id, spent_at)
SELECT id, hash, credential_id, spent_at FROM spent_tokens ORDER BY id;

DROP TABLE spent_tokens;

ALTER TABLE spent_tokens_kept RENAME TO spent_tokens;

CREATE INDEX spent_tokens_by_credential ON spent_tokens (credential_id, id);
