#!/bin/sh
# Loads a report page in headless Chromium: every chart is drawn, every figure is there, and the
# console holds no error. Skips where Chromium is not installed.
set -eu
moekit=$1
. "$(dirname "$0")/lib.sh"
browser=$(command -v chromium || command -v chromium-browser || command -v google-chrome || true)
[ -n "$browser" ] || { echo "no Chromium: skipped"; exit 77; }
fresh_folder "$2"
write_recipe
for seed in 1 2; do "$moekit" train small.toml --quiet --seed $seed --out "m-seed$seed" > /dev/null; done
"$moekit" report m-seed1 m-seed2 -o page.html > /dev/null

"$browser" --headless --no-sandbox --disable-gpu --user-data-dir="$PWD/profile" \
  --enable-logging=stderr --virtual-time-budget=10000 --dump-dom "file://$PWD/page.html" \
  > dom.html 2> console.log || fail "the browser failed: $(tail -3 console.log)"
if grep "CONSOLE" console.log; then fail "the console is not empty"; fi
canvases=$(grep -o '<canvas' page.html | wc -l)
[ "$canvases" -ge 3 ] || fail "only $canvases charts on the page"
grep -q "data-charts=\"$canvases\"" dom.html || fail "not all of $canvases charts were drawn"
for part in 'class="heat"' 'class="sheet"' 'Confusion by expert' '<details>' 'Comparison'; do
  grep -q "$part" dom.html || fail "the page lacks $part"
done
# The test itself must see errors: a page with one has to be caught.
sed 's|draw();|draw(); console.error("planted");|' page.html > broken.html
"$browser" --headless --no-sandbox --disable-gpu --user-data-dir="$PWD/profile" \
  --enable-logging=stderr --virtual-time-budget=10000 --dump-dom "file://$PWD/broken.html" \
  > /dev/null 2> broken.log || true
grep -q "CONSOLE.*planted" broken.log || fail "a planted error was not seen"
rm -rf profile
echo ok
