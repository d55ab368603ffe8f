#!/usr/bin/env bash
# Runs every fuzz target for a minute, or for as many seconds as the first argument says, on any Rust toolchain:
#
#   runtime/fuzz.sh [SECONDS [TARGET…]]
#
# What cargo-fuzz does with `-s none`, without it: coverage is LLVM's, and needs no nightly. Sanitizers would; the
# code under test is safe Rust, so panics and failed assertions are what there is to find. Only the crates named below
# are instrumented, so that fuzzing is about our code and the parsers in front of it, and the rest runs at full speed.
# The first build takes as long as a release build of wasmtime, once for all targets. What is found is left in the
# crate's `fuzz/artifacts/`.
set -euo pipefail

# Called by cargo in the place of rustc, which is the first argument then. What is for macros and build scripts, and so
# without a target, stays as it is: nobody there knows what instrumented code calls.
if [ -n "${CORACLE_FUZZ_RUSTC:-}" ]; then
    name= target=
    for ((at = 1; at <= $#; at++)); do
        case "${!at}" in
            --crate-name) ((at += 1)); name=${!at} ;;
            --target) target=given ;;
        esac
    done
    case "$target $CORACLE_FUZZ_RUSTC " in
        "given "*" $name "*)
            exec "$@" --cfg fuzzing -Cdebug-assertions=on -Coverflow-checks=on -Ccodegen-units=1 \
                -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
                -Cllvm-args=-sanitizer-coverage-trace-compares \
                -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table ;;
        *) exec "$@" ;;
    esac
fi

cd "$(dirname "$0")"
seconds=${1:-60}
host=$(rustc -vV | sed -n 's/^host: //p')
wanted=("${@:2}")
found=()
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$(dirname "$PWD")/target/fuzz}" CARGO_INCREMENTAL=0
targets() { for source in "$1"/fuzz/fuzz_targets/*.rs; do basename "$source" .rs; done; }
for crate in router sandbox; do
    # The versions that are tested, and libfuzzer-sys beside them.
    cp ../Cargo.lock "$crate/fuzz/Cargo.lock"
    RUSTC_WRAPPER="$PWD/fuzz.sh" \
        CORACLE_FUZZ_RUSTC="coracle_router coracle_sandbox httparse http wasmparser $(targets "$crate" | xargs)" \
        cargo build --release --target "$host" --manifest-path "$crate/fuzz/Cargo.toml"
    for target in $(targets "$crate"); do
        if ((${#wanted[@]})) && [[ " ${wanted[*]} " != *" $target "* ]]; then continue; fi
        echo "== $crate: $target"
        fuzz=$crate/fuzz
        mkdir -p "$fuzz/corpus/$target" "$fuzz/artifacts/$target"
        seeds=()
        if [ -d "$fuzz/seeds/$target" ]; then seeds=("$fuzz/seeds/$target"); fi
        "$CARGO_TARGET_DIR/$host/release/$target" -max_total_time="$seconds" -rss_limit_mb=4096 -print_final_stats=1 \
            -artifact_prefix="$fuzz/artifacts/$target/" "$fuzz/corpus/$target" "${seeds[@]}" || found+=("$fuzz/artifacts/$target")
    done
done
if ((${#found[@]})); then
    printf 'fuzz.sh: something was found: %s\n' "${found[@]/#/runtime/}" >&2
    exit 1
fi
