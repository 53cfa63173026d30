#!/bin/sh
# A study of two rows and a claim: runs, table, claims, report page, and going on after a failure.
set -eu
moekit=$1
. "$(dirname "$0")/lib.sh"
fresh_folder "$2"
mkdir -p recipes/tiny
cd recipes/tiny
write_recipe
cat > study.toml <<'TOML'
title = "tiny"
source = "nobody"
quick_seeds = 2
[[row]]
name = "t/teacher"
tier = "quick"
label = "teacher"
recipe = "small.toml"
paper = { test_error = 0.25 }
[[row]]
name = "t/student"
tier = "quick"
label = "student"
recipe = "small.toml"
set = ["init.freeze_experts=true"]
needs = { "init.experts_from" = "t/teacher" }
[[row]]
name = "t/absent"
tier = "quick"
label = "absent"
recipe = "small.toml"
set = ["data.name=usps"]
[[claim]]
text = "students are no worse by half"
source = "ours"
tier = "quick"
check = [{ left = "t/student.test_error", op = "<=", right = "t/teacher.test_error", offset = 0.5 }]
[[claim]]
text = "absent is tested"
source = "ours"
tier = "quick"
check = [{ left = "t/absent.test_error", op = "<", right = "t/teacher.test_error" }]
TOML
cd ../..
export MOEKIT_RECIPES="$PWD/recipes" XDG_CACHE_HOME="$PWD/cache"
unset MOEKIT_DATA
expect 0 "[undecided] students" "$moekit" reproduce tiny --jobs 2 --out out --quiet
expect 0 "2 seeds; a verdict takes 5" "$moekit" reproduce tiny --out out --table-only
expect 0 "[held] students" "$moekit" reproduce tiny --seeds 5 --jobs 2 --out out --quiet
expect 0 "[not tested] absent" "$moekit" reproduce tiny --out out --table-only
expect 0 "data set usps was not found" "$moekit" reproduce tiny --out out --table-only
expect 0 '"verdict": "held"' "$moekit" reproduce tiny --seeds 5 --out out --table-only --json
expect 0 "[not tested] students" "$moekit" reproduce tiny --seeds 6 --out out --table-only
expect 0 "t/student.test_error: 1 of 6 seeds are missing" "$moekit" reproduce tiny --seeds 6 \
  --out out --table-only
expect 0 "[held] students" "$moekit" reproduce tiny --seeds 6 --out out --table-only --allow-missing
expect 0 "out/report.html" "$moekit" reproduce tiny --out out --table-only --markdown t.md
grep -q "| teacher | 0.2500 |" t.md || fail "the Markdown table lacks the paper's figure"
# A table is what its record gives, and a run gives the same again.
expect 0 "sound" "$moekit" reproduce tiny --check t.md --sample 1 --out again --quiet
sed 's/| teacher | 0.2500 |/| teacher | 0.2600 |/' t.md > edited.md
cp t.json edited.json
expect 1 "NOT sound" "$moekit" reproduce tiny --check edited.md --sample 0 --out again --quiet
expect 1 "edited.json" sh -c 'echo "{}" > edited.json; exec "$0" "$@"' "$moekit" reproduce tiny \
  --check edited.md --sample 0 --out again --quiet
# Nothing that is no record of tables is written over, and nothing is written twice.
before=$(sha256sum out/t/teacher/seed1/summary.json)
expect 1 "is no record of tables" "$moekit" reproduce tiny --out out --table-only \
  --markdown out/t/teacher/seed1/summary.md
[ "$before" = "$(sha256sum out/t/teacher/seed1/summary.json)" ] || fail "a run's summary was replaced"
expect 2 "name a FILE.md" "$moekit" reproduce tiny --out out --table-only --markdown x.json
expect 2 "is what --markdown writes" "$moekit" reproduce tiny --out out --table-only \
  --markdown both.md --report ./both.json
expect 1 "nowhere" "$moekit" reproduce tiny --out out --markdown nowhere/t.md
[ ! -e both.md ] && [ ! -e x.json ] || fail "a refused table was written"
expect 2 "seed is set by the study" "$moekit" reproduce tiny --out out --set seed=4
# Runs of another recipe are named and left out; a table in which nothing stands is no success.
expect 1 "made by another recipe: data.train_limit was" "$moekit" reproduce tiny --out out \
  --table-only --set data.train_limit=50
# One that started from a run that was trained anew since does not stand for the new one's.
cp recipes/tiny/study.toml kept.toml
sed 's/label = "teacher"/&\nset = ["train.lr=0.02"]/' kept.toml > recipes/tiny/study.toml
rm -rf out/t/teacher
expect 1 "another model of the run that init.experts_from names" \
  "$moekit" reproduce tiny --jobs 2 --out out --quiet
cp kept.toml recipes/tiny/study.toml
for flag in --full "--seeds 3" "--set train.lr=1" --json; do
  # shellcheck disable=SC2086
  expect 2 "--check" "$moekit" reproduce tiny --check t.md $flag
done
expect 2 "--max-seeds" "$moekit" reproduce tiny --until-decided --out out
# A mistake in a recipe is refused before any run; a run that fails takes its followers along.
expect 2 "train.lr must be positive" "$moekit" reproduce tiny --out out2 --quiet --set train.lr=0
[ ! -e out2 ] || fail "a refused study left a folder"
expect 1 "needs t/teacher/seed1, which failed" "$moekit" reproduce tiny --out out2 --quiet \
  --set data.train_limit=9999
echo ok
