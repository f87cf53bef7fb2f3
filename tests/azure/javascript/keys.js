// Keys with @azure/keyvault-keys: made, used, rotated, changed, deleted, recovered, purged, listed.
// Node's own crypto checks what comes back: with the public key alone, or with a key made here and imported.

import assert from "node:assert/strict";
import * as crypto from "node:crypto";
import { CryptographyClient, KeyClient } from "@azure/keyvault-keys";
import { check, credential, each, named, options, pages, refused, skipped, soon, url } from "./checks.js";

const client = new KeyClient(url, credential(), options);
const using = (key) => new CryptographyClient(key.id, credential(), options);

const text = Buffer.from("attack at dawn");
const sha = (bits, data = text) => crypto.createHash(`sha${bits}`).update(data).digest();
const made = [];

/** A name that is deleted and purged at the end. */
function fresh(what) {
  const name = named(what);
  made.push(name);
  return name;
}

/** The public key as Node knows it. */
function publicKey({ key }) {
  const jwk = { kty: key.kty.replace("-HSM", ""), crv: key.crv };
  for (const part of ["n", "e", "x", "y"]) if (key[part]) jwk[part] = Buffer.from(key[part]).toString("base64url");
  return crypto.createPublicKey({ key: jwk, format: "jwk" });
}

/** How Node verifies each algorithm. */
const how = {
  RS: {},
  PS: { padding: crypto.constants.RSA_PKCS1_PSS_PADDING, saltLength: crypto.constants.RSA_PSS_SALTLEN_DIGEST },
  ES: { dsaEncoding: "ieee-p1363" },
};

async function signs(key, algorithm) {
  const bits = algorithm.slice(2);
  const { result, keyID } = await using(key).sign(algorithm, sha(bits));
  assert.equal(keyID, key.id);
  assert.ok(crypto.verify(`sha${bits}`, text, { key: publicKey(key), ...how[algorithm.slice(0, 2)] }, result));
  assert.equal((await using(key).verify(algorithm, sha(bits), result)).result, true);
  assert.equal((await using(key).verify(algorithm, sha(bits, "another text"), result)).result, false);
}

async function remove(name) {
  await (await client.beginDeleteKey(name, soon)).pollUntilDone();
  await client.purgeDeletedKey(name);
}

async function rsa() {
  const name = fresh("rsa");
  let key;
  await check("keys: create RSA 2048", async () => {
    key = await client.createRsaKey(name, { keySize: 2048, tags: { team: "blue" } });
    assert.equal(key.keyType, "RSA");
    assert.ok(key.id.startsWith(`${url}/keys/${name}/`), key.id);
    assert.equal(key.key.n.length, 256);
    assert.equal(key.properties.tags.team, "blue");
  });
  await check("keys: get gives the same version", async () => {
    assert.equal((await client.getKey(name)).id, key.id);
    assert.equal((await client.getKey(name, { version: key.properties.version })).id, key.id);
  });
  for (const algorithm of ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512"]) {
    await check(`keys: ${algorithm}, verified here and there`, () => signs(key, algorithm));
  }
  await check("keys: RSA-OAEP-256, encrypted here, decrypted there", async () => {
    const secret = crypto.publicEncrypt({ key: publicKey(key), oaepHash: "sha256" }, text);
    const { result } = await using(key).decrypt({ algorithm: "RSA-OAEP-256", ciphertext: secret });
    assert.deepEqual(Buffer.from(result), text);
  });
  for (const algorithm of ["RSA-OAEP-256", "RSA-OAEP", "RSA1_5"]) {
    await check(`keys: ${algorithm}, encrypted and decrypted`, async () => {
      const { result: ciphertext } = await using(key).encrypt({ algorithm, plaintext: text });
      const { result } = await using(key).decrypt({ algorithm, ciphertext });
      assert.deepEqual(Buffer.from(result), text);
    });
  }
  await check("keys: RSA-OAEP-256 wraps and unwraps a key", async () => {
    const data = crypto.randomBytes(32);
    const { result: wrapped } = await using(key).wrapKey("RSA-OAEP-256", data);
    assert.deepEqual(Buffer.from((await using(key).unwrapKey("RSA-OAEP-256", wrapped)).result), data);
  });
  await check("keys: without a version the newest one works", async () => {
    const { result, keyID } = await client.getCryptographyClient(name).sign("RS256", sha(256));
    assert.equal(keyID, key.id);
    assert.ok(crypto.verify("sha256", text, publicKey(key), result));
  });
  return key;
}

