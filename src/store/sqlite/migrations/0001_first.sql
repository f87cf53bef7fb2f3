-- Schema 1: everything this release and the next ones know of vaults, keys, versions and roles.
--
-- Conventions:
--   * A time is seconds since 1970 (INTEGER). An id is 16 bytes and never used for anything else.
--   * A sealed row has `revision` (1 when new, one more with each change) and `seal`, the HMAC-SHA256
--     over its canonical form (ADR 0002). The seal is over that form and not over columns, so a column
--     may move in a later schema without a row being sealed again.
--   * CHECKs say what no release would write. They guard against our own mistakes; against somebody
--     who writes into this file only the seals and heads help, and reading trusts no CHECK.
--   * Tables are STRICT. They are WITHOUT ROWID where rows are short and are read by a range of their
--     key; long rows (tags, blobs, digests) are in rowid tables, whose pages hold more of them.
--   * Big columns come last, so that reading the others does not follow overflow pages.

-- 'Strm': `file` and `doctor` know the file by it. `user_version` is the schema version.
PRAGMA application_id = 1400140397;
PRAGMA user_version = 1;

-- The service itself: one row, written by `init`.
CREATE TABLE instance (
    singleton       INTEGER PRIMARY KEY CHECK (singleton = 1),
    id              BLOB    NOT NULL UNIQUE CHECK (length(id) = 16),
    revision        INTEGER NOT NULL CHECK (revision > 0),
    seal            BLOB    NOT NULL CHECK (length(seal) = 32),
    created_at      INTEGER NOT NULL,
    development     INTEGER NOT NULL CHECK (development IN (0, 1)),
    token_label     TEXT    NOT NULL,
    token_serial    TEXT    NOT NULL,
    unwrap_template INTEGER NOT NULL CHECK (unwrap_template IN (0, 1)),
    sealing_key     BLOB    NOT NULL,   -- wrapped under the root, AES-KWP (RFC 5649)
    data_key        BLOB    NOT NULL,   -- wrapped under the root, AES-KWP
    canary          BLOB    NOT NULL,   -- what the token's canary answers
    log_public      BLOB    NOT NULL,   -- SubjectPublicKeyInfo (DER) of the log-signing key
    escrow          BLOB    NOT NULL    -- ( SHA-256 of recovery key, 32 | length u32 big-endian | blob )*
) STRICT;

-- Vaults, live and deleted: the name of a deleted one stays taken until it is purged.
CREATE TABLE vaults (
    -- All zero is the id of the service's own scope in `heads`.
    id               BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16 AND id <> zeroblob(16)),
    revision         INTEGER NOT NULL CHECK (revision > 0),
    seal             BLOB    NOT NULL CHECK (length(seal) = 32),
    name             TEXT    NOT NULL UNIQUE,   -- lower case; also the order of pages
    retention_days   INTEGER NOT NULL CHECK (retention_days BETWEEN 0 AND 65535),
    purge_protection INTEGER NOT NULL CHECK (purge_protection IN (0, 1)),
    -- Whether RSA1_5 and A*CBCPAD may decrypt.
    padding_decryption_allowed INTEGER NOT NULL CHECK (padding_decryption_allowed IN (0, 1)),
    deleted_at       INTEGER,                   -- absent while in use
    purge_at         INTEGER,                   -- when it is destroyed unless it is brought back
    created_at       INTEGER NOT NULL,
    updated_at       INTEGER NOT NULL,
    intent           INTEGER NOT NULL CHECK (intent >= 0),      -- the audit log's index of its newest change
    tags             TEXT    NOT NULL,          -- a JSON object of texts, keys in order
    CHECK ((deleted_at IS NULL) = (purge_at IS NULL))
) STRICT;
-- What is due to be purged, earliest first.
CREATE INDEX vaults_due ON vaults (purge_at) WHERE purge_at IS NOT NULL;

