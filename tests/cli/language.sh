#!/bin/sh
# A language model as a user meets it: trained on a folder of texts, gone on with, shown, refused.
set -eu
moekit=$1 work=$2
. "$(dirname "$0")/lib.sh"
fresh_folder "$work"
mkdir -p texts/lines
i=0
while [ $i -lt 60 ]; do
  i=$((i + 1))
  echo "one two three four five, said number $i; and then again one two three." >> texts/count.txt
  printf 'aaa bbb\nccc %s\n' "$i$i$i$i bbb aaa ccc bbb" > "texts/lines/$i.txt"
done
cat > small.toml <<'TOML'
task = "language"
threads = 1
[data]
corpus = "texts"
vocabulary = 280
validation_windows = 2
[model]
hidden_size = 16
num_layers = 2
num_heads = 2
context = 32
first_routed = 1
num_experts = 4
dense = { intermediate_size = 16 }
expert = { kind = "mlp", intermediate_size = 8 }
[loss]
balance = 0.01
[train]
epochs = 2
epoch_steps = 10
batch_size = 4
TOML
$moekit train small.toml --out run --quiet >/dev/null
expect 0 "bits_per_byte" cat run/metrics.jsonl
expect 0 "max_violation" $moekit inspect run
expect 0 '"vocabulary": 280' cat run/model/config.json
[ -f run/tokenizer.json ] || fail "no tokenizer beside the model"
$moekit report run -o page.html >/dev/null
expect 0 'data-texts="0"' cat page.html

# The same seed, the same text; what is printed begins with the prompt.
$moekit generate run --prompt "one two" --tokens 12 > first.txt
$moekit generate run --prompt "one two" --tokens 12 > second.txt
cmp first.txt second.txt || fail "two texts of one seed differ"
head -c 7 first.txt | grep -q "^one two$" || fail "the text does not begin with the prompt"
$moekit generate run --prompt "one two" --tokens 12 --seed 2 > other.txt
cmp -s first.txt other.txt && fail "another seed gives the same text"
expect 0 '"ended_by"' $moekit generate run --tokens 5 --temperature 0 --json
expect 2 "more than the model's context of 32" $moekit generate run --prompt "one two" --tokens 40
expect 2 "generate: --top-p" $moekit generate run --top-p 1.5
expect 2 "--top-k and --top-p have no effect" $moekit generate run --temperature 0 --top-k 3 --tokens 2
expect 1 "nowhere: is no run folder" $moekit generate nowhere
expect 2 "the text is empty" $moekit generate run --stop "" --tokens 2

# Texts that were cut once give the same run.
expect 0 "documents" $moekit data tokenize small.toml -o tokens
expect 0 '"finished": true' $moekit data tokenize small.toml -o tokens --json
sed -e '/^corpus/d' -e '/^vocabulary/d' small.toml > tokens.toml
$moekit train tokens.toml --set 'data.tokens="tokens"' --out cut --quiet >/dev/null
cmp run/model/model.safetensors cut/model/model.safetensors || fail "tokens of a folder give another model"
expect 2 "data.vocabulary" $moekit data tokenize small.toml -o tokens --set data.vocabulary=290
expect 2 "texts holds something else" $moekit data tokenize small.toml -o texts
expect 2 "no folder of tokens" $moekit train tokens.toml --set 'data.tokens="run"' --out x
expect 2 "have no effect beside it" $moekit train small.toml --set 'data.tokens="tokens"' --out x
expect 2 "--out is required" $moekit data tokenize small.toml
expect 2 'task "classification"' $moekit data tokenize "$(dirname "$0")/../../recipes/attentive-gate/mnist/original.toml" -o y

expect 2 "data.corpus: domain" $moekit train small.toml --out x --set model.context=2000
expect 1 "no/texts" $moekit train small.toml --out x --set 'data.corpus="no/texts"'
expect 2 "data.vocabulary: bpe trainer" $moekit train small.toml --out x --set data.vocabulary=5000
printf 'abc \377 def ' > broken.txt
for i in 1 2 3 4 5 6 7 8 9 10 11; do cat broken.txt broken.txt > twice.txt; mv twice.txt broken.txt; done
expect 2 "a text of domain broken is not UTF-8" $moekit train small.toml --out x \
  --set 'data.corpus="broken.txt"' --set 'data.tokenizer="characters"' --set data.vocabulary=1024
expect 0 "bits_per_byte" $moekit train small.toml --out bytes --quiet --set 'data.corpus="broken.txt"' \
  --set 'data.tokenizer="bytes"' --set data.vocabulary=1024
expect 2 "data.vocabulary has no effect" $moekit train small.toml --out x --set 'data.tokenizer="bytes"'
expect 2 "model.num_heads" $moekit train small.toml --out x --set model.num_heads=3
[ ! -e x ] || fail "a refused run left a folder"

# A tokenizer of one's own, and a damaged one.
$moekit train small.toml --out again --quiet --set 'data.tokenizer="run/tokenizer.json"' \
  --set data.vocabulary=1024 >/dev/null
cmp run/tokenizer.json again/tokenizer.json || fail "the tokenizer was not taken as it is"
cp -r run damaged
echo '{"model": 3}' > damaged/tokenizer.json
expect 1 "damaged/tokenizer.json" $moekit generate damaged --tokens 2
cp -r run cut
printf '{"layers": ["a"], "texts": [], "cards": []}' > cut/texts.json
expect 1 "cut/texts.json: cards" $moekit report cut -o page2.html

# A router that looks ahead is no model of the next token, and the page says so.
$moekit train small.toml --out ahead --quiet --set 'model.router={ kind = "expert_choice" }' >/dev/null
$moekit report ahead -o ahead.html >/dev/null
expect 0 "looks at later tokens" cat ahead.html

# Without mixtures there is nothing to colour.
$moekit train small.toml --out dense --quiet --set model.routed_every=0 --set loss.balance=0 >/dev/null
$moekit report dense -o dense.html >/dev/null
! grep -q 'data-texts="0"' dense.html || fail "a model without mixtures has coloured texts"
echo "language: passed"