async function ec() {
  for (const [curve, algorithm] of [["P-256", "ES256"], ["P-384", "ES384"], ["P-521", "ES512"]]) {
    let key;
    await check(`keys: create EC ${curve}`, async () => {
      key = await client.createEcKey(fresh(`ec${curve.slice(2)}`), { curve });
      assert.equal(key.keyType, "EC");
      assert.equal(key.key.crv, curve);
    });
    await check(`keys: ${algorithm}, verified here and there`, () => signs(key, algorithm));
  }
}

async function symmetric() {
  const name = fresh("oct");
  let key;
  await check("oct: create 256 bits", async () => {
    key = await client.createOctKey(name, { keySize: 256, hsm: true, keyOps: ["encrypt", "decrypt", "wrapKey", "unwrapKey"] });
    assert.equal(key.keyType, "oct-HSM");
    assert.equal(key.key.k, undefined);
  });
  await check("oct: A256GCM, encrypted and decrypted with additional data", async () => {
    const additionalAuthenticatedData = Buffer.from("row 7");
    const sealed = await using(key).encrypt({ algorithm: "A256GCM", plaintext: text, additionalAuthenticatedData });
    assert.equal(sealed.iv.length, 12);
    assert.equal(sealed.authenticationTag.length, 16);
    const open = (data) =>
      using(key).decrypt({
        algorithm: "A256GCM",
        ciphertext: sealed.result,
        iv: sealed.iv,
        authenticationTag: sealed.authenticationTag,
        additionalAuthenticatedData: data,
      });
    assert.deepEqual(Buffer.from((await open(additionalAuthenticatedData)).result), text);
    await refused(() => open(Buffer.from("row 8")), 400);
  });
  await check("oct: A256KW wraps and unwraps a key", async () => {
    const data = crypto.randomBytes(32);
    const { result: wrapped } = await using(key).wrapKey("A256KW", data);
    assert.equal(wrapped.length, 40);
    assert.deepEqual(Buffer.from((await using(key).unwrapKey("A256KW", wrapped)).result), data);
  });
  await check("oct: random bytes", async () => {
    assert.equal((await client.getRandomBytes(24)).length, 24);
  });
}

async function rotation(key) {
  const { name } = key;
  await check("keys: a rotation policy is kept", async () => {
    await client.updateKeyRotationPolicy(name, {
      expiresIn: "P90D",
      lifetimeActions: [{ action: "Rotate", timeAfterCreate: "P30D" }],
    });
    const policy = await client.getKeyRotationPolicy(name);
    assert.equal(policy.expiresIn, "P90D");
    const rotates = policy.lifetimeActions.find(({ action }) => action.toLowerCase() === "rotate");
    assert.equal(rotates.timeAfterCreate, "P30D");
  });
  await check("keys: rotate; the old version still decrypts", async () => {
    const ciphertext = crypto.publicEncrypt({ key: publicKey(key), oaepHash: "sha256" }, text);
    const next = await client.rotateKey(name);
    assert.notEqual(next.id, key.id);
    assert.equal((await client.getKey(name)).id, next.id);
    assert.deepEqual(Buffer.from((await using(key).decrypt({ algorithm: "RSA-OAEP-256", ciphertext })).result), text);
    await signs(next, "PS256");
    const { items } = await pages(client.listPropertiesOfKeyVersions(name));
    assert.equal(items.length, 2);
    assert.ok(items.some(({ id }) => id === key.id) && items.some(({ id }) => id === next.id));
  });
}

async function attributes() {
  const name = fresh("attributes");
  let key;
  await check("keys: attributes change, and the others stay", async () => {
    key = await client.createEcKey(name, { curve: "P-256", tags: { a: "1" } });
    // The SDK turns what is after 2038-01-19 into a date before 1970.
    const expiresOn = new Date("2036-01-02T03:04:05Z");
    const { version } = key.properties;
    const changed = await client.updateKeyProperties(name, version, { expiresOn, tags: { b: "2" } });
    assert.deepEqual(changed.properties.expiresOn, expiresOn);
    assert.deepEqual(changed.properties.tags, { b: "2" });
    assert.equal(changed.properties.enabled, true);
    assert.deepEqual(changed.key.x, key.key.x);
  });
  await check("keys: a disabled key does not sign: 403", async () => {
    const { version } = key.properties;
    await client.updateKeyProperties(name, version, { enabled: false });
    await refused(() => using(key).sign("ES256", sha(256)), 403, "Forbidden");
    await client.updateKeyProperties(name, version, { enabled: true });
    await signs(key, "ES256");
  });
  await check("keys: what key_ops leaves out is refused", async () => {
    await client.updateKeyProperties(name, key.properties.version, { keyOps: ["verify"] });
    // With the key as it was before, so that the SDK has no reason to refuse by itself.
    const stale = new CryptographyClient(key, credential(), options);
    await refused(() => stale.sign("ES256", sha(256)), 403, "Forbidden");
    assert.deepEqual((await client.getKey(name)).key.keyOps, ["verify"]);
  });
}

