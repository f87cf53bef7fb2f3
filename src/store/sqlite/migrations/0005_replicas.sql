-- Schema 5: what those who did not make a change hear of it, who serves, and whose turn it is. In a file there is only
-- one who serves; the tables are the same as where there are more.

PRAGMA user_version = 5;

-- Where the next change will stand. One that stands later was committed later.
CREATE TABLE sequence (
    singleton INTEGER PRIMARY KEY CHECK (singleton = 1),
    until     INTEGER NOT NULL CHECK (until > 0)
) STRICT;
INSERT INTO sequence (singleton, until) VALUES (1, 1);

-- How old what a replica knows of a vault may be, in seconds.
ALTER TABLE vaults ADD COLUMN max_staleness INTEGER NOT NULL DEFAULT 1 CHECK (max_staleness BETWEEN 1 AND 60);

-- Where the newest change of the scope stands.
ALTER TABLE heads ADD COLUMN position INTEGER NOT NULL DEFAULT 0 CHECK (position >= 0);
CREATE INDEX heads_by_position ON heads (position, scope, revision);

-- The rows that a head differs by from the one before; forgotten after a while. Not sealed: what comes of them is held
-- against the head. A time here is milliseconds by the database's clock.
CREATE TABLE steps (
    scope    BLOB    NOT NULL CHECK (length(scope) = 16),
    revision INTEGER NOT NULL CHECK (revision > 0),
    at       INTEGER NOT NULL,
    steps    BLOB    NOT NULL,
    PRIMARY KEY (scope, revision)
) STRICT, WITHOUT ROWID;
CREATE INDEX steps_due ON steps (at);

-- There is a row while the store is being filled from another, and when that was not finished.
CREATE TABLE unfinished (
    singleton INTEGER PRIMARY KEY CHECK (singleton = 1)
) STRICT;

-- Replicas: a sealed row of each, and its last sign of life, which is not sealed.
CREATE TABLE replicas (
    id         BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    revision   INTEGER NOT NULL CHECK (revision > 0),
    seal       BLOB    NOT NULL CHECK (length(seal) = 32),
    ordinal    INTEGER NOT NULL UNIQUE CHECK (ordinal >= 0),
    name       TEXT    NOT NULL UNIQUE,
    created_at INTEGER NOT NULL,
    log_size   INTEGER NOT NULL CHECK (log_size >= 0),
    log_root   BLOB    NOT NULL CHECK (length(log_root) = 32),
    closed     INTEGER NOT NULL CHECK (closed IN (0, 1)),
    beat_at    INTEGER,                 -- milliseconds by the database's clock; absent before the first
    heard      INTEGER CHECK (heard >= 0),
    version    TEXT,
    address    TEXT,
    trouble    TEXT
) STRICT;

-- Who may do a piece of scheduled work, and until when. The token grows with every holder.
CREATE TABLE leases (
    work       TEXT    NOT NULL PRIMARY KEY,
    token      INTEGER NOT NULL CHECK (token > 0),
    holder     TEXT    NOT NULL,
    expires_at INTEGER NOT NULL         -- milliseconds by the database's clock
) STRICT, WITHOUT ROWID;
