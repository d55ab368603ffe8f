"""The task {{name}}, as the host sees it: greets whoever its arguments name."""

import sys

from greet import greeting
from wit_world import exports


class Run(exports.Run):
    def run(self) -> None:
        names = sys.argv[1:]
        if not names:
            print("usage: {{name}} NAME...", file=sys.stderr)
            sys.exit(2)
        for name in names:
            print(greeting(name))
