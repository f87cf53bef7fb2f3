-- Schema 6: what happens to keys by themselves.

PRAGMA user_version = 6;

-- The canonical text of a rotation policy; empty: none.
ALTER TABLE keys ADD COLUMN rotation_policy TEXT NOT NULL DEFAULT '';
ALTER TABLE keys ADD COLUMN policy_created_at INTEGER;
ALTER TABLE keys ADD COLUMN policy_updated_at INTEGER;
-- Up to which instant notices about the newest version were given.
ALTER TABLE keys ADD COLUMN noted_at INTEGER;
-- When to look at the key. Not sealed: who looks reckons anew.
ALTER TABLE keys ADD COLUMN due_at INTEGER;
CREATE INDEX keys_to_look_at ON keys (due_at, id) WHERE due_at IS NOT NULL;
CREATE INDEX keys_with_policy ON keys (id) WHERE rotation_policy <> '';
