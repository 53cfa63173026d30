#!/bin/sh
# The command as a user meets it: help, mistakes, a small run, inspect, report, eval.
set -eu
moekit=$1
. "$(dirname "$0")/lib.sh"
source=$(cd "$(dirname "$0")/../.." && pwd)
fresh_folder "$2"
write_recipe

expect 0 "reproduce" "$moekit" --help
for command in train eval inspect merge generate describe trace report reproduce data bench version completion man; do
  expect 0 "Usage" "$moekit" $command --help
done
expect 0 "libtorch" "$moekit" version
expect 2 "a command is required" "$moekit"
expect 2 "there is no flag --no-such-flag" "$moekit" train --no-such-flag
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
expect 2 "wrong.toml:1" "$moekit" train wrong.toml
# A value out of range names file, line and key, or the flag; also where only the data can tell.
printf '[train]\nlr = -1.0\n' > wrong.toml
expect 2 "wrong.toml:2: train.lr must be positive; got -1" "$moekit" train wrong.toml
expect 2 "moekit: --set train.lr: train.lr must be positive" \
  "$moekit" train small.toml --set train.lr=0
printf '[data]\nname = "synthetic-clusters"\ntest_limit = 1000000\n' > wrong.toml
expect 2 "wrong.toml:3: data.test_limit = 1000000, but there are" "$moekit" train wrong.toml
printf '[data]\nname = "cluster-patch"\n[data.options]\nnum_patches = 2\n' > wrong.toml
expect 2 "wrong.toml:4: data.options.num_patches must be at least 3" "$moekit" train wrong.toml
printf '[data]\nname = "cluster-patch"\n[data.options]\nnum_patch = 2\n' > wrong.toml
expect 2 "wrong.toml:4: unknown key data.options.num_patch" "$moekit" train wrong.toml
expect 2 "an empty key" "$moekit" train small.toml --set model.=3
# Recipes that are none, and one that is a pipe.
: > empty.toml
expect 2 "empty.toml: holds no key" "$moekit" train empty.toml
expect 2 "/dev/null: holds no key" "$moekit" train /dev/null
expect 1 "/dev/zero: more than" "$moekit" train /dev/zero
expect 1 "it is a folder" "$moekit" train .
ln -s loop.toml loop.toml
expect 1 "cannot open loop.toml" "$moekit" train loop.toml
printf 'task = "\377"\n' > wrong.toml
expect 2 "wrong.toml:1" "$moekit" train wrong.toml
awk 'BEGIN { for (i = 0; i < 100000; i++) printf "a."; print "a = 1" }' > deep.toml
expect 2 "deep.toml:1: nested deeper than" "$moekit" train deep.toml
mkfifo pipe.toml
cat small.toml > pipe.toml &
expect 2 "seed must be at least 0" "$moekit" train pipe.toml --set seed=-1
wait
expect 2 "model.router.top_k must be 0 (all) or 1..4 (num_experts); got 9" \
  "$moekit" train small.toml --set model.router.top_k=9
[ ! -e runs ] || fail "a refused recipe left a run folder"
expect 2 "unknown data set \"nope\"" "$moekit" train small.toml --set data.name=nope
expect 1 "no such folder" "$moekit" train small.toml --set data.name=usps --data /nonexistent
expect 2 "seed must be at least 0; got -3" "$moekit" train small.toml --set seed=-3

expect 0 "test" "$moekit" train small.toml --quiet --out a-seed1
for file in config.toml run.json metrics.jsonl summary.json trace.safetensors \
            model/model.safetensors model/config.json; do
  [ -s "a-seed1/$file" ] || fail "no $file"
done
expect 2 "holds a run already" "$moekit" train small.toml --quiet --out a-seed1
# One that ended before its first checkpoint has nothing to lose, and what it wrote is no one's.
expect 1 "is not finite" "$moekit" train small.toml --quiet --out diverged --set train.optimizer=sgd \
  --set train.lr=1e6 --set train.weight_decay=1e6
