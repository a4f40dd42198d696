-- Which egresses may make requests with a credential, as an operator has said: names and labels, a JSON list of texts.
-- Only egresses with one of these; NULL allows all.
ALTER TABLE credentials ADD COLUMN egress_require TEXT;
-- Those with one of these first, in this order; NULL prefers none.
ALTER TABLE credentials ADD COLUMN egress_prefer TEXT;

-- Where requests of an account (workspace) must go, as the provider has told.
CREATE TABLE workspaces (
    account_id TEXT    NOT NULL PRIMARY KEY,
    -- Origin that takes the place of the target's own, as it was told; NULL: none in particular.
    origin     TEXT,
    -- The account's routing override, as it was told; NULL: none.
    routing    TEXT,
    -- Unix milliseconds at which the two were last told; NULL: never.
    learned_ms INTEGER,
    -- Why it could not be asked since; NULL: it could.
    problem    TEXT,
    -- Times in a row that it could not.
    failures   INTEGER NOT NULL DEFAULT 0,
    -- Unix milliseconds before which it is not asked again.
    next_ms    INTEGER NOT NULL
) STRICT;
