import assert from "node:assert/strict";
import { test } from "node:test";
import { summarize } from "../src/main.js";

test("it counts words", () => {
  assert.deepEqual(summarize("every word counts"), { words: 3, longest: "counts" });
});
