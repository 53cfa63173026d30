#!/bin/sh
# What needs no tensor loads no libtorch, and says what is wrong when the library that computes is
# missing, broken or of another version.
set -eu
moekit=$1
. "$(dirname "$0")/lib.sh"
fresh_folder "$2"
write_recipe
printf '[train\n' > wrong.toml
mkdir nothing

# loads CODE PATTERN words...: moekit ends with CODE; prints those libraries it opened that fit.
loads() {
  code=$1; pattern=$2; shift 2
  rm -f opened.*
  set +e
  LD_DEBUG=files LD_DEBUG_OUTPUT=opened "$moekit" "$@" > said 2>&1
  got=$?
  set -e
  [ $got -eq "$code" ] || fail "moekit $*: exit code $got, wanted $code: $(cat said)"
  cat opened.* | grep -E "$pattern" || true
}
ldd "$moekit" | grep torch && fail "the program is linked with libtorch"
# The test itself must see a library that is opened.
[ -n "$(loads 0 libtorch data list)" ] || fail "LD_DEBUG shows nothing: this test is blind"
light() {
  code=$1; shift
  opened=$(loads "$code" 'libtorch|commands\.so' "$@")
  [ -z "$opened" ] || fail "moekit $* loads libtorch: $opened"
}
light 0 version
light 0 --version
light 0 --help
light 0 train --help
light 0 completion bash
light 0 man train
light 0 __complete train --
light 0 bench isa
light 0 train --list-keys
light 0 train --list-keys --markdown
light 2
light 2 trian
light 2 train --no-such-flag
light 2 train --seed 99999999999999999999
light 2 train small.toml --set nothing
light 1 train nowhere.toml
light 2 train wrong.toml
light 1 eval nothing
light 1 report nothing
light 2 reproduce nothing
light 2 bench moe --tokens 0

# Without its library the program still knows itself; what computes is named.
mkdir -p alone/bin alone/lib/moekit
cp "$moekit" alone/bin/moekit
library=$PWD/alone/lib/moekit/commands.so
expect 0 "libtorch" alone/bin/moekit version
expect 1 "$library: not found" alone/bin/moekit train small.toml
echo "no library" > "$library"
expect 1 "cannot load $library" alone/bin/moekit train small.toml
compiler=$(command -v c++ || command -v g++ || true)
if [ -n "$compiler" ]; then
  echo 'extern "C" const char* moekit_commands_version() { return "0.0.1"; }' > old.cpp
  "$compiler" -shared -fPIC old.cpp -o "$library"
  expect 1 "is of version 0.0.1, this program of" alone/bin/moekit train small.toml
  echo 'int nothing;' > other.cpp
  "$compiler" -shared -fPIC other.cpp -o "$library"
  expect 1 "is no library of moekit's commands" alone/bin/moekit train small.toml
fi

# A library built since the pages of keys were written is asked itself.
mkdir -p newer/bin newer/lib
cp "$moekit" newer/bin
cp -r "$(dirname "$moekit")/../lib/moekit" newer/lib
echo "of before" > newer/lib/moekit/keys.txt
expect 0 "of before" newer/bin/moekit train --list-keys
touch -d "1 hour ago" newer/lib/moekit/keys.txt
expect 0 "model.router.top_k" newer/bin/moekit train --list-keys
echo ok
