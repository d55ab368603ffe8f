#!/usr/bin/env bash
# Runs every fuzz target for a minute, or for as many seconds as the first argument says, on any Rust toolchain:
#
#   runtime/fuzz.sh [SECONDS [TARGET…]]
#
# What cargo-fuzz does with `-s none`, without it: coverage is LLVM's, and needs no nightly. Sanitizers would; the
# code under test is safe Rust, so panics and failed assertions are what there is to find. The first build takes as
# long as a release build of wasmtime. What is found is left in the target's `artifacts/`.
set -euo pipefail
cd "$(dirname "$0")"
seconds=${1:-60}
wanted=("${@:2}")
host=$(rustc -vV | sed -n 's/^host: //p')
export RUSTFLAGS="--cfg fuzzing -Ccodegen-units=1 -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table"
for manifest in */fuzz/Cargo.toml; do
    crate=$(dirname "$manifest")
    # For a target by name, so that build scripts and macros are not instrumented.
    cargo build --release --target "$host" --manifest-path "$manifest"
    for source in "$crate"/fuzz_targets/*.rs; do
        target=$(basename "$source" .rs)
        if ((${#wanted[@]})) && [[ " ${wanted[*]} " != *" $target "* ]]; then continue; fi
        echo "== $crate: $target"
        mkdir -p "$crate/corpus/$target" "$crate/artifacts/$target"
        seeds=()
        if [ -d "$crate/seeds/$target" ]; then seeds=("$crate/seeds/$target"); fi
        "$crate/target/$host/release/$target" -max_total_time="$seconds" -rss_limit_mb=4096 \
            -artifact_prefix="$crate/artifacts/$target/" "$crate/corpus/$target" "${seeds[@]}"
    done
done
