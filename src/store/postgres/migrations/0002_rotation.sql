-- Schema 2: what happens to keys by themselves. The release before can go on with it: a key with a policy is sealed with it,
-- so that release does not use such a key, and no other is changed.

ALTER TABLE keys
    ADD COLUMN rotation_policy   text COLLATE "C" NOT NULL DEFAULT '',
    ADD COLUMN policy_created_at bigint,
    ADD COLUMN policy_updated_at bigint,
    ADD COLUMN noted_at          bigint,
    ADD COLUMN due_at            bigint;
CREATE INDEX keys_to_look_at ON keys (due_at, id) WHERE due_at IS NOT NULL;
CREATE INDEX keys_with_policy ON keys (id) WHERE rotation_policy <> '';
UPDATE strongroom_schema SET version = 2;
