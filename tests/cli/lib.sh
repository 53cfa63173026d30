# Helpers of the command-line tests. $moekit is the program, $work a fresh folder.
fail() { echo "FAILED: $*" >&2; exit 1; }

# expect CODE TEXT command...: the command ends with CODE and says TEXT on stdout or stderr.
expect() {
  code=$1; text=$2; shift 2
  set +e
  output=$("$@" 2>&1); got=$?
  set -e
  [ "$got" -eq "$code" ] || fail "$*: exit code $got, wanted $code: $output"
  case "$output" in
    *"$text"*) ;;
    *) fail "$*: wanted \"$text\" in: $output" ;;
  esac
}

fresh_folder() { rm -rf "$1"; mkdir -p "$1"; cd "$1"; }

# A recipe that trains in a second, on generated data.
write_recipe() {
  cat > small.toml <<'TOML'
# Four linear experts on generated clusters.
[data]
name = "synthetic-clusters"
[model]
num_experts = 4
[model.expert]
kind = "mlp"
intermediate_size = 16
[train]
epochs = 3
batch_size = 50
lr = 0.01
TOML
}
