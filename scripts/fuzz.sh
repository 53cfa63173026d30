#!/bin/sh
# Runs the fuzz targets one after the other and stops at the first fault.
#   scripts/fuzz.sh BUILD RUNS [target ...]     (default: all targets)
# Inputs found on the way are kept in BUILD/corpus, a faulty one in BUILD/fault-*.
set -eu
build=$(cd "$1" && pwd)
runs=$2
shift 2
source=$(cd "$(dirname "$0")/.." && pwd)
[ $# -gt 0 ] || set -- safetensors index trace state optimizer summary metrics study record recipe tokenizer tokens idx cifar

# libtorch and simdjson are not instrumented: a container they fill has no annotations.
export ASAN_OPTIONS=detect_leaks=0:detect_container_overflow=0:detect_odr_violation=0
export UBSAN_OPTIONS=print_stacktrace=1
export OMP_NUM_THREADS=1
mkdir -p "$build/corpus" "$build/tmp"
export TMPDIR="$build/tmp"
"$build/fuzz/fuzz_seeds" "$build/corpus" "$source"
for target in "$@"; do
  log="$build/fuzz-$target.log"
  # 8192 bytes hold two records of CIFAR; what is slow or takes much memory is a fault as well.
  if ! "$build/fuzz/fuzz_$target" -runs="$runs" -max_len=8192 -len_control=0 -timeout=20 \
      -rss_limit_mb=3000 -malloc_limit_mb=2000 -print_final_stats=1 -verbosity=1 -close_fd_mask=1 \
      -artifact_prefix="$build/fault-$target-" "$build/corpus/$target" > "$log" 2>&1; then
    tail -n 40 "$log" >&2
    echo "$target: a fault; see $log and $build/fault-$target-*" >&2
    exit 1
  fi
  executed=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  echo "$target: $executed executions, no fault"
done
rm -rf "$build/tmp"
