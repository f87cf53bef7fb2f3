-- Schema 9: secrets.

PRAGMA user_version = 9;

-- A secret, with the data key that its values are under: `data_key` is its id, `blob` the key under the root or `kek`.
CREATE TABLE secrets (
    vault_id        BLOB    NOT NULL REFERENCES vaults (id),
    folded_name     TEXT    NOT NULL,           -- the name in lower case, by which it is unique
    id              BLOB    NOT NULL UNIQUE CHECK (length(id) = 16),
    revision        INTEGER NOT NULL CHECK (revision > 0),
    seal            BLOB    NOT NULL CHECK (length(seal) = 32),
    name            TEXT    NOT NULL CHECK (lower(name) = folded_name),     -- as first spelled
    current_version BLOB    NOT NULL CHECK (length(current_version) = 16),  -- the newest
    data_key        BLOB    NOT NULL CHECK (length(data_key) = 16),
    blob            BLOB    NOT NULL,
    kek             BLOB    CHECK (length(kek) = 16),
    check_value     BLOB    NOT NULL,
    deleted_at      INTEGER,
    purge_at        INTEGER,
    noted_at        INTEGER,
    due_at          INTEGER,                    -- when to look at it; not sealed
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    intent          INTEGER NOT NULL CHECK (intent >= 0),
    PRIMARY KEY (vault_id, folded_name),
    CHECK ((deleted_at IS NULL) = (purge_at IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX secrets_to_purge ON secrets (purge_at, id) WHERE purge_at IS NOT NULL;
CREATE INDEX secrets_to_look_at ON secrets (due_at, id) WHERE due_at IS NOT NULL;
CREATE INDEX secrets_by_kek ON secrets (kek) WHERE kek IS NOT NULL;

-- Versions of secrets. The names in the sealed form come from `secrets` and `vaults`.
CREATE TABLE secret_versions (
    id           BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    revision     INTEGER NOT NULL CHECK (revision > 0),
    seal         BLOB    NOT NULL CHECK (length(seal) = 32),
    vault_id     BLOB    NOT NULL REFERENCES vaults (id),   -- that of the secret; here for the scope's index
    secret_id    BLOB    NOT NULL REFERENCES secrets (id),
    ordinal      INTEGER NOT NULL CHECK (ordinal >= 0),     -- its place among the secret's versions
    content_type TEXT    NOT NULL,
    enabled      INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    not_before   INTEGER,
    expires_at   INTEGER,
    tags         TEXT    NOT NULL,
    iv           BLOB    NOT NULL,
    tag          BLOB    NOT NULL,
    intent       INTEGER NOT NULL CHECK (intent >= 0),
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    UNIQUE (secret_id, ordinal)                             -- also the order of pages
) STRICT;
CREATE INDEX secret_versions_of_vault ON secret_versions (vault_id, id, revision, seal);

-- What the values are under their data keys. Long, and seldom wanted: apart. The tag in the version is that of this.
CREATE TABLE secret_values (
    version    BLOB NOT NULL PRIMARY KEY REFERENCES secret_versions (id),
    ciphertext BLOB NOT NULL
) STRICT;
