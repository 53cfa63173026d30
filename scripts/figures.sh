#!/bin/sh
# Makes the pictures of README and docs again:
#   scripts/figures.sh MOEKIT      (wants chromium; `make figures` builds and calls it)
set -eu
moekit=$1
root=$(cd "$(dirname "$0")/.." && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome)
# shoot PAGE HEIGHT PICTURE: the head of a page, as wide as a README shows it.
shoot() {
  "$browser" --headless --no-sandbox --disable-gpu --user-data-dir="$folder/profile" \
    --hide-scrollbars --window-size=1140,"$2" --virtual-time-budget=10000 \
    --screenshot="$folder/picture.png" "file://$1" > /dev/null 2>&1
  mv "$folder/picture.png" "$3"
}
# docs/report.png: the demo's page.
"$moekit" reproduce demo --quiet --out "$folder/demo" > /dev/null
shoot "$folder/demo/report.html" 1125 "$root/docs/report.png"
# docs/texts.png: of a language model's page the texts alone, laid over all before them.
"$moekit" train "$root/recipes/language/default.toml" --set train.epochs=3 --out "$folder/language" \
  --quiet > /dev/null
"$moekit" report "$folder/language" -o "$folder/language.html" > /dev/null
over='.texts{position:absolute;top:0;left:0;right:0;padding:0 20px 400px;background:Canvas;z-index:9}'
sed "s#</head>#<style>$over</style></head>#" "$folder/language.html" > "$folder/texts.html"
shoot "$folder/texts.html" 1000 "$root/docs/texts.png"
