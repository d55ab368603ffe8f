import assert from "node:assert/strict";
import { test } from "node:test";

// Node has requests and responses, but no `fetch` events: the test is who listens.
let listener;
globalThis.addEventListener = (_, added) => (listener = added);
await import("../src/main.js");

async function answer(path) {
  let response;
  listener({ request: new Request(`http://localhost${path}`), respondWith: (given) => (response = given) });
  return await response;
}

test("it greets", async () => {
  assert.equal(await (await answer("/greet/you")).text(), "Hello, you!\n");
});

test("nothing else is there", async () => {
  assert.equal((await answer("/nowhere")).status, 404);
});
