#!/bin/sh
# Makes {{name}}.wasm, or with `test` runs the tests. The first time it installs zig, whose C compiler it uses, from PyPI
# into .tools, or where TOOLS says, and jco, which makes a component of the module, from npm.
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
build)
    [ -d node_modules ] || npm install --no-audit --no-fund --silent
    cc -target wasm32-wasi -mexec-model=reactor -Os -s -Wl,-z,stack-size=262144 -o core.wasm main.c words.c
    npx jco embed core.wasm --wit wit --world-name plugin -o embedded.wasm > /dev/null
    npx jco new embedded.wasm --wasi-reactor -o {{name}}.wasm > /dev/null
    rm core.wasm embedded.wasm
    ;;
test) cc -o test test.c words.c && ./test ;;
esac