[ -e diverged/config.toml ] || fail "the run ended before its first step"
expect 0 "test" "$moekit" train small.toml --quiet --out diverged
cmp diverged/metrics.jsonl a-seed1/metrics.jsonl || fail "the folder of a failed run spoilt the next"
[ "$(ls diverged/events.* | wc -l)" = "$(ls a-seed1/events.* | wc -l)" ] || fail "events of two runs"
expect 0 "a-seed1" "$moekit" train --resume --out a-seed1
expect 2 "another recipe" "$moekit" train small.toml --resume --out a-seed1 --seed 5
expect 2 "train.lr was 0.01, now 0.5" "$moekit" train --resume --out a-seed1 --set train.lr=0.5
expect 2 'train.optimizer was "adam", now "sgd"' "$moekit" train --resume --out a-seed1 \
  --set train.optimizer=sgd
expect 2 "set trian" "$moekit" train small.toml --out nothing --set trian.epochs=3
expect 2 "to extend the run, set that without a recipe" \
  "$moekit" train small.toml --resume --out a-seed1 --set train.epochs=9
cp -r a-seed1 grown
expect 0 "test" "$moekit" train --quiet --resume --out grown --set train.epochs=9
expect 0 "test" "$moekit" train small.toml --quiet --out long --set train.epochs=9
for file in model/model.safetensors metrics.jsonl config.toml; do
  cmp "grown/$file" "long/$file" || fail "an extended run differs from a longer one in $file"
done
expect 0 '"error"' "$moekit" train small.toml --quiet --json --seed 2 --out a-seed2
expect 0 "error" "$moekit" eval a-seed1
expect 0 "by true cluster" "$moekit" inspect a-seed1
expect 0 '"routing_regret"' "$moekit" inspect a-seed1 --json
expect 0 "router saturation" "$moekit" inspect a-seed2 --against a-seed1
expect 0 "experts" "$moekit" inspect a-seed1 --flops
expect 0 '"parts"' "$moekit" inspect a-seed1 --flops --batch 3 --json
expect 2 "as many as there are test images; got 60000" "$moekit" inspect a-seed1 --flops --batch 60000
expect 2 "--batch requires --flops" "$moekit" inspect a-seed1 --batch 3
expect 2 "--against excludes --flops" "$moekit" inspect a-seed1 --flops --against a-seed2
expect 1 "is no run folder" "$moekit" inspect nowhere
expect 0 "page.html" "$moekit" report a-seed1 a-seed2 -o page.html
[ "$(ls page.html* | wc -l)" = 1 ] || fail "a temporary file was left"
expect 1 "cannot create" "$moekit" report a-seed1 -o /nonexistent/page.html
# A page replaces regular files alone; through a link, the file it leads to.
mkdir -p pages/folder && mkfifo pages/pipe && ln -s nowhere pages/dangling
ln -s /dev/null pages/null && ln -s ../page.html pages/link
for target in /dev/null pages/null pages/pipe pages/folder pages/dangling; do
  expect 1 "cannot write $target: it is a" "$moekit" report a-seed1 -o $target
done
[ -c /dev/null ] && [ -p pages/pipe ] && [ -L pages/dangling ] || fail "a target was replaced"
: > page.html
expect 0 "pages/link" "$moekit" report a-seed1 -o pages/link
[ -L pages/link ] && [ -s page.html ] || fail "the link was replaced, not its file"

# A trace that breaks its format, and how baselines were taken.
expect 0 "unbiased estimator, random" "$moekit" inspect a-seed1
expect 0 "random (all subsets: 4)" "$moekit" inspect a-seed1
cp -r a-seed1 broken-seed1
LC_ALL=C sed 's/"layers":"mixture"/"layers":"mix,mix"/' a-seed1/trace.safetensors \
  > broken-seed1/trace.safetensors
expect 1 'broken-seed1/trace.safetensors: metadata "layers" names layer "mix" twice' \
  "$moekit" inspect broken-seed1

# Measuring: every option refused with what there is; a small measurement as text and JSON, and on
# the routing of a run.
expect 0 "reference" "$moekit" bench isa
expect 0 "runs f32, bf16, integers" env MOEKIT_ISA=reference "$moekit" bench isa
# What is chosen is kept; instructions that the processor refused are told of, and a forced set asks
# nobody.
expect 0 "kept in $PWD/choices/moekit/instruction-sets" \
  env -u MOEKIT_ISA XDG_CACHE_HOME="$PWD/choices" "$moekit" bench isa
sed -i 's/^refused.*/refused reference/' choices/moekit/instruction-sets
expect 1 "the processor refuses reference, which it says it has; it is not used" \
  env -u MOEKIT_ISA XDG_CACHE_HOME="$PWD/choices" "$moekit" eval nowhere
