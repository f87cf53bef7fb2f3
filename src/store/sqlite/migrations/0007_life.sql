-- Schema 7: what is destroyed, what is told of it, and how much keys are used.

PRAGMA user_version = 7;

-- Whether all that is in the vault is being destroyed: nobody brings it back any more.
ALTER TABLE vaults ADD COLUMN purging INTEGER NOT NULL DEFAULT 0 CHECK (purging IN (0, 1));

-- The vault's own key-encryption key on the token, and what a version's blob is under; none: the root.
ALTER TABLE vaults ADD COLUMN kek BLOB CHECK (length(kek) = 16);
ALTER TABLE vaults ADD COLUMN kek_check BLOB CHECK (length(kek_check) = 40);
ALTER TABLE versions ADD COLUMN kek BLOB CHECK (length(kek) = 16);

-- A version can be deleted softly, as a key can.
ALTER TABLE versions ADD COLUMN deleted_at INTEGER;
ALTER TABLE versions ADD COLUMN purge_at INTEGER;
-- By their ids, where many have one time.
DROP INDEX keys_due;
CREATE INDEX keys_due ON keys (purge_at, id) WHERE purge_at IS NOT NULL;
CREATE INDEX versions_due ON versions (purge_at, id) WHERE purge_at IS NOT NULL;

-- What was taken out of the budget that the key's policy gives a version.
ALTER TABLE usage ADD COLUMN uses INTEGER NOT NULL DEFAULT 0 CHECK (uses >= 0);

-- The time by which things are destroyed, and by which clock it went on. Sealed, under no head: an older one that is put
-- back only puts destruction off.
CREATE TABLE clock (
    singleton INTEGER PRIMARY KEY CHECK (singleton = 1),
    revision  INTEGER NOT NULL CHECK (revision > 0),
    seal      BLOB    NOT NULL CHECK (length(seal) = 32),
    at        INTEGER NOT NULL,
    boot      BLOB    NOT NULL CHECK (length(boot) = 16),
    elapsed_s INTEGER NOT NULL CHECK (elapsed_s >= 0)
) STRICT;

-- When versions were last used, and how often since that is counted. Not sealed, and a little behind: a help for those who
-- tidy up. What was done is in the audit log. It goes with its version, whoever takes that away while a use is noted.
CREATE TABLE activity (
    version BLOB    NOT NULL PRIMARY KEY CHECK (length(version) = 16) REFERENCES versions (id) ON DELETE CASCADE,
    used_at INTEGER NOT NULL,
    uses    INTEGER NOT NULL CHECK (uses >= 0)
) STRICT, WITHOUT ROWID;
CREATE TABLE activity_since (
    singleton INTEGER PRIMARY KEY CHECK (singleton = 1),
    at        INTEGER NOT NULL
) STRICT;
INSERT INTO activity_since (singleton, at) VALUES (1, unixepoch());

-- Events, in the order of their changes: written with the change that they tell of, sealed, kept for a while.
CREATE TABLE events (
    position   INTEGER NOT NULL CHECK (position >= 0),
    number     INTEGER NOT NULL CHECK (number >= 0),
    id         BLOB    NOT NULL UNIQUE CHECK (length(id) = 16),
    revision   INTEGER NOT NULL CHECK (revision = 1),
    seal       BLOB    NOT NULL CHECK (length(seal) = 32),
    kept_at    INTEGER NOT NULL,        -- milliseconds by the database's clock
    type       TEXT    NOT NULL,
    happened_at INTEGER NOT NULL,
    vault      TEXT    NOT NULL,
    key        TEXT    NOT NULL,        -- empty: of the vault itself
    version    BLOB    CHECK (length(version) = 16),
    principal  TEXT    NOT NULL,
    due_at     INTEGER,                 -- when it expires, or is destroyed
    detail     TEXT    NOT NULL,
    PRIMARY KEY (position, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX events_kept ON events (kept_at);
-- Up to where events were forgotten: who comes from before it is told so. Those kept by that time were looked at, and are
-- not looked at again: what a delivery held back goes with the delivery.
CREATE TABLE events_forgotten (
    singleton INTEGER PRIMARY KEY CHECK (singleton = 1),
    position  INTEGER NOT NULL,
    number    INTEGER NOT NULL,
    kept_at   INTEGER NOT NULL          -- milliseconds by the database's clock
) STRICT;
INSERT INTO events_forgotten (singleton, position, number, kept_at) VALUES (1, 0, 0, 0);

-- How far the deliveries of a webhook have been queued, and those that are still to be made. Not sealed: who writes here can
-- hold deliveries up or repeat them, and can make none up.
CREATE TABLE webhooks (
    name     TEXT    NOT NULL PRIMARY KEY,
    position INTEGER NOT NULL CHECK (position >= 0),
    number   INTEGER NOT NULL CHECK (number >= 0)
) STRICT, WITHOUT ROWID;
CREATE TABLE deliveries (
    webhook  TEXT    NOT NULL REFERENCES webhooks (name),
    position INTEGER NOT NULL CHECK (position >= 0),
    number   INTEGER NOT NULL CHECK (number >= 0),
    attempts INTEGER NOT NULL CHECK (attempts >= 0),
    next_at  INTEGER,                   -- milliseconds by the database's clock; absent: a dead letter
    tried_at INTEGER,
    failure  TEXT    NOT NULL,
    PRIMARY KEY (webhook, position, number),
    FOREIGN KEY (position, number) REFERENCES events (position, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX deliveries_due ON deliveries (webhook, next_at);
CREATE INDEX deliveries_dead ON deliveries (webhook, position, number) WHERE next_at IS NULL;
CREATE INDEX deliveries_of_event ON deliveries (position, number);
