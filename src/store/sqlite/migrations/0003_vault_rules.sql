-- Schema 3: from where a vault may be used, and what decides who may use what is in it. A vault made before has what
-- a new one has unless it is said otherwise; its seal is over a form that leaves that out.

PRAGMA user_version = 3;

ALTER TABLE vaults ADD COLUMN public_access INTEGER NOT NULL DEFAULT 1 CHECK (public_access IN (0, 1));
ALTER TABLE vaults ADD COLUMN local_access INTEGER NOT NULL DEFAULT 1 CHECK (local_access IN (0, 1));
ALTER TABLE vaults ADD COLUMN authorization TEXT NOT NULL DEFAULT 'roles';
-- A JSON array of ranges (CIDR), in order.
ALTER TABLE vaults ADD COLUMN allowed_ranges TEXT NOT NULL DEFAULT '[]';