env MOEKIT_ISA=reference XDG_CACHE_HOME="$PWD/choices" "$moekit" eval nowhere 2> said && fail "eval nowhere"
grep -q "refuses" said && fail "a forced instruction set was looked for: $(cat said)"
expect 2 "must be avx512-amx, avx512-vnni, avx512, avx2, neon-dot, neon or reference; got sse9" "$moekit" bench moe --isa sse9
expect 2 "MOEKIT_ISA: instruction set avx9 is unknown" env MOEKIT_ISA=avx9 "$moekit" bench isa
expect 2 "must be f32, bf16, int8, int4-g128, int4-g32 or ternary; got int3" "$moekit" bench moe --format int3
expect 2 "--shape must be mixtral4, olmoe" "$moekit" bench moe --shape huge
expect 2 "--routing must be uniform, zipf, one or trace; got best" "$moekit" bench moe --routing best
expect 2 "--tokens must be a whole number 1..65536; got 0" "$moekit" bench moe --tokens 0
expect 2 "--tokens must be a whole number 1..65536; got" "$moekit" bench moe --tokens 1,,2
expect 2 "or ternary; got" "$moekit" bench moe --format f32,
expect 2 "a training step takes formats f32 and bf16; got int8" \
  "$moekit" bench moe --pass train --format int8
expect 1 "nowhere.safetensors" \
  "$moekit" bench moe --shape tiny --routing trace --trace nowhere.safetensors
small="--shape tiny --tokens 4 --format f32,int8 --routing one --runs 2 --seconds 0"
expect 0 "as fast as" "$moekit" bench moe $small
expect 0 '"bound_fraction"' "$moekit" bench moe $small --no-baselines --json
expect 2 "shape tiny has 2 of 16" \
  "$moekit" bench moe --shape tiny --routing trace --trace a-seed1/trace.safetensors

small="--hidden-size 8 --intermediate-size 8 --experts 4 --sequences 2 --length 3 --top-k 2"
expect 0 "2 sequences, 2 chosen: merging is" "$moekit" bench merged $small --runs 2 --seconds 0
expect 0 '"crossovers"' "$moekit" bench merged $small --runs 2 --seconds 0 --pass train --json
expect 2 "chosen experts must be 1..16, as many as there are; got 17" "$moekit" bench merged --top-k 17

# Where a run stands, for programs that wait.
expect 0 "test" "$moekit" train small.toml --quiet --status status.json --out told
grep -q '"epochs":3' status.json || fail "no status: $(cat status.json)"
expect 1 "cannot write /nonexistent/status" "$moekit" train small.toml --quiet \
  --status /nonexistent/status --out untold
[ ! -e untold ] || fail "a run that never started left its folder"

# Files of a run are checked before anything is made of them; those without checksums say so.
rm told/model/manifest.json
expect 0 "told/model: has no manifest.json: its files are not checked" "$moekit" eval told
echo '{}' > told/summary.json
expect 1 "told/summary.json: lacks parameters" "$moekit" report told -o page.html
expect 1 "told/summary.json: lacks parameters" "$moekit" inspect told
echo '{"seconds": ' > told/summary.json
expect 1 "told/summary.json: is no JSON" "$moekit" report told -o page.html

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
combine_weights = "probs"
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
# A router that no loss can train; parameters that none does, named once.
expect 2 'model.router: top_k = 1 with combine_weights = "renormalized"' \
  "$moekit" train patches.toml --out refused --set model.router.combine_weights=renormalized
expect 0 "silent: warning: no gradient in the whole of epoch 1: moe.router.noise_weight;" \
  "$moekit" train patches.toml --quiet --out silent --set model.router.noise=gaussian \
  --set model.router.combine_weights=clean_probs
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
# Sizes beyond the memory, in words and without a trace.
expect 2 "the largest option is model.num_experts = 1000000000" "$moekit" train small.toml \
  --out refused --set model.num_experts=1000000000
expect 2 "the largest option is test_samples = 100000000" "$moekit" train soft.toml --out refused \
  --set test_samples=100000000 --set dim=100000
expect 2 "a training step would take more memory than is free" "$moekit" train soft.toml \
  --out refused --set batch_size=1000000000 --set dim=1000
# Each of its tensors fits, all of them do not.
expect 2 "the largest option is dim = 1000000000" "$moekit" train soft.toml --out refused \
  --set dim=1000000000
