-- Schema 5: secrets. It is what SQLite has as its schema 9, and its comments hold here too. The release before can go on with it
-- until a secret is made: there it finds rows that it does not count, and refuses. Make the first once no replica is older.

CREATE TABLE secrets (
    vault_id        bytea  NOT NULL REFERENCES vaults (id),
    folded_name     text   COLLATE "C" NOT NULL,
    id              bytea  NOT NULL UNIQUE CHECK (length(id) = 16),
    revision        bigint NOT NULL CHECK (revision > 0),
    seal            bytea  NOT NULL CHECK (length(seal) = 32),
    name            text   COLLATE "C" NOT NULL CHECK (lower(name) = folded_name),
    current_version bytea  NOT NULL CHECK (length(current_version) = 16),
    data_key        bytea  NOT NULL CHECK (length(data_key) = 16),
    blob            bytea  NOT NULL,
    kek             bytea  CHECK (length(kek) = 16),
    check_value     bytea  NOT NULL,
    deleted_at      bigint,
    purge_at        bigint,
    noted_at        bigint,
    due_at          bigint,
    created_at      bigint NOT NULL,
    updated_at      bigint NOT NULL,
    intent          bigint NOT NULL CHECK (intent >= 0),
    PRIMARY KEY (vault_id, folded_name),
    CHECK ((deleted_at IS NULL) = (purge_at IS NULL))
);
CREATE INDEX secrets_to_purge ON secrets (purge_at, id) WHERE purge_at IS NOT NULL;
CREATE INDEX secrets_to_look_at ON secrets (due_at, id) WHERE due_at IS NOT NULL;
CREATE INDEX secrets_by_kek ON secrets (kek) WHERE kek IS NOT NULL;

CREATE TABLE secret_versions (
    id           bytea   NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    revision     bigint  NOT NULL CHECK (revision > 0),
    seal         bytea   NOT NULL CHECK (length(seal) = 32),
    vault_id     bytea   NOT NULL REFERENCES vaults (id),
    secret_id    bytea   NOT NULL REFERENCES secrets (id),
    ordinal      bigint  NOT NULL CHECK (ordinal >= 0),
    content_type text    COLLATE "C" NOT NULL,
    enabled      boolean NOT NULL,
    not_before   bigint,
    expires_at   bigint,
    tags         text    COLLATE "C" NOT NULL,
    iv           bytea   NOT NULL,
    tag          bytea   NOT NULL,
    intent       bigint  NOT NULL CHECK (intent >= 0),
    created_at   bigint  NOT NULL,
    updated_at   bigint  NOT NULL,
    UNIQUE (secret_id, ordinal)
);
CREATE INDEX secret_versions_of_vault ON secret_versions (vault_id) INCLUDE (id, revision, seal);

CREATE TABLE secret_values (
    version    bytea NOT NULL PRIMARY KEY REFERENCES secret_versions (id),
    ciphertext bytea NOT NULL
);
UPDATE strongroom_schema SET version = 5;
