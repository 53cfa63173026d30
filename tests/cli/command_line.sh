#!/bin/sh
# The command as a user meets it: help, mistakes, a small run, inspect, report, eval.
set -eu
moekit=$1
. "$(dirname "$0")/lib.sh"
source=$(cd "$(dirname "$0")/../.." && pwd)
fresh_folder "$2"
write_recipe

expect 0 "reproduce" "$moekit" --help
for command in train eval inspect report reproduce data bench version; do
  expect 0 "Usage" "$moekit" $command --help
done
expect 0 "libtorch" "$moekit" version
expect 2 "subcommand is required" "$moekit"
expect 2 "not expected" "$moekit" train --no-such-flag
expect 2 "give a recipe" "$moekit" train
expect 1 "cannot open nowhere.toml" "$moekit" train nowhere.toml
expect 0 "model.router.top_k" "$moekit" train --list-keys
expect 2 "--markdown goes with --list-keys" "$moekit" train small.toml --markdown
# The page of keys is what the tables say.
"$moekit" train --list-keys --markdown > keys.md
cmp keys.md "$source/docs/keys.md" || fail "docs/keys.md: run moekit train --list-keys --markdown"
# A key that the chosen kind does not have is refused with those it has.
expect 2 'unknown key model.router.temperature; kind = "attentive" has kind input patch_size' \
  "$moekit" train small.toml --set model.router.kind=attentive --set model.router.temperature=2.0
expect 2 'unknown key model.router; kind = "single" has kind expert' \
  "$moekit" train small.toml --set 'model={kind="single", router={top_k=1}}'
expect 2 'unknown key train.momentum; optimizer = "adam", schedule = "constant" has epochs' \
  "$moekit" train small.toml --set train.momentum=0.9
expect 2 "must be a finite number" "$moekit" train small.toml --set train.lr=inf

printf '[train]\nlearning_rate = 1\n' > wrong.toml
expect 2 "wrong.toml:2: unknown key train.learning_rate" "$moekit" train wrong.toml
printf '[train]\nlr = "fast"\n' > wrong.toml
expect 2 "wrong.toml:2: train.lr must be a number; got \"fast\"" "$moekit" train wrong.toml
printf '[train\n' > wrong.toml
expect 1 "wrong.toml:1" "$moekit" train wrong.toml
expect 2 "model.router.top_k must be 0 (all) or 1..4 (num_experts); got 9" \
  "$moekit" train small.toml --set model.router.top_k=9
[ ! -e runs ] || fail "a refused recipe left a run folder"
expect 2 "unknown data set \"nope\"" "$moekit" train small.toml --set data.name=nope
expect 1 "no such folder" "$moekit" train small.toml --set data.name=usps --data /nonexistent
expect 2 "Could not convert: --seed = x" "$moekit" train small.toml --seed x
expect 2 "seed must be at least 0; got -3" "$moekit" train small.toml --seed -3

expect 0 "test" "$moekit" train small.toml --quiet --out a-seed1
for file in config.toml run.json metrics.jsonl summary.json trace.safetensors \
            model/model.safetensors model/config.json; do
  [ -s "a-seed1/$file" ] || fail "no $file"
done
expect 2 "holds a run already" "$moekit" train small.toml --quiet --out a-seed1
expect 0 "a-seed1" "$moekit" train --resume --out a-seed1
expect 2 "another recipe" "$moekit" train small.toml --resume --out a-seed1 --seed 5
expect 0 '"error"' "$moekit" train small.toml --quiet --json --seed 2 --out a-seed2
expect 0 "error" "$moekit" eval a-seed1
expect 0 "by true cluster" "$moekit" inspect a-seed1
expect 0 '"routing_regret"' "$moekit" inspect a-seed1 --json
expect 0 "router saturation" "$moekit" inspect a-seed2 --against a-seed1
expect 1 "is no run folder" "$moekit" inspect nowhere
expect 0 "page.html" "$moekit" report a-seed1 a-seed2 -o page.html
[ "$(ls page.html* | wc -l)" = 1 ] || fail "a temporary file was left"
expect 1 "cannot create" "$moekit" report a-seed1 -o /nonexistent/page.html

# Measuring: every option refused with what there is; a small measurement as text and JSON, and on
# the routing of a run.
expect 0 "reference" "$moekit" bench isa
expect 0 "reference  (used)" env MOEKIT_ISA=reference "$moekit" bench isa
expect 2 "wanted one of avx512-vnni, avx512, avx2, reference" "$moekit" bench moe --isa sse9
expect 2 "MOEKIT_ISA: instruction set avx9 is unknown" env MOEKIT_ISA=avx9 "$moekit" bench isa
expect 2 "wanted one of f32, bf16, int8" "$moekit" bench moe --format int3
expect 2 "wanted one of mixtral4" "$moekit" bench moe --shape huge
expect 2 "is none of uniform, zipf, one or trace" "$moekit" bench moe --routing best
expect 2 "tokens must be 1..65536; got 0" "$moekit" bench moe --tokens 0
expect 2 "a training step takes formats f32 and bf16; got int8" \
  "$moekit" bench moe --pass train --format int8
