#!/usr/bin/env bash
# Installs the peers that the benchmarks compare with, from the package registries: crates.io and Debian's. Needs cargo,
# and root or sudo for what comes from Debian. Nothing it installs is started. What is there already is left alone.
set -euo pipefail
cd "$(dirname "$0")"

if ! command -v wasmtime >/dev/null && [ ! -x "${CARGO_HOME:-$HOME/.cargo}/bin/wasmtime" ]; then
    cargo install wasmtime-cli --version '^48' --locked
fi

# Program, and the Debian package it is in.
packages=(
    nginx:nginx-light haproxy:haproxy wrk:wrk
    crun:crun runc:runc podman:podman runsc:runsc
    etcd:etcd-server etcdctl:etcd-client
)
missing=()
for entry in "${packages[@]}"; do
    program=${entry%%:*}
    [ -x "/usr/sbin/$program" ] || command -v "$program" >/dev/null || missing+=("${entry#*:}")
done
# The seccomp profile of the fair rows.
[ -e /usr/share/containers/seccomp.json ] || missing+=(golang-github-containers-common)
if [ ${#missing[@]} -gt 0 ]; then
    root=(); [ "$(id -u)" = 0 ] || root=(sudo)
    "${root[@]}" apt-get update -q
    # Only the programs: as services they would take ports and processors. Each by itself, for not every release of
    # Debian has all of them.
    for package in "${missing[@]}"; do
        "${root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
            apt-get install -qy --no-install-recommends "$package" || echo "setup.sh: no $package here" >&2
    done
fi

# A peer with a wasmtime of its own: outside the workspace, so that neither decides the other's version.
cargo build --release --manifest-path extism/Cargo.toml