async function imports() {
  await check("keys: import an RSA key made here", async () => {
    const pair = crypto.generateKeyPairSync("rsa", { modulusLength: 2048 });
    const jwk = { kty: "RSA", keyOps: ["sign", "verify", "decrypt"] };
    for (const [part, value] of Object.entries(pair.privateKey.export({ format: "jwk" }))) {
      if (part !== "kty") jwk[part] = Buffer.from(value, "base64url");
    }
    const key = await client.importKey(fresh("imported"), jwk);
    assert.equal(key.key.d, undefined);
    const { result } = await using(key).sign("PS256", sha(256));
    assert.ok(crypto.verify("sha256", text, { key: pair.publicKey, ...how.PS }, result));
  });
}

async function lifecycle() {
  const name = fresh("life");
  let key;
  let saved;
  await check("keys: delete; the name is taken and the key is gone", async () => {
    key = await client.createEcKey(name, { curve: "P-256" });
    saved = await client.backupKey(name);
    const deleted = await (await client.beginDeleteKey(name, soon)).pollUntilDone();
    assert.equal(deleted.properties.recoveryId, `${url}/deletedkeys/${name}`);
    assert.ok(deleted.properties.scheduledPurgeDate > deleted.properties.deletedOn);
    await refused(() => client.getKey(name), 404, "KeyNotFound");
    await refused(() => client.createEcKey(name), 409, "Conflict");
    const { items } = await pages(client.listDeletedKeys());
    assert.ok(items.some((item) => item.name === name));
  });
  await check("keys: recover; it signs as before", async () => {
    await (await client.beginRecoverDeletedKey(name, soon)).pollUntilDone();
    assert.equal((await client.getKey(name)).id, key.id);
    await signs(key, "ES256");
  });
  await check("keys: purge; restore from the backup", async () => {
    await remove(name);
    await refused(() => client.getDeletedKey(name), 404);
    const restored = await client.restoreKeyBackup(saved);
    assert.equal(restored.id, key.id);
    await signs(restored, "ES256");
  });
}

async function lists() {
  const names = Array.from({ length: 27 }, (_, number) => fresh(`list${number}`));
  await check("keys: 27 keys come in pages of at most 25", async () => {
    await each(names, (name) => client.createEcKey(name, { curve: "P-256" }));
    const { items, count } = await pages(client.listPropertiesOfKeys());
    assert.ok(count >= 2, `${count} pages`);
    const found = new Map(items.map(({ name, id }) => [name, id]));
    for (const name of names) assert.equal(found.get(name), `${url}/keys/${name}`);
  });
}

async function refusals() {
  await check("keys: an unknown key: 404 KeyNotFound", () => refused(() => client.getKey(named("none")), 404, "KeyNotFound"));
  await check("keys: a false token: 401", async () => {
    const stranger = new KeyClient(url, credential("false"), options);
    await refused(() => stranger.getKey(named("none")), 401);
  });
  await check("keys: a digest of the wrong length: 400", async () => {
    const name = fresh("digest");
    const key = await client.createEcKey(name, { curve: "P-256" });
    await refused(() => using(key).sign("ES256", sha(512)), 400, "BadParameter");
  });
}

export async function keys() {
  await refusals();
  const key = await rsa();
  await ec();
  if (!skipped.has("oct")) await symmetric();
  if (key) await rotation(key);
  await attributes();
  await imports();
  await lifecycle();
  await lists();
  await check("keys: what was made is purged", async () => {
    const { items } = await pages(client.listPropertiesOfKeys());
    const left = items.filter(({ name }) => made.includes(name));
    await each(left, ({ name }) => remove(name));
    for await (const { name } of client.listDeletedKeys()) assert.ok(!made.includes(name), name);
  });
}