expect 1 "nowhere.safetensors" \
  "$moekit" bench moe --shape tiny --routing trace --trace nowhere.safetensors
small="--shape tiny --tokens 4 --format f32,int8 --routing one --runs 2 --seconds 0"
expect 0 "as fast as" "$moekit" bench moe $small
expect 0 '"bound_fraction"' "$moekit" bench moe $small --no-baselines --json
expect 2 "shape tiny has 2 of 16" \
  "$moekit" bench moe --shape tiny --routing trace --trace a-seed1/trace.safetensors

# A broken model is refused by name.
head -c 300 a-seed2/model/model.safetensors > cut && mv cut a-seed2/model/model.safetensors
expect 1 "model.safetensors" "$moekit" eval a-seed2

# Generated data with options, and another kind of run.
cat > patches.toml <<'TOML'
[data]
name = "cluster-patch"
options = { num_train = 400, num_test = 200 }
[model]
kind = "sparse_mixture"
num_experts = 4
[model.expert]
kind = "patch"
activation = "cubic"
[model.router]
input = "patch_sum"
top_k = 1
[train]
epochs = 2
batch_size = 100
TOML
expect 0 "centres_covered" "$moekit" train patches.toml --quiet --out patches-seed1
expect 0 "dispatch entropy" "$moekit" inspect patches-seed1
expect 0 "true directions \"centre\"" "$moekit" inspect patches-seed1
for wrong in "num_clusters=26:2..25; got 26" "num_patches=2:at least 3; got 2" \
             "gamma=[2.0, 1.0]:gamma must be" "colour=1:unknown key"; do
  expect 2 "${wrong#*:}" "$moekit" train patches.toml --out refused \
    --set "data.options.${wrong%%:*}"
done
expect 2 "cubic" "$moekit" train patches.toml --out refused --set model.expert.activation=quartic
expect 2 "model.num_experts must be at least 1; got 0" "$moekit" train patches.toml --out refused \
  --set model.num_experts=0
printf 'task = "soft_routed"\ndim = 8\nteacher_pairs = 1\nstudent_pairs = 2\nbatch_size = 64\ntime = 2\nfine_tune_steps = 5\ntest_samples = 500\n' > soft.toml
expect 0 "loss_final" "$moekit" train soft.toml --quiet --out soft-seed1
expect 0 "rho_v" "$moekit" inspect soft-seed1
expect 0 "both.html" "$moekit" report soft-seed1 patches-seed1 -o both.html
expect 2 "task \"soft_routed\"" "$moekit" eval soft-seed1
expect 2 "teacher_pairs must be 1..dim/2 = 1..4; got 5" "$moekit" train soft.toml --out refused \
  --set teacher_pairs=5
expect 2 "unknown task \"nope\"" "$moekit" train soft.toml --out refused --set task=nope
[ ! -e refused ] || fail "a refused recipe left a run folder"
expect 0 "true clusters: 4" "$moekit" data info cluster-patch
expect 0 "data.options.num_patches" "$moekit" data info cluster-patch
expect 0 "true clusters: 2" "$moekit" data info soft-routed-teacher
expect 0 "synthetic-clusters" "$moekit" data list
expect 0 "true clusters: 4" "$moekit" data info synthetic-clusters
expect 2 "unknown data set" "$moekit" data info nope
expect 2 "nothing to fetch" "$moekit" data fetch synthetic-clusters
expect 2 "no public address" "$moekit" data fetch usps
expect 1 "127.0.0.1" "$moekit" data fetch mnist --mirror http://127.0.0.1:9/ --data "$PWD/data"
expect 2 "known:" "$moekit" reproduce nothing

# A full disk: a limit on file sizes stands for it, and a tmpfs where one can be mounted.
( ulimit -f 20; expect 1 "cannot write" "$moekit" train small.toml --quiet --out full )
[ ! -e full/summary.json ] || fail "a failed run looks finished"
expect 0 "test" "$moekit" train small.toml --quiet --resume --out full
if mkdir -p tiny && mount -t tmpfs -o size=40k tmpfs tiny 2>/dev/null; then
  expect 1 "No space left" "$moekit" train small.toml --quiet --out tiny/run
  umount tiny
else
  echo "no tmpfs could be mounted: that part is skipped"
fi
echo ok
