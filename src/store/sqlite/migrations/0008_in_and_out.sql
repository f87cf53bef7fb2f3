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
