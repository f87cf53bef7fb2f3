-- Schema 4: tokens that are issued here, and the keys that sign them. Rows of the service's own scope.

PRAGMA user_version = 4;

-- Tokens that have been issued and have not expired. Made and taken away, never changed. Read as a whole.
CREATE TABLE tokens (
    id         BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),   -- its `jti`
    revision   INTEGER NOT NULL CHECK (revision > 0),
    seal       BLOB    NOT NULL CHECK (length(seal) = 32),
    name       TEXT    NOT NULL,        -- it stands for the principal `token:{name}`
    creator    TEXT    NOT NULL,        -- a principal
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    intent     INTEGER NOT NULL CHECK (intent >= 0)
) STRICT;

-- Keys that sign them: ECDSA P-256, wrapped under the root, in no vault.
CREATE TABLE issuer_keys (
    id         BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),   -- its `kid`
    revision   INTEGER NOT NULL CHECK (revision > 0),
    seal       BLOB    NOT NULL CHECK (length(seal) = 32),
    created_at INTEGER NOT NULL,
    public_key BLOB    NOT NULL,        -- SubjectPublicKeyInfo (DER)
    blob       BLOB    NOT NULL         -- the key under the root, AES-KWP (RFC 5649)
) STRICT;
