-- Schema 1: everything. It is what SQLite has as its schema 5, and its comments hold here too.
--
-- Conventions beside those:
--   * Texts are COLLATE "C": their order is that of their bytes, whatever the database's locale.
--   * Numbers are bigint, as the program has them; none is serial.
--
-- Expand, migrate, contract. Replicas of two releases share a schema while they are replaced one by one. So a schema
-- may only add, in such a way that the release before can go on: a column with a default, a table, an index. It then
-- keeps `readable_from`, the oldest schema whose release can use it. What the older release needs is taken away by a
-- later schema, which sets `readable_from` to where nobody needs it any more. A release opens a newer schema if
-- `readable_from` is at most its own, and brings an older one up to its own.

CREATE TABLE strongroom_schema (
    singleton     bigint PRIMARY KEY CHECK (singleton = 1),
    version       bigint NOT NULL CHECK (version > 0),
    readable_from bigint NOT NULL CHECK (readable_from BETWEEN 1 AND version)
);
INSERT INTO strongroom_schema (singleton, version, readable_from) VALUES (1, 1, 1);

CREATE TABLE instance (
    singleton       bigint  PRIMARY KEY CHECK (singleton = 1),
    id              bytea   NOT NULL UNIQUE CHECK (length(id) = 16),
    revision        bigint  NOT NULL CHECK (revision > 0),
    seal            bytea   NOT NULL CHECK (length(seal) = 32),
    created_at      bigint  NOT NULL,
    development     boolean NOT NULL,
    token_label     text    COLLATE "C" NOT NULL,
    token_serial    text    COLLATE "C" NOT NULL,
    unwrap_template boolean NOT NULL,
    sealing_key     bytea   NOT NULL,
    data_key        bytea   NOT NULL,
    canary          bytea   NOT NULL,
    log_public      bytea   NOT NULL,
    escrow          bytea   NOT NULL
);

CREATE TABLE vaults (
    id               bytea   NOT NULL PRIMARY KEY CHECK (length(id) = 16 AND id <> decode(repeat('00', 16), 'hex')),
    revision         bigint  NOT NULL CHECK (revision > 0),
    seal             bytea   NOT NULL CHECK (length(seal) = 32),
    name             text    COLLATE "C" NOT NULL UNIQUE,
    retention_days   bigint  NOT NULL CHECK (retention_days BETWEEN 0 AND 65535),
    purge_protection boolean NOT NULL,
    padding_decryption_allowed boolean NOT NULL,
    public_access    boolean NOT NULL,
    local_access     boolean NOT NULL,
    deleted_at       bigint,
    purge_at         bigint,
    created_at       bigint  NOT NULL,
    updated_at       bigint  NOT NULL,
    intent           bigint  NOT NULL CHECK (intent >= 0),
    "authorization"  text    COLLATE "C" NOT NULL,
    -- How old what a replica knows of it may be, in seconds.
    max_staleness    bigint  NOT NULL CHECK (max_staleness BETWEEN 1 AND 60),
    allowed_ranges   text    COLLATE "C" NOT NULL,
    tags             text    COLLATE "C" NOT NULL,
    CHECK ((deleted_at IS NULL) = (purge_at IS NULL))
);
CREATE INDEX vaults_due ON vaults (purge_at) WHERE purge_at IS NOT NULL;

CREATE TABLE keys (
    vault_id        bytea  NOT NULL REFERENCES vaults (id),
    folded_name     text   COLLATE "C" NOT NULL,
    id              bytea  NOT NULL UNIQUE CHECK (length(id) = 16),
    revision        bigint NOT NULL CHECK (revision > 0),
    seal            bytea  NOT NULL CHECK (length(seal) = 32),
    name            text   COLLATE "C" NOT NULL CHECK (lower(name) = folded_name),
    current_version bytea  NOT NULL CHECK (length(current_version) = 16),
    deleted_at      bigint,
    purge_at        bigint,
    created_at      bigint NOT NULL,
    updated_at      bigint NOT NULL,
    intent          bigint NOT NULL CHECK (intent >= 0),
    PRIMARY KEY (vault_id, folded_name),
    CHECK ((deleted_at IS NULL) = (purge_at IS NULL))
);
CREATE INDEX keys_due ON keys (purge_at) WHERE purge_at IS NOT NULL;