# A run of another task: not its file is wrong.
expect 2 'task was "classification", now "soft_routed"' "$moekit" train soft.toml --resume \
  --out a-seed1
[ ! -e refused ] || fail "a refused recipe left a run folder"
# An empty value is none.
for flag in --out --status --data; do
  expect 2 "$flag must not be empty" "$moekit" train soft.toml $flag ""
done
expect 2 "must not be empty" "$moekit" report a-seed1 -o ""
expect 2 "must not be empty" "$moekit" data fetch mnist --mirror ""
expect 2 "must begin with http:// or https://" "$moekit" data fetch mnist --data fetched \
  --mirror file:///tmp
expect 1 "127.0.0.1:9/" "$moekit" data fetch mnist --data fetched --mirror http://127.0.0.1:9
[ -z "$(find fetched -type f)" ] || fail "a transfer without a byte left a file"
# The status file replaces nothing else, and tells the end.
cp soft.toml kept.toml
expect 2 "kept.toml: holds something else" "$moekit" train kept.toml --out refused --status kept.toml
cmp soft.toml kept.toml || fail "--status changed the recipe"
expect 2 "lies in the run's folder" "$moekit" train soft.toml --out refused \
  --status refused/checkpoints
mkfifo pipe
expect 2 "is no regular file" "$moekit" train soft.toml --out refused --status pipe
[ ! -e refused ] || fail "a refused status file left a run folder"
for run in 1 2; do  # the second over the file of the first
  expect 0 "loss_final" "$moekit" train soft.toml --quiet --out told-soft$run --status soft.status
done
grep -q '"seconds_left":0.0' soft.status || fail "the status of a finished run: $(cat soft.status)"
expect 2 "excludes" "$moekit" train soft.toml --list-keys
expect 2 "both --seed and --set seed=2; give one" "$moekit" train soft.toml --seed 1 --set seed=2
expect 0 "true clusters: 4" "$moekit" data info cluster-patch
expect 0 "data.options.num_patches" "$moekit" data info cluster-patch
expect 0 "true clusters: 2" "$moekit" data info soft-routed-teacher
expect 0 "synthetic-clusters" "$moekit" data list
for command in "data list" "data info mnist" "reproduce demo" "report a-seed1" "eval a-seed1" \
  "inspect a-seed1" "train soft.toml"; do
  # shellcheck disable=SC2086  # words of a command
  expect 1 "data /nonexistent: no such folder" "$moekit" $command --data /nonexistent
done
expect 0 "true clusters: 4" "$moekit" data info synthetic-clusters
expect 2 "unknown data set" "$moekit" data info nope
# A cache is where absolute paths say, never in the current folder.
expect 1 "neither XDG_CACHE_HOME nor HOME" env -u HOME XDG_CACHE_HOME=cache "$moekit" data fetch mnist
[ ! -e .cache ] && [ ! -e cache ] || fail "a cache was made in the current folder"
expect 0 "/usr/share/datasets" env -u HOME -u XDG_CACHE_HOME "$moekit" data list
expect 2 "num_train = 1000000000: [1000000000, 4, 50]" "$moekit" train patches.toml \
  --out refused --set data.options.num_train=1000000000
expect 2 "nothing to fetch" "$moekit" data fetch synthetic-clusters
expect 2 "no public address" "$moekit" data fetch usps
expect 1 "127.0.0.1" "$moekit" data fetch mnist --mirror http://127.0.0.1:9/ --data "$PWD/data"
expect 2 "known:" "$moekit" reproduce nothing
expect 2 "there is no study \"../../x\"" "$moekit" reproduce ../../x
mkdir -p studies/out-of-it
cp small.toml studies/out-of-it/
printf '[[row]]\nname = "../../x"\ntier = "quick"\nrecipe = "small.toml"\n' \
  > studies/out-of-it/study.toml
expect 2 'study.toml:1: row name "../../x"' env MOEKIT_RECIPES=studies "$moekit" reproduce out-of-it
[ ! -e runs ] || fail "a refused study left runs"
# JSON nested deep, where a run's summary should be.
mkdir deep && cp a-seed2/config.toml deep/
awk 'BEGIN { for (i = 0; i < 500000; i++) printf "["; print "1"
             for (i = 0; i < 500000; i++) printf "]" }' > deep/summary.json
expect 1 "deep/summary.json: nested deeper than" "$moekit" inspect deep

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
