import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { existsSync } from "node:fs";
import { test } from "node:test";

// What it imports is there only in a component: the test runs that.
const component = "{{name}}.wasm";

test("it greets", { skip: existsSync(component) ? false : "npm run build comes first" }, () => {
  const { stdout, status } = spawnSync("coracle", ["run", component, "--", "you", "me"], { encoding: "utf8" });
  assert.equal(stdout, "Hello, you!\nHello, me!\n");
  assert.equal(status, 0);
});
