#!/bin/sh
# clang-tidy over library, command, examples and benchmarks; prints what it finds in our files and
# fails when there is anything. libtorch's own headers do not compile under clang as C++20 with
# libstdc++ 12; clang-tidy reads on, and those errors are left out.
set -eu
build=${1:-build-tidy}
root=$(cd "$(dirname "$0")/.." && pwd)
cmake -S "$root" -B "$build" -G Ninja -DCMAKE_DISABLE_PRECOMPILE_HEADERS=ON \
  -DCMAKE_EXPORT_COMPILE_COMMANDS=ON -DMOEKIT_BUILD_BENCHMARKS=ON > /dev/null
sed -n 's/.*"file": "\(.*\)".*/\1/p' "$build/compile_commands.json" |
  grep -v -e /tests/ -e avx -e moekit_pch -e report_assets |
  xargs -P "$(nproc)" -n 1 clang-tidy -p "$build" --quiet --config-file="$root/.clang-tidy" \
    --extra-arg=-Wno-everything > "$build/tidy.log" 2> "$build/tidy.errors" || true
# Several sources are compiled at once by a generated one, which includes them.
grep "^$root/.*warning:" "$build/tidy.log" | grep -v -e bugprone-suspicious-include |
  sed "s#^$root/##" | sort -u > "$build/tidy.found" || true
cat "$build/tidy.found"
[ ! -s "$build/tidy.found" ]
