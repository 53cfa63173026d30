#!/bin/sh
# Output that cannot be written is a failure: a full disk, a closed standard output, a reader that
# has gone. So of every command, help and version too.
set -eu
moekit=$1
. "$(dirname "$0")/lib.sh"
fresh_folder "$2"
write_recipe
"$moekit" train small.toml --quiet --out a > /dev/null

# fails words...: exit code 1 and a message, with a full standard output and with a closed one.
fails() {
  for to in full closed; do
    set +e
    if [ $to = full ]; then
      "$moekit" "$@" > /dev/full 2> said
    else
      "$moekit" "$@" >&- 2> said
    fi
    got=$?
    set -e
    [ $got -eq 1 ] || fail "moekit $* ($to): exit code $got: $(cat said)"
    grep -q "^moekit: cannot write to standard output" said ||
      fail "moekit $* ($to): no message: $(cat said)"
    [ "$(wc -l < said)" -eq 1 ] || fail "moekit $* ($to): more than one line: $(cat said)"
  done
}
fails version
fails --version
fails --help
fails train --help
fails completion zsh
fails man
fails __complete tra
fails bench isa
fails data list
fails data info synthetic-clusters --json
fails train --list-keys
fails train --quiet --resume --out a
fails eval a
fails eval a --json
fails inspect a --json
fails report a -o page.html
# The message names the reason where the system gave one.
"$moekit" version > /dev/full 2> said || true
grep -q "No space left on device" said || fail "no reason: $(cat said)"

# A reader that has gone ends the program by SIGPIPE, as other filters; where that is ignored, with 1.
gone() {
  # The reader of the pipe is gone before the program starts.
  { sleep 0.3; set +e; "$@" 2> said; echo $? > code; } | true
}
gone "$moekit" train --list-keys
[ "$(cat code)" -eq 141 ] || fail "exit code $(cat code) at a closed pipe"
( trap '' PIPE; gone "$moekit" train --list-keys )
[ "$(cat code)" -eq 1 ] || fail "exit code $(cat code) at a closed pipe without the signal"
grep -q "cannot write to standard output" said || fail "no message at a closed pipe"

# A file that the program opens never becomes its standard output.
"$moekit" train small.toml --quiet --out b >&- 2> said && fail "no failure"
"$moekit" eval b > /dev/null || fail "a run without standard output is damaged"
cmp a/model/model.safetensors b/model/model.safetensors || fail "differs without standard output"
cmp a/metrics.jsonl b/metrics.jsonl || fail "metrics differ without standard output"
echo ok