-- Keys, live and deleted. The primary key finds a key by name, pages by name and reads a vault's keys
-- as one range.
CREATE TABLE keys (
    vault_id        BLOB    NOT NULL REFERENCES vaults (id),
    folded_name     TEXT    NOT NULL,           -- the name in lower case, by which it is unique
    id              BLOB    NOT NULL UNIQUE CHECK (length(id) = 16),
    revision        INTEGER NOT NULL CHECK (revision > 0),
    seal            BLOB    NOT NULL CHECK (length(seal) = 32),
    name            TEXT    NOT NULL CHECK (lower(name) = folded_name),     -- as first spelled
    current_version BLOB    NOT NULL CHECK (length(current_version) = 16),  -- the newest
    deleted_at      INTEGER,
    purge_at        INTEGER,
    created_at      INTEGER NOT NULL,
    updated_at      INTEGER NOT NULL,
    intent          INTEGER NOT NULL CHECK (intent >= 0),
    PRIMARY KEY (vault_id, folded_name),
    CHECK ((deleted_at IS NULL) = (purge_at IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX keys_due ON keys (purge_at) WHERE purge_at IS NOT NULL;

-- Versions of keys. The names in the sealed form come from `keys` and `vaults`.
CREATE TABLE versions (
    id          BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    revision    INTEGER NOT NULL CHECK (revision > 0),
    seal        BLOB    NOT NULL CHECK (length(seal) = 32),
    vault_id    BLOB    NOT NULL REFERENCES vaults (id),    -- that of the key; here for the scope's index
    key_id      BLOB    NOT NULL REFERENCES keys (id),
    ordinal     INTEGER NOT NULL CHECK (ordinal >= 0),      -- its place among the key's versions
    spec        TEXT    NOT NULL,
    ops         INTEGER NOT NULL,                           -- bits
    enabled     INTEGER NOT NULL CHECK (enabled IN (0, 1)),
    not_before  INTEGER,
    expires_at  INTEGER,
    residency   TEXT    NOT NULL,
    intent      INTEGER NOT NULL CHECK (intent >= 0),       -- the audit log's index of its newest change
    created_at  INTEGER NOT NULL,
    updated_at  INTEGER NOT NULL,
    check_value BLOB    NOT NULL,       -- tells one oct key from another, else empty
    tags        TEXT    NOT NULL,
    public_key  BLOB    NOT NULL,       -- SubjectPublicKeyInfo (DER); empty for oct keys
    blob        BLOB    NOT NULL,       -- the key under the root; empty for keys on the token
    UNIQUE (key_id, ordinal)            -- also the order of pages
) STRICT;
-- All that a head counts of a vault's versions, without touching the long rows (75 bytes against 1 to 4 kB).
CREATE INDEX versions_of_vault ON versions (vault_id, id, revision, seal);

-- How many AES-GCM encryptions of a version have been reserved. Changes often, so it is short and apart.
CREATE TABLE usage (
    vault_id    BLOB    NOT NULL REFERENCES vaults (id),    -- that of the version; here for the scope's range
    version     BLOB    NOT NULL UNIQUE REFERENCES versions (id),
    revision    INTEGER NOT NULL CHECK (revision > 0),
    seal        BLOB    NOT NULL CHECK (length(seal) = 32),
    encryptions INTEGER NOT NULL CHECK (encryptions >= 0),
    PRIMARY KEY (vault_id, version)
) STRICT, WITHOUT ROWID;

-- Roles that principals hold. Made and taken away, never changed. Read as a whole.
CREATE TABLE role_assignments (
    id         BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    revision   INTEGER NOT NULL CHECK (revision > 0),
    seal       BLOB    NOT NULL CHECK (length(seal) = 32),
    principal  TEXT    NOT NULL,
    role       TEXT    NOT NULL,
    scope      TEXT    NOT NULL,        -- `/` or `vaults/{vault}`
    created_at INTEGER NOT NULL,
    intent     INTEGER NOT NULL CHECK (intent >= 0)
) STRICT;

-- The sealed digest of every scope's rows: what makes an old or missing row be found.
CREATE TABLE heads (
    scope     BLOB    NOT NULL PRIMARY KEY CHECK (length(scope) = 16),  -- a vault's id; all zero: the service
    revision  INTEGER NOT NULL CHECK (revision > 0),
    seal      BLOB    NOT NULL CHECK (length(seal) = 32),
    row_count INTEGER NOT NULL CHECK (row_count >= 0),
    intent    INTEGER NOT NULL CHECK (intent >= 0),                     -- the largest its changes carry
    digest    BLOB    NOT NULL CHECK (length(digest) = 2048)            -- LtHash16, little-endian
) STRICT;

-- Changes that were asked for with a request id, until they may be forgotten. Not sealed: a forged one
-- makes a caller believe in a change that was not made, and does nothing else.
CREATE TABLE requests (
    principal  TEXT    NOT NULL,
    id         TEXT    NOT NULL CHECK (length(id) = 36),    -- a UUID in lower case
    digest     BLOB    NOT NULL CHECK (length(digest) = 32),
    resource   TEXT    NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (principal, id)
) STRICT, WITHOUT ROWID;
CREATE INDEX requests_due ON requests (expires_at);
