#!/bin/sh
# bash and zsh complete commands, flags, choices, papers and files; the manual has no error.
set -eu
moekit=$1
. "$(dirname "$0")/lib.sh"
fresh_folder "$2"
mkdir -p folder recipes/tiny
touch folder/a.toml recipe.toml notes.txt "two words.toml" recipes/tiny/study.toml
export MOEKIT_RECIPES="$PWD/recipes" LC_ALL=C
"$moekit" completion bash > moekit.bash
"$moekit" completion zsh > _moekit

# completes WORDS : WANTED...: what bash offers for the last of the words.
cat > complete.bash <<'SH'
source ./moekit.bash
complete -p moekit | grep -q -- '-F _moekit' || { echo "not registered"; exit 1; }
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_moekit
printf '%s\n' "${COMPREPLY[@]}" | sort | tr '\n' '|'
SH
completes() {
  wanted=$1; shift
  got=$(bash complete.bash "$moekit" "$@")
  [ "$got" = "$wanted" ] || fail "bash completes $*: $got, wanted $wanted"
}
if command -v bash > /dev/null; then
  completes "trace|train|" tra
  completes "report|reproduce|" rep
  completes "--resume|" train --res
  completes "--resume|" train recipe.toml --set a=1 --res
  completes "fetch|info|list|tokenize|" data ""
  completes "--mirror|" data fetch --m
  completes "uniform|" bench moe --routing u
  completes "uniform|" bench moe --routing = u
  completes "one|trace|uniform|zipf|" bench moe --routing =
  completes "bf16|" bench moe --format b
  completes "f32,bf16|" bench moe --format f32,b
  completes "bash|zsh|" completion ""
  completes "tiny|" reproduce t
  completes "folder|recipe.toml|recipes|two words.toml|" train ""
  completes "folder/a.toml|" train folder/
  completes "folder|" inspect f
  completes "folder|recipe.toml|recipes|two words.toml|" train --quiet ""
  completes "recipes|" train --out rec
  completes "notes.txt|" report folder -o n
  completes "folder|" report folder f
  completes "|" train recipe.toml ""
  completes "|" version ""
  completes "|" nothing --x
  # No word is offered that the program does not take.
  "$moekit" __complete train -- | tail -n +2 | cut -f 1 | while read -r flag; do
    "$moekit" train --help | grep -q -e "$flag" || fail "train offers $flag"
  done
else
  echo "no bash: that part is skipped"
fi

if command -v zsh > /dev/null; then
  zsh -n _moekit || fail "zsh cannot parse the completion"
  # The functions of zsh's own system say what they were given.
  cat > complete.zsh <<'SH'
compdef() { : }
compset() { : }
_files() { print -r -- "files $*" }
_describe() { print -rl -- "${(@P)2}" }
words=("$@") CURRENT=$#
source ./_moekit
_moekit
SH
  described() { zsh -f complete.zsh "$moekit" "$@"; }
  [ "$(described tra)" = "train:Train a recipe in a run folder" ] || fail "zsh: $(described tra)"
  [ "$(described train --mark)" = "--markdown:With --list-keys\\: as a Markdown page" ] ||
    [ "$(described train --mark)" = "--markdown:With --list-keys: as a Markdown page" ] ||
    fail "zsh: $(described train --mark)"
  [ "$(described train "")" = "files -g *.toml" ] || fail "zsh: $(described train "")"
  [ "$(described train --out "")" = "files -/" ] || fail "zsh: $(described train --out "")"
  [ "$(described bench moe --pass=f)" = "forward:" ] || fail "zsh: $(described bench moe --pass=f)"
else
  echo "no zsh: that part is skipped"
fi

# The manual: a page for each command that help lists, with each of its flags.
"$moekit" man > moekit.1
commands=$("$moekit" __complete "" | tail -n +2 | cut -f 1)
[ "$(echo "$commands" | wc -l)" -ge 10 ] || fail "too few commands: $commands"
for command in $commands; do
  "$moekit" man $command > "moekit-$command.1"
  sed 's/\\-/-/g' moekit.1 | grep -q "moekit-$command" || fail "moekit.1 lacks $command"
  "$moekit" __complete $command -- | tail -n +2 | cut -f 1 | while read -r flag; do
    sed 's/\\-/-/g' "moekit-$command.1" | grep -q -e "$flag" || fail "moekit-$command.1 lacks $flag"
  done
done
if command -v mandoc > /dev/null; then
  # STYLE messages are of taste; a planted mistake must be seen.
  mandoc -T lint -W warning ./*.1 > lint || fail "mandoc: $(cat lint)"
  { cat moekit.1; echo ".SH"; } > planted
  mandoc -T lint -W warning planted > /dev/null && fail "mandoc sees no planted mistake"
  mandoc -T utf8 moekit-train.1 | grep -q "seed" || fail "the page shows no flags"
fi
if command -v man > /dev/null && man --version 2> /dev/null | grep -q "^man 2"; then
  man --warnings -l moekit-train.1 > page 2> warnings || true
  [ ! -s warnings ] || fail "man: $(cat warnings)"
fi
echo ok
