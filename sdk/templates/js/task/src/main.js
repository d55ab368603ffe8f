// The task {{name}}: greets whoever its arguments name.
import { getArguments } from "wasi:cli/environment@0.2.10";
import { exitWithCode } from "wasi:cli/exit@0.2.10";
import { getStderr } from "wasi:cli/stderr@0.2.10";
import { getStdout } from "wasi:cli/stdout@0.2.10";

export const run = {
  run() {
    const names = getArguments().slice(1);
    if (names.length === 0) {
      print(getStderr(), "usage: {{name}} NAME...");
      exitWithCode(2);
    }
    for (const name of names) {
      print(getStdout(), `Hello, ${name}!`);
    }
  },
};

// Writes a line. QuickJS has neither `console` nor `TextEncoder`.
function print(stream, line) {
  const bytes = unescape(encodeURIComponent(`${line}\n`));
  stream.blockingWriteAndFlush(Uint8Array.from(bytes, (byte) => byte.charCodeAt(0)));
}
