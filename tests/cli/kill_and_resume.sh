#!/bin/sh
# Ctrl-C saves and says how to go on; kill -9 at any moment loses only what came after the last
# checkpoint; both go on to the same model, bit for bit.
set -eu
moekit=$1
. "$(dirname "$0")/lib.sh"
fresh_folder "$2"
write_recipe
set_many="--set train.epochs=40 --set train.batch_size=20 --set train.checkpoint_steps=50"

"$moekit" train small.toml --quiet --out whole $set_many > /dev/null

# SIGINT once the first checkpoint is there.
"$moekit" train small.toml --quiet --out stopped $set_many > /dev/null 2> stopped.err &
pid=$!
while [ -z "$(ls stopped/checkpoints 2>/dev/null)" ]; do sleep 0.02; done
kill -INT $pid
set +e; wait $pid; code=$?; set -e
if [ $code -ne 0 ]; then  # 0: it was done before the signal came
  [ $code -eq 130 ] || fail "exit code $code after SIGINT"
  grep -q "go on with: moekit train --resume --out stopped" stopped.err || fail "no hint how to go on"
fi
"$moekit" train --quiet --resume --out stopped > /dev/null
cmp whole/model/model.safetensors stopped/model/model.safetensors || fail "differs after SIGINT"
cmp whole/metrics.jsonl stopped/metrics.jsonl || fail "metrics differ after SIGINT"

# The hint is a command as it stands, whatever the folder is called.
folder="it's 1 & \$HOME"
"$moekit" train small.toml --quiet --out "$folder" $set_many > /dev/null 2> stopped.err &
pid=$!
while [ -z "$(ls "$folder/checkpoints" 2>/dev/null)" ]; do sleep 0.02; done
kill -INT $pid
set +e; wait $pid; code=$?; set -e
if [ $code -ne 0 ]; then
  hint=$(sed -n 's/^stopped; go on with: moekit//p' stopped.err)
  [ -n "$hint" ] || fail "no hint: $(cat stopped.err)"
  sh -c "\"$moekit\" $hint --quiet" > /dev/null || fail "the hint cannot be copied: $hint"
  cmp whole/metrics.jsonl "$folder/metrics.jsonl" || fail "metrics differ after the hint"
fi

# kill -9 again and again, at odd times.
tries=0
while [ ! -e killed/summary.json ]; do
  tries=$((tries + 1))
  "$moekit" train small.toml --quiet --resume --out killed $set_many > /dev/null 2>&1 &
  pid=$!
  if [ $tries -le 4 ]; then
    sleep "0.$((tries * 2 + 1))"
    kill -9 $pid 2>/dev/null || true
  fi
  wait $pid 2>/dev/null || true
  [ $tries -lt 20 ] || fail "no end after $tries tries"
done
cmp whole/model/model.safetensors killed/model/model.safetensors || fail "differs after kill -9"
cmp whole/metrics.jsonl killed/metrics.jsonl || fail "metrics differ after kill -9"
echo "ok after $tries starts"
