// The task {{name}}: greets whoever its arguments name.
import { getArguments } from "wasi:cli/environment@0.2.10";
import { exitWithCode } from "wasi:cli/exit@0.2.10";

export const run = {
  run() {
    const names = getArguments().slice(1);
    if (names.length === 0) {
      console.error("usage: {{name}} NAME...");
      exitWithCode(2);
    }
    for (const name of names) {
      console.log(`Hello, ${name}!`);
    }
  },
};
