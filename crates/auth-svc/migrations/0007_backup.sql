-- What is said of the database as a whole: 'database_id', random, made at the first open, by which a backup knows the
-- database it came from; 'checked_at', Unix milliseconds, written to find out whether the disk still takes writes.
CREATE TABLE meta (
    name    TEXT NOT NULL PRIMARY KEY,
    value   TEXT NOT NULL
) STRICT;

-- 1: restored from a backup; its refresh token may be spent by now and is not used until an operator confirms it.
ALTER TABLE credentials ADD COLUMN unconfirmed INTEGER NOT NULL DEFAULT 0;
