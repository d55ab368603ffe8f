#!/usr/bin/env bash
# Installs the peers that the benchmarks compare with, from the package registries. Needs cargo, and
# root or sudo for the two that come from Debian.
set -euo pipefail
if ! command -v wasmtime >/dev/null && [ ! -x "${CARGO_HOME:-$HOME/.cargo}/bin/wasmtime" ]; then
    cargo install wasmtime-cli --version '^48' --locked
fi
# Only the programs: as services they would take ports.
missing=()
[ -x /usr/sbin/nginx ] || missing+=(nginx-light)
[ -x /usr/sbin/haproxy ] || missing+=(haproxy)
if [ ${#missing[@]} -gt 0 ]; then
    root=(); [ "$(id -u)" = 0 ] || root=(sudo)
    "${root[@]}" apt-get update -q
    "${root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -qy --no-install-recommends "${missing[@]}"
fi
