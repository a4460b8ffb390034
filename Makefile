# Thin: each goal installs what is missing, configures, builds, runs. CMake does the work (CMakePresets.json).
#   make build       build/release/prefpga
#   make demo        the main job: train a small language model on preferences through the simulated card
#   make test        quick tests, optimised and under ASan/UBSan          (10 minutes on 2 cores)
#   make test-all    also threads under TSan, fuzzers, exhaustive sweeps  (60 minutes on 2 cores)
#   make bench       speed against this machine's own limits, as CSV
#   make experiment  the committed result tables, made again
#   make install     PREFIX=/usr/local
PREFIX ?= /usr/local
JOBS   ?= $(shell nproc)
BUILD   = build/release

build-packages = gcc libc6-dev cmake ninja-build pkg-config zlib1g-dev libjansson-dev libyaml-dev libopenblas-openmp-dev \
                 libpcre2-dev libutf8proc-dev libpci-dev
test-packages  = $(build-packages) libcmocka-dev libmpfr-dev python3 libxrt1 libxrt-dev uuid-dev clang llvm \
                 opencl-c-headers ocl-icd-libopencl1
all-packages   = $(test-packages) libclang-rt-14-dev python3-mpmath python3-torch

define built
	cmake --preset $(1) > build/$(1).log 2>&1 || { cat build/$(1).log; exit 1; }
	cmake --build build/$(1) -j $(JOBS)
endef

.PHONY: build demo test test-all bench experiment install clean packages-%
build: packages-build
	@mkdir -p build
	$(call built,release)
demo: build
	@examples/demo.sh $(BUILD)/prefpga
test: packages-test
	@mkdir -p build
	$(call built,dev)
	ctest --test-dir build/dev -L quick -j $(JOBS) --output-on-failure --no-tests=error
	$(call built,asan)
	ctest --test-dir build/asan -L quick -LE no-sanitizer -j $(JOBS) --output-on-failure --no-tests=error
test-all: packages-all test
	ctest --test-dir build/dev -L long -j $(JOBS) --output-on-failure --no-tests=error
	$(call built,tsan)
	ctest --test-dir build/tsan -L threads -j $(JOBS) --output-on-failure --no-tests=error
	$(call built,fuzz)
	ctest --test-dir build/fuzz -L fuzz -j $(JOBS) --output-on-failure --no-tests=error
bench: build
	@cmake --build $(BUILD) -j $(JOBS) --target bench
experiment: packages-test build
	@tests/experiments/run.sh $(BUILD)/prefpga
	@tests/experiments/labels.sh $(BUILD)/prefpga
	@tests/experiments/precision.sh $(BUILD)/prefpga
install: build
	cmake --install $(BUILD) --prefix $(PREFIX)
clean:
	rm -rf build

packages-%:
	@cmake/packages.sh $($*-packages)