CREATE TABLE versions (
    id          bytea   NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    revision    bigint  NOT NULL CHECK (revision > 0),
    seal        bytea   NOT NULL CHECK (length(seal) = 32),
    vault_id    bytea   NOT NULL REFERENCES vaults (id),
    key_id      bytea   NOT NULL REFERENCES keys (id),
    ordinal     bigint  NOT NULL CHECK (ordinal >= 0),
    spec        text    COLLATE "C" NOT NULL,
    ops         bigint  NOT NULL,
    enabled     boolean NOT NULL,
    not_before  bigint,
    expires_at  bigint,
    residency   text    COLLATE "C" NOT NULL,
    intent      bigint  NOT NULL CHECK (intent >= 0),
    created_at  bigint  NOT NULL,
    updated_at  bigint  NOT NULL,
    check_value bytea   NOT NULL,
    tags        text    COLLATE "C" NOT NULL,
    public_key  bytea   NOT NULL,
    blob        bytea   NOT NULL,
    UNIQUE (key_id, ordinal)
);
-- All that a head counts of a vault's versions, without touching the long rows.
CREATE INDEX versions_of_vault ON versions (vault_id) INCLUDE (id, revision, seal);

CREATE TABLE usage (
    vault_id    bytea  NOT NULL REFERENCES vaults (id),
    version     bytea  NOT NULL UNIQUE REFERENCES versions (id),
    revision    bigint NOT NULL CHECK (revision > 0),
    seal        bytea  NOT NULL CHECK (length(seal) = 32),
    encryptions bigint NOT NULL CHECK (encryptions >= 0),
    PRIMARY KEY (vault_id, version)
);

CREATE TABLE role_assignments (
    id         bytea  NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    revision   bigint NOT NULL CHECK (revision > 0),
    seal       bytea  NOT NULL CHECK (length(seal) = 32),
    principal  text   COLLATE "C" NOT NULL,
    role       text   COLLATE "C" NOT NULL,
    scope      text   COLLATE "C" NOT NULL,
    created_at bigint NOT NULL,
    intent     bigint NOT NULL CHECK (intent >= 0)
);

CREATE TABLE role_definitions (
    id                bytea  NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    revision          bigint NOT NULL CHECK (revision > 0),
    seal              bytea  NOT NULL CHECK (length(seal) = 32),
    folded_name       text   COLLATE "C" NOT NULL UNIQUE,
    name              text   COLLATE "C" NOT NULL,
    created_at        bigint NOT NULL,
    updated_at        bigint NOT NULL,
    intent            bigint NOT NULL CHECK (intent >= 0),
    description       text   COLLATE "C" NOT NULL,
    actions           text   COLLATE "C" NOT NULL,
    not_actions       text   COLLATE "C" NOT NULL,
    data_actions      text   COLLATE "C" NOT NULL,
    not_data_actions  text   COLLATE "C" NOT NULL,
    assignable_scopes text   COLLATE "C" NOT NULL
);

CREATE TABLE access_policies (
    id           bytea  NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    revision     bigint NOT NULL CHECK (revision > 0),
    seal         bytea  NOT NULL CHECK (length(seal) = 32),
    vault        text   COLLATE "C" NOT NULL REFERENCES vaults (name),
    principal    text   COLLATE "C" NOT NULL,
    created_at   bigint NOT NULL,
    updated_at   bigint NOT NULL,
    intent       bigint NOT NULL CHECK (intent >= 0),
    keys         text   COLLATE "C" NOT NULL,
    secrets      text   COLLATE "C" NOT NULL,
    certificates text   COLLATE "C" NOT NULL
);
CREATE INDEX access_policies_of_vault ON access_policies (vault);

CREATE TABLE tokens (
    id         bytea  NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    revision   bigint NOT NULL CHECK (revision > 0),
    seal       bytea  NOT NULL CHECK (length(seal) = 32),
    name       text   COLLATE "C" NOT NULL,
    creator    text   COLLATE "C" NOT NULL,
    created_at bigint NOT NULL,
    expires_at bigint NOT NULL,
    intent     bigint NOT NULL CHECK (intent >= 0)
);

CREATE TABLE issuer_keys (
    id         bytea  NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    revision   bigint NOT NULL CHECK (revision > 0),
    seal       bytea  NOT NULL CHECK (length(seal) = 32),
    created_at bigint NOT NULL,
    public_key bytea  NOT NULL,
    blob       bytea  NOT NULL
);

CREATE TABLE heads (
    scope     bytea  NOT NULL PRIMARY KEY CHECK (length(scope) = 16),
    revision  bigint NOT NULL CHECK (revision > 0),
    seal      bytea  NOT NULL CHECK (length(seal) = 32),
    row_count bigint NOT NULL CHECK (row_count >= 0),
    intent    bigint NOT NULL CHECK (intent >= 0),
    -- Where the newest change of the scope stands: the number of its transaction. bigint and not xid8, which has no
    -- arithmetic and which the driver does not know; its 63 bits are as good.
    position  bigint NOT NULL CHECK (position >= 0),
    digest    bytea  NOT NULL CHECK (length(digest) = 2048)
);
CREATE INDEX heads_by_position ON heads (position) INCLUDE (scope, revision);
-- Digests cannot be compressed, and a row stays below this: kept in one piece, a head is one read.
ALTER TABLE heads ALTER COLUMN digest SET STORAGE PLAIN;

CREATE TABLE requests (
    principal  text   COLLATE "C" NOT NULL,
    id         text   COLLATE "C" NOT NULL CHECK (length(id) = 36),
    digest     bytea  NOT NULL CHECK (length(digest) = 32),
    resource   text   COLLATE "C" NOT NULL,
    expires_at bigint NOT NULL,
    PRIMARY KEY (principal, id)
);
CREATE INDEX requests_due ON requests (expires_at);

CREATE TABLE steps (
    scope    bytea  NOT NULL CHECK (length(scope) = 16),
    revision bigint NOT NULL CHECK (revision > 0),
    at       bigint NOT NULL,
    steps    bytea  NOT NULL,
    PRIMARY KEY (scope, revision)
);
CREATE INDEX steps_due ON steps (at);

CREATE TABLE unfinished (
    singleton bigint PRIMARY KEY CHECK (singleton = 1)
);

CREATE TABLE replicas (
    id         bytea   NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    revision   bigint  NOT NULL CHECK (revision > 0),
    seal       bytea   NOT NULL CHECK (length(seal) = 32),
    ordinal    bigint  NOT NULL UNIQUE CHECK (ordinal >= 0),
    name       text    COLLATE "C" NOT NULL UNIQUE,
    created_at bigint  NOT NULL,
    log_size   bigint  NOT NULL CHECK (log_size >= 0),
    log_root   bytea   NOT NULL CHECK (length(log_root) = 32),
    closed     boolean NOT NULL,
    beat_at    bigint,
    heard      bigint  CHECK (heard >= 0),
    version    text    COLLATE "C",
    address    text    COLLATE "C",
    trouble    text    COLLATE "C"
);

CREATE TABLE leases (
    work       text   COLLATE "C" NOT NULL PRIMARY KEY,
    token      bigint NOT NULL CHECK (token > 0),
    holder     text   COLLATE "C" NOT NULL,
    expires_at bigint NOT NULL
);
