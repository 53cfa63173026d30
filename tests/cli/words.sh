#!/bin/sh
# Wrong words and wrong numbers: each is named, with what was probably meant or may stand there.
set -eu
moekit=$1
. "$(dirname "$0")/lib.sh"
fresh_folder "$2"
write_recipe

# refused TEXT words...: exit code 2 and one line that says TEXT; nothing is written.
refused() {
  text=$1; shift
  expect 2 "$text" "$moekit" "$@"
  [ "$(echo "$output" | wc -l)" -eq 1 ] || fail "moekit $*: more than one line: $output"
}
# silent TEXT words...: refused, without TEXT.
silent() {
  unwanted=$1; shift
  refused "" "$@"
  case "$output" in *"$unwanted"*) fail "moekit $*: says \"$unwanted\": $output" ;; esac
}

refused 'there is no command "trian"; did you mean train?' trian small.toml
refused 'there is no command "reprot"; did you mean report?' reprot
refused 'there is no command "frobnicate"; known: train, eval' frobnicate
silent "did you mean" frobnicate
refused 'data: there is no command "lst"; did you mean list?' data lst
refused 'bench: there is no command "frob"; known: isa, moe, merged or merging' bench frob
refused 'bench: a command is required: isa, moe, merged or merging' bench
refused 'a command is required: train, eval' --
refused 'train: there is no flag --sede; did you mean --seed?' train small.toml --sede 4
refused 'train: there is no flag --seeds; did you mean --seed?' train small.toml --seeds=4
refused 'train: there is no flag --frobnicate' train --frobnicate
silent "did you mean" train --frobnicate
refused 'there is no flag --versoin; did you mean --version?' --versoin
refused 'train: one word too many: "b"' train small.toml b
refused 'eval: run is required' eval
refused 'reproduce: ' reproduce attentive-gate --quick --full
refused 'there is no study "atentive-gate"; known: ' reproduce atentive-gate
refused 'did you mean attentive-gate?' reproduce atentive-gate
refused 'shell must be bash or zsh; got bsh; did you mean bash?' completion bsh
refused 'command must be train, ' man trian
refused 'unknown key train.lrr; did you mean lr?' train small.toml --set train.lrr=1
silent "did you mean" train small.toml --set train.colour=1
# A flag takes one value, and leaves the word behind it alone.
refused 'must be a finite number' train --set train.lr=inf small.toml

# Numbers: not one is clamped, read as octal or taken for a number when it is none.
for text in 99999999999999999999 -99999999999999999999 nan inf -inf -1 1.5 1e3 0x10 +1 x "" " 1" 1x; do
  refused "train: --seed must be a whole number from 0; got $text" train small.toml --seed "$text"
done
for text in 99999999999999999999 nan inf -1 0 1025 1.5 x; do
  refused "train: --threads must be a whole number 1..1024; got $text" \
    train small.toml --threads "$text"
done
for text in 99999999999999999999 nan inf -1 0 10001 1.5 x; do
  refused "reproduce: --seeds must be a whole number 1..10000; got $text" \
    reproduce demo --seeds "$text"
done
for text in 99999999999999999999 nan inf -1 0 4097 1.5 x; do
  refused "reproduce: --jobs must be a whole number 1..4096; got $text" reproduce demo --jobs "$text"
done
for text in nan inf -inf -1 -nan 86401 1e999 1e300 x "" 0x1p3 "1 "; do
  refused "bench moe: --seconds must be a number 0..86400; got $text" \
    bench moe --shape tiny --seconds "$text"
done
for flag in tokens:1..65536:65537 threads:1..256:257 runs:1..1000000:1000001; do
  name=${flag%%:*}; most=${flag##*:}; range=${flag#*:}; range=${range%%:*}
  for text in 99999999999999999999 nan inf -1 0 1.5 x "$most"; do
    refused "bench moe: --$name must be a whole number $range; got $text" bench moe --$name "$text"
  done
done
refused "bench moe: --tokens must be a whole number 1..65536; got 0" bench moe --tokens 1,0,2
for text in 99999999999999999999 nan inf -1 1.5 x; do
  refused "bench moe: --seed must be a whole number from 0; got $text" bench moe --seed "$text"
done
# 010 is ten: it is a seed, and the run's.
expect 0 '"seed": 10' sh -c "'$moekit' train small.toml --quiet --seed 010 --out ten > said && \
  cat ten/run.json"

# An instruction set that is none is refused by all that computes, whether it asks for one or not.
for words in "train small.toml" "eval x" "inspect x" "report x" "reproduce demo" "bench isa" \
             "bench moe" "bench moe --isa reference"; do
  expect 2 "MOEKIT_ISA: instruction set zzz is unknown; wanted one of avx512-amx, avx512-vnni, avx512, avx2, neon" \
    env MOEKIT_ISA=zzz "$moekit" $words
done
[ ! -e runs ] || fail "something refused left a folder"
echo ok
