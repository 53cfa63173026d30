#!/bin/sh
# Published models: described by a config alone; with a folder of checkpoints also run, judged and
# traced.
set -eu
moekit=$1
reference=$3
. "$(dirname "$0")/lib.sh"
fresh_folder "$2"

mkdir tiny
cat > tiny/config.json << 'JSON'
{"model_type": "olmoe", "hidden_size": 2048, "intermediate_size": 1024, "num_hidden_layers": 16,
 "num_attention_heads": 16, "vocab_size": 50304, "num_experts": 64, "num_experts_per_tok": 8}
JSON
expect 0 "6.9 B parameters, 1.3 B of them active" $moekit describe tiny
expect 0 "64 experts of 2048 to 1024, 8 a token" $moekit describe tiny/config.json
expect 0 '"active_parameters": 128' $moekit describe tiny --json
expect 1 "nowhere: there is no such file or folder" $moekit describe nowhere
echo '{"input_ids": [[1, 2]]}' > ids.json
expect 1 "tiny has neither model.safetensors" $moekit trace tiny --ids ids.json -o out.safetensors
expect 1 "tiny: holds neither tokenizer.json" $moekit run tiny --prompt hello
expect 2 "judged on texts: --text FILE" $moekit eval tiny
sed 's/olmoe/olmo/' tiny/config.json > other.json
expect 1 'other.json: model_type = "olmo": not a family that is known; did you mean olmoe?' $moekit describe other.json

if [ ! -d "$reference/trained" ]; then
  echo "published.sh: no folder of checkpoints, the rest is left out"
  exit 0
fi
model=$reference/trained
expect 0 "qwen3_moe: 4 layers of 128" $moekit describe "$model"
$moekit run "$model" --prompt "ROMEO:
" --tokens 12 --temperature 0 > first.txt
$moekit generate "$model" --prompt "ROMEO:
" --tokens 12 --temperature 0 > second.txt
cmp first.txt second.txt || fail "run and generate differ"
expect 0 '"tokens": 3' $moekit run "$model" --prompt "The " --tokens 3 --weights int4-g32 --json
expect 2 "more than the model's context of 512" $moekit run "$model" --prompt "The " --tokens 600
printf 'I will not bear thee, and I have been about\n' > text.txt
expect 0 "bits a byte" $moekit eval "$model" --text text.txt --window 16
expect 2 "window 1000: must be 2..512" $moekit eval "$model" --text text.txt --window 1000
expect 1 "nowhere.txt: there is no such file" $moekit eval "$model" --text nowhere.txt
$moekit trace "$model" --ids ids.json -o trace.safetensors
[ -s trace.safetensors ] || fail "no trace was written"
expect 2 "is a folder" $moekit trace "$model" --ids ids.json -o .
