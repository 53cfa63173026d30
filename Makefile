# Two commands, each by itself from nothing: `make demo` and `make test`.
BUILD ?= build
JOBS ?= $(shell nproc)
CMAKE_FLAGS ?=
FUZZ_RUNS ?= 1000000
FUZZ_TARGETS ?=
MUTATE ?=

.PHONY: all demo test build configure packages bench asan tsan fuzz figures mutate format tidy split clean

all: build

packages:
	@sh scripts/install-packages.sh build test

configure: packages
	@cmake -S . -B $(BUILD) -G Ninja -DCMAKE_BUILD_TYPE=Release $(CMAKE_FLAGS) > $(BUILD).configure.log 2>&1 || (cat $(BUILD).configure.log; exit 1)

build: configure
	@cmake --build $(BUILD) -j $(JOBS)

# Trains six small models on FashionMNIST; the last line is the path of the report page. Builds the
# command alone.
demo: configure
	@cmake --build $(BUILD) -j $(JOBS) --target moekit
	@$(BUILD)/bin/moekit reproduce demo --out runs/demo

test: build
	@ctest --test-dir $(BUILD) --output-on-failure -j $(JOBS)

bench:
	@sh scripts/install-packages.sh build benchmark
	@$(MAKE) build CMAKE_FLAGS="-DMOEKIT_BUILD_BENCHMARKS=ON $(CMAKE_FLAGS)"
	@$(BUILD)/bin/moekit_benchmark

asan tsan: packages
	@cmake --preset $@ > build-$@.configure.log && cmake --build --preset $@ -j $(JOBS)
	@ctest --preset $@

# FUZZ_TARGETS="trace recipe" runs these alone.
fuzz:
	@sh scripts/install-packages.sh build fuzz
	@cmake --preset fuzz > build-fuzz.configure.log && cmake --build --preset fuzz -j $(JOBS)
	@sh scripts/fuzz.sh build-fuzz $(FUZZ_RUNS) $(FUZZ_TARGETS)

# The pictures of README and docs, made again.
figures: build
	@sh scripts/install-packages.sh browser
	@sh scripts/figures.sh $(BUILD)/bin/moekit

# MUTATE="study --sample 40" takes this module and number alone.
mutate:
	@sh scripts/install-packages.sh build test shell
	@python3 scripts/mutate.py $(MUTATE)

# Every source read by itself, without the batches of the build, which hide a missing include. No code.
split: packages
	@cmake -S . -B $(BUILD)-split -G Ninja -DCMAKE_BUILD_TYPE=Split -DMOEKIT_UNITY=OFF -DMOEKIT_WERROR=ON \
	  -DMOEKIT_BUILD_TESTS=OFF -DMOEKIT_BUILD_EXAMPLES=OFF \
	  -DCMAKE_CXX_COMPILER_LAUNCHER="$(CURDIR)/scripts/check_only.sh" > $(BUILD)-split.configure.log
	@ninja -C $(BUILD)-split -t targets all | sed -nE 's#^([^:]*[.]o): .*#\1#p' | \
	  xargs ninja -C $(BUILD)-split -j $(JOBS)

format:
	@git ls-files --cached --others --exclude-standard '*.h' '*.cpp' | xargs clang-format -i

tidy:
	@sh scripts/install-packages.sh build test benchmark lint
	@sh scripts/tidy.sh build-tidy

clean:
	rm -rf $(BUILD) build-* *.configure.log
