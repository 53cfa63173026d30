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
# It finds what computes beside itself too, not in the build.
prefix/bin/moekit train --list-keys | grep -q "model.router.kind"
prefix/bin/moekit train --list-keys | cmp - "$(find prefix -name keys.txt)"
LD_DEBUG=files LD_DEBUG_OUTPUT=opened prefix/bin/moekit data list > sets
grep -q "$work/prefix/lib.*/moekit/commands.so" opened.*
# Completions and manual lie where shells and man look for them.
for file in bash-completion/completions/moekit zsh/site-functions/_moekit man/man1/moekit.1 \
            man/man1/moekit-train.1; do
  [ -s "prefix/share/$file" ] || { echo "not installed: $file"; exit 1; }
done
