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
# One recipe: its details are open. Charts in folded ones wait.
canvases=$(grep -o '<canvas' page.html | wc -l)
[ "$canvases" -ge 3 ] || fail "only $canvases charts on the page"
grep -q "data-charts=\"$canvases\"" dom.html || fail "not all of $canvases charts were drawn"
for part in 'class="heat"' 'class="sheet"' 'Confusion by expert' '<details>' 'Figures' 'taken for'; do
  grep -q "$part" dom.html || fail "the page lacks $part"
done

# Two recipes: nothing is drawn before it is unfolded, and then everything.
"$moekit" train small.toml --quiet --seed 1 --set model.num_experts=6 --out other > /dev/null
"$moekit" report m-seed1 other -o two.html > /dev/null
canvases=$(grep -o '<canvas' two.html | wc -l)
look() {
  "$browser" --headless --no-sandbox --disable-gpu --user-data-dir="$PWD/profile" \
    --virtual-time-budget=10000 --dump-dom "$1" 2> /dev/null
}
look "file://$PWD/two.html" | grep -q 'data-charts="0"' || fail "folded charts were drawn"
look "file://$PWD/two.html#all" | grep -q "data-charts=\"$canvases\"" || fail "not all were unfolded"

# A phone's width: the page itself never scrolls sideways.
cat > phone.html <<HTML
<iframe id="f" src="two.html#all" width="400" height="800" onload="
  const page = document.getElementById('f').contentDocument.documentElement;
  document.title = 'wide by ' + (page.scrollWidth - page.clientWidth);"></iframe>
HTML
"$browser" --headless --no-sandbox --disable-gpu --user-data-dir="$PWD/profile" \
  --allow-file-access-from-files --virtual-time-budget=10000 --dump-dom "file://$PWD/phone.html" \
  2> /dev/null | grep -q '<title>wide by 0</title>' || fail "a phone has to scroll sideways"

# The test itself must see errors: a page with one has to be caught.
sed 's|draw();|draw(); console.error("planted");|' page.html > broken.html
"$browser" --headless --no-sandbox --disable-gpu --user-data-dir="$PWD/profile" \
  --enable-logging=stderr --virtual-time-budget=10000 --dump-dom "file://$PWD/broken.html" \
  > /dev/null 2> broken.log || true
grep -q "CONSOLE.*planted" broken.log || fail "a planted error was not seen"
rm -rf profile
echo ok
