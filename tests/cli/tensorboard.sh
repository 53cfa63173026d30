#!/bin/sh
# TensorBoard's own reader finds the figures of metrics.jsonl in a run's event files, in one that was
# killed and resumed too. Skips where the Python package tensorboard is not installed.
set -eu
moekit=$1
. "$(dirname "$0")/lib.sh"
check="$(cd "$(dirname "$0")" && pwd)/tensorboard_check.py"
python3 -c 'import tensorboard' 2> /dev/null || { echo "no tensorboard: skipped"; exit 77; }
fresh_folder "$2"
write_recipe
"$moekit" train small.toml --quiet --out runs/whole > /dev/null
python3 "$check" runs/whole

long="--set train.epochs=30 --set train.checkpoint_steps=50"
"$moekit" train small.toml --quiet --out runs/killed $long > /dev/null 2>&1 &
pid=$!
while [ -z "$(ls runs/killed/checkpoints 2>/dev/null)" ]; do sleep 0.02; done
kill -9 $pid 2>/dev/null || true
wait $pid 2>/dev/null || true
for file in runs/killed/events.out.tfevents.*; do  # and torn in the middle of a record
  [ ! -e "$file" ] || printf 'torn' >> "$file"
done
"$moekit" train --quiet --resume --out runs/killed > /dev/null
python3 "$check" runs/killed

"$moekit" train small.toml --quiet --out runs/without --set events=false > /dev/null
for file in runs/without/events.out.tfevents.*; do
  [ ! -e "$file" ] || fail "events = false left $file"
done
echo ok
