#!/bin/sh
# Killed before any change of a name on the disk (a rename, a removal, a new folder), a run goes on
# to the same numbers, and what its folder then holds can be inspected and reported.
set -eu
moekit=$1
shim=$3
. "$(dirname "$0")/lib.sh"
fresh_folder "$2"
write_recipe
set_many="--set train.epochs=2 --set train.batch_size=400 --set train.checkpoint_steps=2 \
  --set train.keep_every=1"
# The shim comes before a sanitizer's library.
export ASAN_OPTIONS="verify_asan_link_order=0:${ASAN_OPTIONS:-}"
train() { "$moekit" train small.toml --quiet --resume $set_many --out "$1" > /dev/null 2> "$1.err"; }

KILL_COUNT="$PWD/count" LD_PRELOAD="$shim" "$moekit" train small.toml --quiet $set_many \
  --out whole > /dev/null
calls=$(cat count)
[ "$calls" -ge 40 ] || fail "only $calls changes of names were seen"

# Every ninth of them; MOEKIT_KILL_STEP=1 takes all.
tried=0
at=2
while [ "$at" -le "$calls" ]; do
  rm -rf killed
  set +e
  KILL_AT=$at LD_PRELOAD="$shim" "$moekit" train small.toml --quiet $set_many --out killed \
    > /dev/null 2>&1
  code=$?
  set -e
  [ "$code" -eq 137 ] || fail "exit code $code, wanted a death before change $at of $calls"
  train killed || fail "killed before change $at: $(cat killed.err)"
  [ ! -s killed.err ] || fail "killed before change $at, going on says: $(cat killed.err)"
  cmp whole/model/model.safetensors killed/model/model.safetensors || fail "differs: change $at"
  cmp whole/metrics.jsonl killed/metrics.jsonl || fail "metrics differ: change $at"
  [ -z "$(find killed -name '*.tmp*')" ] || fail "left: $(find killed -name '*.tmp*')"
  expect 0 "share of the final choices" "$moekit" inspect killed
  tried=$((tried + 1))
  at=$((at + ${MOEKIT_KILL_STEP:-9}))
done
expect 0 "page.html" "$moekit" report killed -o page.html

# Two processes in one folder: the second is told of the first, and readers are not in its way.
"$moekit" train small.toml --quiet --out busy --set train.epochs=100000 > /dev/null 2>&1 &
pid=$!
while [ -z "$(ls busy/checkpoints 2> /dev/null)" ]; do sleep 0.02; done
expect 1 "busy is in use by process $pid on $(uname -n) since 2" \
  "$moekit" train small.toml --quiet --resume --out busy --set train.epochs=100000
kill -9 $pid
wait $pid 2> /dev/null || true
expect 1 "not finished" "$moekit" inspect busy
timeout -s INT 3 "$moekit" train --quiet --resume --out busy > /dev/null 2> busy.err || true
grep -q "go on with" busy.err || fail "a killed process's lock was not free: $(cat busy.err)"

# Two bytes of the newest checkpoint's weights are others: it is passed over.
newest=$(ls -d busy/checkpoints/step-* | sort -t- -k2 -n | tail -1)
size=$(wc -c < "$newest/model.safetensors")
printf 'ZZ' | dd of="$newest/model.safetensors" bs=1 seek=$((size - 3)) conv=notrunc 2> /dev/null
timeout -s INT 3 "$moekit" train --quiet --resume --out busy > /dev/null 2> busy.err || true
grep -q "$newest/model.safetensors: is damaged" busy.err || fail "not seen: $(cat busy.err)"
grep -q "going on from busy/checkpoints/step-" busy.err || fail "no word of it: $(cat busy.err)"
echo "ok at $tried of $calls points"
