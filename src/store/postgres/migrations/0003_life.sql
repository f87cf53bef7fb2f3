-- Schema 3: what is destroyed, what is told of it, and how much keys are used. It is what SQLite has as its schema 7, and
-- its comments hold here too. The release before can go on with it: what is deleted in new ways is sealed in new ways, so that
-- release does not use it. A vault with a KEK of its own it cannot read, and stops: make the first once no replica is older.

ALTER TABLE vaults ADD COLUMN purging boolean NOT NULL DEFAULT false, ADD COLUMN kek bytea CHECK (length(kek) = 16),
    ADD COLUMN kek_check bytea CHECK (length(kek_check) = 40);
ALTER TABLE versions ADD COLUMN deleted_at bigint, ADD COLUMN purge_at bigint,
    ADD COLUMN kek bytea CHECK (length(kek) = 16);
DROP INDEX keys_due;
CREATE INDEX keys_due ON keys (purge_at, id) WHERE purge_at IS NOT NULL;
CREATE INDEX versions_due ON versions (purge_at, id) WHERE purge_at IS NOT NULL;
ALTER TABLE usage ADD COLUMN uses bigint NOT NULL DEFAULT 0 CHECK (uses >= 0);

CREATE TABLE clock (
    singleton bigint PRIMARY KEY CHECK (singleton = 1),
    revision  bigint NOT NULL CHECK (revision > 0),
    seal      bytea  NOT NULL CHECK (length(seal) = 32),
    at        bigint NOT NULL,
    boot      bytea  NOT NULL CHECK (length(boot) = 16),
    elapsed_s bigint NOT NULL CHECK (elapsed_s >= 0)
);

CREATE TABLE activity (
    version bytea  NOT NULL PRIMARY KEY CHECK (length(version) = 16) REFERENCES versions (id) ON DELETE CASCADE,
    used_at bigint NOT NULL,
    uses    bigint NOT NULL CHECK (uses >= 0)
);
CREATE TABLE activity_since (
    singleton bigint PRIMARY KEY CHECK (singleton = 1),
    at        bigint NOT NULL
);
INSERT INTO activity_since (singleton, at) VALUES (1, extract(epoch FROM now())::bigint);

CREATE TABLE events (
    position   bigint NOT NULL CHECK (position >= 0),
    number     bigint NOT NULL CHECK (number >= 0),
    id         bytea  NOT NULL UNIQUE CHECK (length(id) = 16),
    revision   bigint NOT NULL CHECK (revision = 1),
    seal       bytea  NOT NULL CHECK (length(seal) = 32),
    kept_at    bigint NOT NULL,
    type       text   COLLATE "C" NOT NULL,
    happened_at bigint NOT NULL,
    vault      text   COLLATE "C" NOT NULL,
    key        text   COLLATE "C" NOT NULL,
    version    bytea  CHECK (length(version) = 16),
    principal  text   COLLATE "C" NOT NULL,
    due_at     bigint,
    detail     text   COLLATE "C" NOT NULL,
    PRIMARY KEY (position, number)
);
CREATE INDEX events_kept ON events (kept_at);
CREATE TABLE events_forgotten (
    singleton bigint PRIMARY KEY CHECK (singleton = 1),
    position  bigint NOT NULL,
    number    bigint NOT NULL,
    kept_at   bigint NOT NULL
);
INSERT INTO events_forgotten (singleton, position, number, kept_at) VALUES (1, 0, 0, 0);

CREATE TABLE webhooks (
    name     text   COLLATE "C" NOT NULL PRIMARY KEY,
    position bigint NOT NULL CHECK (position >= 0),
    number   bigint NOT NULL CHECK (number >= 0)
);
CREATE TABLE deliveries (
    webhook  text   COLLATE "C" NOT NULL REFERENCES webhooks (name),
    position bigint NOT NULL CHECK (position >= 0),
    number   bigint NOT NULL CHECK (number >= 0),
    attempts bigint NOT NULL CHECK (attempts >= 0),
    next_at  bigint,
    tried_at bigint,
    failure  text   COLLATE "C" NOT NULL,
    PRIMARY KEY (webhook, position, number),
    FOREIGN KEY (position, number) REFERENCES events (position, number)
);
CREATE INDEX deliveries_due ON deliveries (webhook, next_at);
CREATE INDEX deliveries_dead ON deliveries (webhook, position, number) WHERE next_at IS NULL;
CREATE INDEX deliveries_of_event ON deliveries (position, number);
UPDATE strongroom_schema SET version = 3;
