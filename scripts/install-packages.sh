#!/bin/sh
# Installs the Debian packages moekit needs, and nothing when all are there.
#   scripts/install-packages.sh [build] [test] [benchmark] [browser] [lint] [shell] [fuzz] [arm]
#   (default: build test)
# This is the one list; docs/dependencies.md gives the reason for each.
set -eu

build="g++ make cmake ninja-build ccache pkg-config
  libtorch-dev libopenblas0-openmp libfmt-dev libcli11-dev libtomlplusplus-dev nlohmann-json3-dev libsimdjson-dev
  zlib1g-dev liblzma-dev libpng-dev libcurl4-openssl-dev libarchive-dev libssl-dev
  libprotobuf-dev protobuf-compiler libboost-dev libpcre2-dev libutf8proc-dev libjs-chart.js dataset-fashion-mnist
  jargon-text fortunes fortunes-de"
test="libgtest-dev"
benchmark="libbenchmark-dev"
browser="chromium"
lint="clang-tidy clang-format"
shell="bash zsh mandoc man-db python3"
fuzz="clang libclang-rt-14-dev"
arm="cmake ninja-build g++-aarch64-linux-gnu qemu-user googletest"

[ $# -gt 0 ] || set -- build test
missing=""
for group in "$@"; do
  case "$group" in
    build) packages=$build ;;
    test) packages=$test ;;
    benchmark) packages=$benchmark ;;
    browser) packages=$browser ;;
    lint) packages=$lint ;;
    shell) packages=$shell ;;
    fuzz) packages=$fuzz ;;
    arm) packages=$arm ;;
    *) echo "install-packages.sh: unknown group $group (build, test, benchmark, browser, lint, shell, fuzz, arm)" >&2; exit 2 ;;
  esac
  for package in $packages; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' ||
      missing="$missing $package"
  done
done
[ -n "$missing" ] || exit 0

as_root=""
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || {
    echo "install-packages.sh: needs root or sudo to install:$missing" >&2; exit 1; }
  as_root=sudo
fi
echo "installing:$missing" >&2
export DEBIAN_FRONTEND=noninteractive
$as_root apt-get update -qq
# shellcheck disable=SC2086
$as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing
