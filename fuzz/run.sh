#!/usr/bin/env bash
# Builds the targets with libFuzzer's coverage and runs each on RUNS inputs, or only those
# in TARGETS. A line a target; the first input that breaks a bound is named and kept.
set -euo pipefail
cd "$(dirname "$0")"
RUNS=${RUNS:-1000000}
OUT=$(cd .. && pwd)/target/fuzz
host=$(rustc -vV | sed -n 's/^host: //p')
# The coverage that cargo-fuzz asks for, without sanitizers: those need a nightly compiler,
# and but for `sys` modules there is no unsafe code. These flags stand in place of the ones
# in .cargo/config.toml: libFuzzer does not start in a static binary.
export RUSTFLAGS="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
-Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
-Cllvm-args=-sanitizer-coverage-trace-compares"
cargo build --quiet --release --target "$host" --target-dir "$OUT/build"
bin=$OUT/build/$host/release
"$bin/seeds" "$OUT"
failed=0
for target in ${TARGETS:-$(sed -n 's|^path = "targets/\(.*\)\.rs"|\1|p' Cargo.toml)}; do
    mkdir -p "$OUT/$target/corpus"
    log=$OUT/$target/log
    began=$(date +%s)
    if (cd "$OUT/$target" && "$bin/$target" corpus seeds -runs="$RUNS" -rss_limit_mb=256 -timeout=1 \
        -max_len="${MAX_LEN:-4096}" -dict="$OUT/words" -seed="${SEED:-1}" -print_final_stats=1 > log 2>&1); then
        printf '%-16s %s; %s s\n' "$target" "$(sed -n 's/^MEASURED //p' "$log")" $(($(date +%s) - began))
    else
        failed=1
        printf '%-16s FAILED: %s\n' "$target" "$(grep -aE -m1 -A1 'panicked at|ERROR: libFuzzer' "$log" | tr '\n' ' ')"
        printf '%-16s reproduce: %s %s\n' '' "$bin/$target" "$(sed -n "s|^.*Test unit written to \./|$OUT/$target/|p" "$log")"
    fi
done
exit $failed
