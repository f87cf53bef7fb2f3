// Secrets with @azure/keyvault-secrets: set, read, versions, changed, deleted, recovered, purged, listed.

import assert from "node:assert/strict";
import { SecretClient } from "@azure/keyvault-secrets";
import { DefaultAzureCredential } from "@azure/identity";
import { check, credential, each, named, options, pages, refused, soon, url } from "./checks.js";

const client = new SecretClient(url, credential(), options);
const made = [];

/** A name that is deleted and purged at the end. */
function fresh(what) {
  const name = named(what);
  made.push(name);
  return name;
}

async function remove(name) {
  await (await client.beginDeleteSecret(name, soon)).pollUntilDone();
  await client.purgeDeletedSecret(name);
}

async function values() {
  const name = fresh("secret");
  let first;
  await check("secrets: set and get", async () => {
    first = await client.setSecret(name, "grüße, 世界\n", { contentType: "text/plain", tags: { team: "blue" } });
    assert.match(first.properties.id, new RegExp(`^${url}/secrets/${name}/[0-9a-f]{32}$`));
    const read = await client.getSecret(name);
    assert.equal(read.value, "grüße, 世界\n");
    assert.equal(read.properties.contentType, "text/plain");
    assert.deepEqual(read.properties.tags, { team: "blue" });
  });
  await check("secrets: a second value is a new version; the first stays", async () => {
    const second = await client.setSecret(name, "two");
    assert.notEqual(second.properties.version, first.properties.version);
    assert.equal((await client.getSecret(name)).value, "two");
    assert.equal((await client.getSecret(name, { version: first.properties.version })).value, "grüße, 世界\n");
    const { items } = await pages(client.listPropertiesOfSecretVersions(name));
    const versions = items.map(({ version }) => version).sort();
    assert.deepEqual(versions, [first.properties.version, second.properties.version].sort());
  });
  await check("secrets: attributes change, the value does not", async () => {
    const { properties } = await client.getSecret(name);
    const expiresOn = new Date("2036-01-02T03:04:05Z");
    const change = { contentType: "x/y", expiresOn, tags: { b: "2" } };
    const changed = await client.updateSecretProperties(name, properties.version, change);
    assert.deepEqual(changed.expiresOn, expiresOn);
    const read = await client.getSecret(name);
    assert.equal(read.value, "two");
    assert.equal(read.properties.contentType, "x/y");
    assert.deepEqual(read.properties.tags, { b: "2" });
  });
  await check("secrets: a disabled secret is not read: 403", async () => {
    const { properties } = await client.getSecret(name);
    await client.updateSecretProperties(name, properties.version, { enabled: false });
    await refused(() => client.getSecret(name), 403, "Forbidden");
    await client.updateSecretProperties(name, properties.version, { enabled: true });
    assert.equal((await client.getSecret(name)).value, "two");
  });
  await check("secrets: 25,000 characters", async () => {
    const long = "0123456789".repeat(2500);
    await client.setSecret(fresh("long"), long);
    assert.equal((await client.getSecret(named("long"))).value, long);
  });
}

async function lifecycle() {
  const name = fresh("life");
  let saved;
  await check("secrets: delete; the name is taken and the value is gone", async () => {
    await client.setSecret(name, "kept");
    saved = await client.backupSecret(name);
    const deleted = await (await client.beginDeleteSecret(name, soon)).pollUntilDone();
    assert.equal(deleted.properties.recoveryId, `${url}/deletedsecrets/${name}`);
    await refused(() => client.getSecret(name), 404, "SecretNotFound");
    await refused(() => client.setSecret(name, "other"), 409, "Conflict");
    const { items } = await pages(client.listDeletedSecrets());
    assert.ok(items.some((item) => item.name === name));
  });
  await check("secrets: recover; the value is back", async () => {
    await (await client.beginRecoverDeletedSecret(name, soon)).pollUntilDone();
    assert.equal((await client.getSecret(name)).value, "kept");
  });
  await check("secrets: purge; restore from the backup", async () => {
    await remove(name);
    await refused(() => client.getDeletedSecret(name), 404);
    await client.restoreSecretBackup(saved);
    assert.equal((await client.getSecret(name)).value, "kept");
  });
}

async function lists() {
  const names = Array.from({ length: 27 }, (_, number) => fresh(`list${number}`));
  await check("secrets: 27 secrets come in pages of at most 25", async () => {
    await each(names, (name) => client.setSecret(name, name));
    const { items, count } = await pages(client.listPropertiesOfSecrets());
    assert.ok(count >= 2, `${count} pages`);
    const found = new Map(items.map((item) => [item.name, item]));
    for (const wanted of names) {
      assert.equal(found.get(wanted)?.id, `${url}/secrets/${wanted}`);
      assert.ok(!("value" in found.get(wanted)));
    }
  });
}

/** Without a credential of our own: the SDK finds Strongroom's identity endpoint by itself. */
async function identity() {
  await check("secrets: DefaultAzureCredential is all that a program needs", async () => {
    const found = new SecretClient(url, new DefaultAzureCredential(), options);
    const name = fresh("identity");
    await found.setSecret(name, "by default");
    assert.equal((await found.getSecret(name)).value, "by default");
  });
}

export async function secrets() {
  await check("secrets: an unknown secret: 404 SecretNotFound", () =>
    refused(() => client.getSecret(named("none")), 404, "SecretNotFound"),
  );
  await values();
  await lifecycle();
  await lists();
  if (process.env.IDENTITY_ENDPOINT) await identity();
  await check("secrets: what was made is purged", async () => {
    const { items } = await pages(client.listPropertiesOfSecrets());
    const left = items.filter(({ name }) => made.includes(name));
    await each(left, ({ name }) => remove(name));
    for await (const { name } of client.listDeletedSecrets()) assert.ok(!made.includes(name), name);
  });
}
