#!/bin/sh
# Makes the pictures of README and docs again:
#   scripts/figures.sh MOEKIT      (wants chromium; `make figures` builds and calls it)
set -eu
moekit=$1
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome)
# docs/report.png: the head of the demo's page, as wide as a README shows it.
"$moekit" reproduce demo --quiet --out "$folder/demo" > /dev/null
"$browser" --headless --no-sandbox --disable-gpu --user-data-dir="$folder/profile" --hide-scrollbars \
  --window-size=1140,1125 --virtual-time-budget=10000 --screenshot="$folder/report.png" \
  "file://$folder/demo/report.html" > /dev/null 2>&1
mv "$folder/report.png" "$root/docs/report.png"
