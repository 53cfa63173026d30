#!/bin/sh
# `moekit merge` as a user meets it: a run made smaller, judged again, and what it refuses.
set -eu
moekit=$1 work=$2
. "$(dirname "$0")/lib.sh"
fresh_folder "$work"
write_recipe
$moekit train small.toml --out run --quiet >/dev/null
sed 's/num_experts = 4/kind = "sparse"\nnum_experts = 4/' small.toml > sparse.toml
printf '[model.router]\ntop_k = 2\n' >> sparse.toml
$moekit train sparse.toml --out sparse --quiet >/dev/null

for method in weights output_cka router; do
  expect 0 "4 experts become 2" $moekit merge sparse --keep 2 --method $method --align -o "by-$method"
done
expect 0 '"experts": 2' cat by-weights/model/config.json

# What the report says of the merged model is what the folder holds.
$moekit merge run --keep 2 -o merged --json > report.json
cmp report.json merged/merge.json || fail "merge --json and merge.json differ"
$moekit eval merged --json > again.json
python3 - report.json again.json <<'PY'
import json, sys
report, again = (json.load(open(name)) for name in sys.argv[1:])
after = report["after"]["test"]
assert after == again, (after, again)
groups = report["layers"][0]["groups"]
assert sorted(sum((g["experts"] for g in groups), [])) == [0, 1, 2, 3], groups
assert all(abs(sum(g["weights"]) - 1) < 1e-9 for g in groups), groups
assert report["after"]["bytes"] < report["before"]["bytes"], report
assert report["before"]["test"]["error"] == json.load(open("run/summary.json"))["test"]["error"]
PY
$moekit inspect merged >/dev/null
$moekit report run merged -o page.html >/dev/null

# The same again is the same.
$moekit merge run --keep 2 -o twice --json > twice.json
cmp report.json twice.json || fail "two merges differ"

# What lies beside is the user's.
mkdir mine.tmp
echo kept > mine.tmp/file
$moekit merge run --keep 3 -o mine >/dev/null
[ "$(cat mine.tmp/file)" = kept ] || fail "merge took mine.tmp for its own"
[ "$(ls -d mine*)" = "mine
mine.tmp" ] || fail "merge left something: $(ls -d mine*)"

# Merged to fewer still.
expect 0 "2 experts become 1" $moekit merge merged --keep 1 -o one

expect 2 "--keep must be below 4, as many experts as layer \"mixture\" has; got 4" \
  $moekit merge run --keep 4 -o x
expect 2 "--keep must be at least 2" $moekit merge sparse --keep 1 -o x
sed 's/^num_experts/router = { kind = "attentive", trunk = { hidden = [16] } }\nnum_experts/' small.toml > attentive.toml
$moekit train attentive.toml --out attentive --quiet >/dev/null
expect 0 "4 experts become 3" $moekit merge attentive --keep 3 -o fewer
expect 2 "--align: the router of layer \"mixture\" reads the experts' features" \
  $moekit merge attentive --keep 2 --align -o x
expect 2 "--router mean: the router of layer \"mixture\" has no rows" \
  $moekit merge attentive --keep 2 --router mean -o x
printf 'task = "soft_routed"\ndim = 8\nteacher_pairs = 1\nstudent_pairs = 2\nbatch_size = 64\ntime = 2\nfine_tune_steps = 5\ntest_samples = 500\n' > soft.toml
$moekit train soft.toml --quiet --out soft >/dev/null
expect 2 "merge takes runs of task \"classification\"" $moekit merge soft --keep 2 -o x
cp -r sparse edited
sed 's/top_k = 2/top_k = 3/' sparse/config.toml > edited/config.toml
expect 1 "edited/config.toml is not the recipe of model/config.json" \
  $moekit merge edited --keep 3 -o x
cp -r sparse damaged
echo nonsense > damaged/metrics.jsonl
expect 1 "damaged/metrics.jsonl:1" $moekit merge damaged --keep 3 -o x
expect 2 "--output sparse.toml/x cannot be made" $moekit merge sparse --keep 3 -o sparse.toml/x
expect 2 "--samples must be at least 4 with --method output_cka; got 3" \
  $moekit merge run --keep 2 --samples 3 -o x
expect 2 "--samples must be at most" $moekit merge run --keep 2 --samples 100000 -o x
expect 2 "--output merged cannot be made: something of that name is there already" $moekit merge run --keep 2 -o merged
expect 2 "--keep is required" $moekit merge run -o x
expect 2 "did you mean output_cka?" $moekit merge run --keep 2 --method output_ka -o x
expect 1 "nowhere: is no run folder" $moekit merge nowhere --keep 2 -o x
sed 's/num_experts = 4/kind = "single"/' small.toml > single.toml
$moekit train single.toml --out single --quiet >/dev/null
expect 2 "a single model has no experts to merge" $moekit merge single --keep 2 -o x
[ ! -e x ] || fail "a refused merge left a folder"
# It is no run of its recipe: nothing goes on from it.
expect 2 "keeps no checkpoint" $moekit train --resume --out merged --set train.epochs=9
echo "merge: all good"
