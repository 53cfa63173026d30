#!/bin/sh
# Installs the build into a fresh folder and builds and runs a project that only knows that folder.
set -eu
cmake=$1; build=$2; work=$3
source=$(cd "$(dirname "$0")" && pwd)
rm -rf "$work"; mkdir -p "$work"
"$cmake" --install "$build" --prefix "$work/prefix" > "$work/install.log"
"$cmake" -S "$source" -B "$work/build" -DCMAKE_PREFIX_PATH="$work/prefix" -DCMAKE_BUILD_TYPE=Debug > "$work/configure.log"
"$cmake" --build "$work/build" > "$work/build.log" || { tail -30 "$work/build.log"; exit 1; }
"$work/build/consumer"
"$work/build/consumer_kernels"
# The installed command finds its recipes beside itself.
cd "$work"
[ -x prefix/bin/moekit ]
if prefix/bin/moekit reproduce nothing 2> said; then exit 1; fi
grep -q "attentive-gate" said
