#!/bin/sh
# Makes {{name}}.wasm, or with `test` runs the tests. The first time it installs zig, whose C compiler it uses, from PyPI
# into .tools, or where TOOLS says.
set -eu
cd "$(dirname "$0")"
tools="${TOOLS:-.tools}"
if ! "$tools/bin/python" -c 'import ziglang' 2> /dev/null; then
    python3 -m venv "$tools"
    "$tools/bin/python" -m pip install --quiet --disable-pip-version-check -r requirements.txt
fi
# A stack of 256 KiB: zig would give every instance 16 MiB.
cc() { "$tools/bin/python" -m ziglang cc -Wall -Wextra "$@"; }
case "${1:-build}" in
build) cc -target wasm32-wasi -Os -s -Wl,-z,stack-size=262144 -o {{name}}.wasm main.c greet.c ;;
test) cc -o test test.c greet.c && ./test ;;
esac
