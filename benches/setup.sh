#!/usr/bin/env bash
# Installs the peers that the benchmarks compare with, from the package registries: crates.io and Debian's. Needs cargo,
# and root or sudo for what comes from Debian. Nothing it installs is started. What is there already is left alone, so it
# can be run again. At the end it says what is there; what can't be had is left out of the benchmarks, and its exit code
# is then 1.
set -uo pipefail
cd "$(dirname "$0")"

failed=()
cargo_bin=${CARGO_HOME:-$HOME/.cargo}/bin
where() { PATH="$PATH:$cargo_bin:/usr/sbin:/sbin" command -v "$1"; }

# Program, and the Debian package it is in.
packages=(
    nginx:nginx-light haproxy:haproxy wrk:wrk
    crun:crun runc:runc podman:podman runsc:runsc
    etcd:etcd-server etcdctl:etcd-client
)
missing=()
for entry in "${packages[@]}"; do
    where "${entry%%:*}" >/dev/null || missing+=("${entry#*:}")
done
# The seccomp profile of the fair rows.
profile=/usr/share/containers/seccomp.json
[ -e "$profile" ] || missing+=(golang-github-containers-common)
# An official client.
has_boto3() { python3 -c 'import boto3' 2>/dev/null; }
has_boto3 || missing+=(python3-boto3)
if [ ${#missing[@]} -gt 0 ]; then
    echo "setup.sh: to be installed from Debian: ${missing[*]}"
    root=()
    [ "$(id -u)" = 0 ] || root=(sudo)
    "${root[@]}" apt-get update -q || echo 'setup.sh: apt-get update failed; what it knows may be old' >&2
    # Only the programs: as services they would take ports and processors. Each by itself, for not every release of
    # Debian has all of them.
    for package in "${missing[@]}"; do
        "${root[@]}" env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
            apt-get install -qy --no-install-recommends "$package" || failed+=("$package, of Debian")
    done
fi

if ! where wasmtime >/dev/null; then
    cargo install wasmtime-cli --version '^48' --locked || failed+=('wasmtime-cli, of crates.io')
fi

# A peer with a wasmtime of its own: outside the workspace, so that neither decides the other's version.
cargo build --release --locked --manifest-path extism/Cargo.toml || failed+=('Extism, of crates.io')
# Another official client, which nothing else here needs.
cargo build --release --locked --manifest-path sdks/rust/Cargo.toml || failed+=('the AWS SDK for Rust, of crates.io')

echo
echo 'setup.sh: the benchmarks find'
for program in wasmtime "${packages[@]%%:*}"; do
    printf '  %-10s %s\n' "$program" "$(where "$program" || echo 'nothing: its rows are left out')"
done
[ -e "$profile" ] || profile='nothing: rows with the usual confinement are left out'
printf '  %-10s %s\n' seccomp "$profile"
extism=extism/target/release/coracle-bench-extism
[ -x "$extism" ] && extism=$PWD/$extism || extism='nothing: its row is left out'
printf '  %-10s %s\n' Extism "$extism"
sdk=sdks/rust/target/release/coracle-bench-aws-sdk
[ -x "$sdk" ] && sdk=$PWD/$sdk || sdk='nothing: its row is left out'
printf '  %-10s %s\n' 'AWS SDK' "$sdk"
boto3=$(has_boto3 && command -v python3) || boto3='nothing: its row is left out'
printf '  %-10s %s\n' boto3 "$boto3"
if [ ${#failed[@]} -gt 0 ]; then
    printf 'setup.sh: could not install: %s\n' "${failed[@]}" >&2
    exit 1
fi
