#!/usr/bin/env bash
# Installs the peers that the benchmarks compare with, from the package registries. Needs cargo.
set -euo pipefail
if ! command -v wasmtime >/dev/null && [ ! -x "${CARGO_HOME:-$HOME/.cargo}/bin/wasmtime" ]; then
    cargo install wasmtime-cli --version '^48' --locked
fi
