#!/bin/sh
# Every picture that a text of the repository shows lies in it and has its command in
# scripts/figures.sh.   figures.sh ROOT
set -eu
cd "$1"
count=0
for picture in $(grep -rhoE '\]\([^)]*\.(png|svg)\)' README.md docs/*.md recipes/*/*.md |
    sed 's/](\(.*\))/\1/' | sort -u); do
  count=$((count + 1))
  name=$(basename "$picture")
  found=$(find docs recipes -name "$name")
  [ -n "$found" ] || { echo "$picture is shown and is not there"; exit 1; }
  grep -q "$name" scripts/figures.sh || { echo "$picture has no command in scripts/figures.sh"; exit 1; }
done
[ "$count" -gt 0 ] || { echo "no picture was found"; exit 1; }
echo "$count pictures"
