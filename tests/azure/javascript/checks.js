// Where the vault is, how to talk to it, and how checks are counted and printed.

import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readFileSync } from "node:fs";
import { isIP } from "node:net";

const { AKV_URL, AKV_TOKEN, AKV_CA, AKV_SKIP = "" } = process.env;
if (!AKV_URL || !AKV_TOKEN) {
  console.error("AKV_URL and AKV_TOKEN are not set: source the env file of `strongroom dev`.");
  process.exit(2);
}

export const url = AKV_URL.replace(/\/$/, "");
export const skipped = new Set(AKV_SKIP.split(",").filter(Boolean));

/** The smallest credential: always the same token. */
export const credential = (token = AKV_TOKEN) => ({
  getToken: async () => ({ token, expiresOnTimestamp: Date.now() + 3_600_000 }),
});

const { hostname } = new URL(url);

/** What every client is made with. Only a host without a parent domain needs the second line. */
export const options = {
  tlsOptions: AKV_CA ? { ca: readFileSync(AKV_CA) } : undefined,
  disableChallengeResourceVerification: hostname === "localhost" || isIP(hostname) !== 0,
  retryOptions: { maxRetries: 2, retryDelayInMs: 200, maxRetryDelayInMs: 1000 },
};

/** How often the SDK asks whether an object is deleted or recovered: its own 2 s are for a slower service. */
export const soon = { intervalInMs: 50 };

const run = randomBytes(4).toString("hex");

/** A name that no other run has. */
export const named = (what) => `js-${run}-${what}`;

let passed = 0;
let failed = 0;

/** One check: a line, and a count. The checks after it run whatever comes of it. */
export async function check(what, body) {
  try {
    await body();
    passed += 1;
    console.log(`ok    ${what}`);
  } catch (error) {
    failed += 1;
    const said = `${error.name}: ${error.message}`.replace(/\s+/g, " ").slice(0, 400);
    console.log(`FAIL  ${what}: ${error.statusCode ?? ""} ${said}`);
  }
}

/** The call must be refused with this status, and with this code when it is given. */
export async function refused(call, status, code) {
  const answer = call();
  await assert.rejects(answer, (error) => {
    assert.equal(error.statusCode, status, error.message);
    if (code) assert.equal(error.code, code, error.message);
    return true;
  });
}

/** Runs `body` for every item, four at a time. */
export async function each(items, body) {
  const left = [...items];
  const worker = async () => {
    for (let item = left.shift(); item !== undefined; item = left.shift()) await body(item);
  };
  await Promise.all(Array.from({ length: 4 }, worker));
}

/** Every item of a list, and how many pages it came in. No page may hold more than 25. */
export async function pages(list) {
  const items = [];
  let count = 0;
  for await (const page of list.byPage()) {
    assert.ok(page.length <= 25, `a page of ${page.length}`);
    items.push(...page);
    count += 1;
  }
  return { items, count };
}

/** The last line. */
export function finish() {
  console.log(`${passed} passed, ${failed} failed`);
  process.exitCode = failed === 0 && passed > 0 ? 0 : 1;
}

// No check may hang: the whole program ends after four minutes.
setTimeout(() => {
  console.log(`FAIL  not done after four minutes\n${passed} passed, ${failed + 1} failed`);
  process.exit(1);
}, 240_000).unref();
