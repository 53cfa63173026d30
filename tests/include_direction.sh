#!/bin/sh
# A module includes only from groups left of its own (docs/architecture.md); files of one folder
# may include each other.
set -eu
cd "$1"
rank() {
  case "$1" in
    core) echo 0 ;;
    events|kernels|report|tensor|text) echo 1 ;;
    data|checkpoint|study) echo 2 ;;
    nn|published) echo 3 ;;
    merge|models|metrics|theory) echo 4 ;;
    compress|train) echo 5 ;;
    run|bench) echo 6 ;;
    tasks) echo 7 ;;
    *) echo unknown ;;
  esac
}
status=0
for file in $(find moekit -name '*.h' -o -name '*.cpp'); do
  own=$(echo "$file" | cut -d/ -f2)
  [ "$(rank "$own")" != unknown ] || { echo "$file: module $own has no rank"; status=1; continue; }
  for other in $(sed -n 's|^#include "moekit/\([a-z_]*\)/.*|\1|p' "$file" | sort -u); do
    [ "$other" = "$own" ] && continue
    if [ "$(rank "$other")" = unknown ] || [ "$(rank "$other")" -ge "$(rank "$own")" ]; then
      echo "$file includes moekit/$other: not left of moekit/$own"
      status=1
    fi
  done
  if grep -q '#include "cli/' "$file"; then echo "$file includes cli/"; status=1; fi
done
# Tasks never include each other; only the table of tasks knows them all.
for folder in moekit/tasks/*/; do
  task=$(basename "$folder")
  if grep -rnE '#include "moekit/tasks/' "$folder" | grep -v "moekit/tasks/$task/.*moekit/tasks/$task/"; then
    echo "moekit/tasks/$task includes another task"
    status=1
  fi
done
# Modules free of torch stay so.
for module in core events kernels report study text; do
  if grep -rnE '#include <(torch|ATen|c10)/' moekit/$module; then
    echo "moekit/$module must not include torch"
    status=1
  fi
done
exit $status
