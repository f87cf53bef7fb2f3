-- Schema 4: what goes out and comes back, and our own keys, whose place others take. It is what SQLite has as its schema 8,
-- and its comments hold here too. The release before can go on with it until a KEK, the root or the log key was rotated: there it finds a
-- seal that it cannot check, and refuses. Rotate the first once no replica is older.

ALTER TABLE vaults ADD COLUMN retired_keks text COLLATE "C" NOT NULL DEFAULT '', ADD COLUMN kek_since bigint;
CREATE INDEX versions_by_kek ON versions (kek) WHERE kek IS NOT NULL;
ALTER TABLE instance ADD COLUMN root bytea CHECK (length(root) = 56), ADD COLUMN renewal bytea;
ALTER TABLE issuer_keys ADD COLUMN kek bytea CHECK (length(kek) = 16);
ALTER TABLE replicas ADD COLUMN adopted bigint NOT NULL DEFAULT 0 CHECK (adopted >= 0);
ALTER TABLE instance ADD COLUMN log_keys bytea;

CREATE TABLE known (
    vault_id      bytea  NOT NULL REFERENCES vaults (id),
    id            bytea  NOT NULL CHECK (length(id) = 16),
    revision      bigint NOT NULL CHECK (revision > 0),
    seal          bytea  NOT NULL CHECK (length(seal) = 32),
    fate          bigint NOT NULL CHECK (fate BETWEEN 0 AND 3),
    newest        bytea  CHECK (length(newest) = 16),
    last_revision bigint NOT NULL CHECK (last_revision >= 0),
    encryptions   bigint NOT NULL CHECK (encryptions >= 0),
    uses          bigint NOT NULL CHECK (uses >= 0),
    known_at      bigint NOT NULL,
    PRIMARY KEY (vault_id, id)
);
UPDATE strongroom_schema SET version = 4;
