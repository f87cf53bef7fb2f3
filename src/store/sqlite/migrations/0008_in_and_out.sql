-- Schema 8: what goes out and comes back, and our own keys, whose place others take.

PRAGMA user_version = 8;

-- The key-encryption keys of a vault before the present one, as `{id}:{seconds}` with spaces between, and since when that
-- is the present one. What is under a retired one is asked before it is destroyed.
ALTER TABLE vaults ADD COLUMN retired_keks TEXT NOT NULL DEFAULT '';
ALTER TABLE vaults ADD COLUMN kek_since INTEGER;
CREATE INDEX versions_by_kek ON versions (kek) WHERE kek IS NOT NULL;

-- The root, where it was made in place of another: CKA_ID and proof. And one that is put in the place of another, while that
-- lasts, as JSON.
ALTER TABLE instance ADD COLUMN root BLOB CHECK (length(root) = 56);
ALTER TABLE instance ADD COLUMN renewal BLOB;
-- What an issuer's key is under; none: the root of `init`.
ALTER TABLE issuer_keys ADD COLUMN kek BLOB CHECK (length(kek) = 16);
-- By which revision of the instance's row the workers of a replica go.
ALTER TABLE replicas ADD COLUMN adopted INTEGER NOT NULL DEFAULT 0 CHECK (adopted >= 0);
-- The CKA_ID of the log key, where it was made in place of another; one whose place it is taking, and those before. As JSON.
ALTER TABLE instance ADD COLUMN log_keys BLOB;

-- What is known of keys that have backups, and of their versions that are gone: so that a backup that is restored brings
-- nothing back that is older, and no counter of encryptions goes backwards. It goes with its vault.
CREATE TABLE known (
    vault_id      BLOB    NOT NULL REFERENCES vaults (id),
    id            BLOB    NOT NULL CHECK (length(id) = 16),     -- of the key, or of the version
    revision      INTEGER NOT NULL CHECK (revision > 0),
    seal          BLOB    NOT NULL CHECK (length(seal) = 32),
    fate          INTEGER NOT NULL CHECK (fate BETWEEN 0 AND 3),
    newest        BLOB    CHECK (length(newest) = 16),          -- the newest version of a key that is gone
    last_revision INTEGER NOT NULL CHECK (last_revision >= 0),
    encryptions   INTEGER NOT NULL CHECK (encryptions >= 0),
    uses          INTEGER NOT NULL CHECK (uses >= 0),
    known_at      INTEGER NOT NULL,
    PRIMARY KEY (vault_id, id)
) STRICT, WITHOUT ROWID;
