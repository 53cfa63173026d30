#!/bin/sh
# The kernels and their tests, compiled for 64-bit ARM and run under emulation: on a processor with
# dot products of bytes (neon-dot, and neon) and on one without (neon). Not part of `make test`.
# Takes some seven minutes on two cores; says nothing of speed.
#   scripts/test-arm.sh [GoogleTest's flags, as --gtest_filter='ExpertFfn*']
# Needs the packages of `scripts/install-packages.sh arm`.
set -eu
cd "$(dirname "$0")/.."
for needed in cmake ninja aarch64-linux-gnu-g++ qemu-aarch64 /usr/src/googletest/CMakeLists.txt; do
  command -v "$needed" > /dev/null || [ -f "$needed" ] || {
    echo "test-arm.sh: no $needed; \`scripts/install-packages.sh arm\` installs it" >&2; exit 1; }
done
cmake -S . -B build-arm -G Ninja --no-warn-unused-cli \
  -DCMAKE_TOOLCHAIN_FILE=cmake/aarch64.cmake -DMOEKIT_KERNELS_ONLY=ON -DMOEKIT_WERROR=ON > build-arm.configure.log
ninja -C build-arm kernels_test
# MOEKIT_ISA: tests of the default fail where the set is not there; the others run all sets.
run() {
  processor=$1 isa=$2; shift 2
  echo "$processor, $isa:"
  MOEKIT_ISA=$isa qemu-aarch64 -L /usr/aarch64-linux-gnu -cpu "$processor" \
    build-arm/tests/kernels_test --gtest_brief=1 "$@"
}
run max neon-dot "$@"
run cortex-a57 neon "$@"
