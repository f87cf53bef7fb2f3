-- Schema 2: roles of one's own, and access policies of vaults. What is said at the head of schema 1 holds here too.
-- A role assignment names the built-in role `administrator` by that word, any other role by its id, 32 hexadecimal
-- digits; its scope may now be the objects of one type in a vault, or one object.

PRAGMA user_version = 2;

-- Roles that did not come with the program. Read as a whole.
CREATE TABLE role_definitions (
    id                BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),
    revision          INTEGER NOT NULL CHECK (revision > 0),
    seal              BLOB    NOT NULL CHECK (length(seal) = 32),
    folded_name       TEXT    NOT NULL UNIQUE,  -- the name in lower case, by which it is unique
    name              TEXT    NOT NULL,
    created_at        INTEGER NOT NULL,
    updated_at        INTEGER NOT NULL,
    intent            INTEGER NOT NULL CHECK (intent >= 0),
    description       TEXT    NOT NULL,
    -- Patterns of actions, and scopes: one to a line.
    actions           TEXT    NOT NULL,
    not_actions       TEXT    NOT NULL,
    data_actions      TEXT    NOT NULL,
    not_data_actions  TEXT    NOT NULL,
    assignable_scopes TEXT    NOT NULL
) STRICT;

-- Who may do what in a vault that decides by access policies. Read as a whole.
CREATE TABLE access_policies (
    id           BLOB    NOT NULL PRIMARY KEY CHECK (length(id) = 16),  -- what vault and principal decide
    revision     INTEGER NOT NULL CHECK (revision > 0),
    seal         BLOB    NOT NULL CHECK (length(seal) = 32),
    vault        TEXT    NOT NULL REFERENCES vaults (name),
    principal    TEXT    NOT NULL,
    created_at   INTEGER NOT NULL,
    updated_at   INTEGER NOT NULL,
    intent       INTEGER NOT NULL CHECK (intent >= 0),
    -- Permissions in the order of their table, with commas between them.
    keys         TEXT    NOT NULL,
    secrets      TEXT    NOT NULL,
    certificates TEXT    NOT NULL
) STRICT;
-- For the reference, when a vault is purged.
CREATE INDEX access_policies_of_vault ON access_policies (vault);
