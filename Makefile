# Five verbs: all check fuzz bench fmt lint is what a developer needs; demo is where a newcomer
# starts. The work is done by meson, ninja and the scripts in tools/; this file only names it.
#
#   make demo       install what is missing, build everything, run it, explain what happens
#   make check      install what tests need, pass every test; last line: N passed, N failed
#   make            build everything; build/stage/bin/berm works from there
#   make install    copy what make built to PREFIX (default /usr/local), below DESTDIR if set
#   make berm, agent, kernel, image, stage     parts of it (kernel and image come from a cache)
#   make fuzz       each fuzz target for FUZZ_SECONDS (default 20)
#   make bench      measure; JSON lines on stdout
#   make fmt, make lint        format the C files; the checks that run nothing
#   make clean      remove build/ (the caches in ~/.cache/berm stay)

.DEFAULT_GOAL := all

PREFIX ?= /usr/local
DESTDIR ?=
fuzz: FUZZ_SECONDS ?= 20
check: FUZZ_SECONDS ?= 5
export FUZZ_SECONDS

B := build
STAGE := $(CURDIR)/$(B)/stage
# in a checkout a warning is an error; a release tarball builds with whatever compiler there is
WERROR := $(if $(wildcard .git),true,false)

.PHONY: all demo check fuzz bench fmt lint install stage kernel image agent berm clean need
.NOTPARALLEL:

all: stage

need:
	@missing=$$(tools/install-deps --missing build) || { \
		echo "missing packages; install them with:" >&2; \
		echo "  sudo apt install --no-install-recommends $$(echo $$missing)" >&2; exit 1; }

# prefix / and a destination at install time: the programs find each other from where they are
$(B)/main/build.ninja:
	@echo "configuring berm"
	@CC=gcc meson setup $(B)/main --prefix=/ -Dwerror=$(WERROR) >$(B)-setup.log 2>&1 || \
		{ cat $(B)-setup.log; rm -rf $(B)-setup.log $(B)/main; exit 1; }
	@rm -f $(B)-setup.log

$(B)/agent/build.ninja:
	@echo "configuring the guest agent"
	@CC=musl-gcc meson setup $(B)/agent -Dagent_only=true -Dwerror=$(WERROR) \
		>$(B)-setup.log 2>&1 || \
		{ cat $(B)-setup.log; rm -rf $(B)-setup.log $(B)/agent; exit 1; }
	@rm -f $(B)-setup.log

berm: $(B)/main/build.ninja
	@tools/ninja -C $(B)/main

agent: $(B)/agent/build.ninja
	@tools/ninja -C $(B)/agent

kernel:
	@kernel/build $(B)/kernel

image: berm
	@images/default/build $(B)/image $(B)/main/src/bin/berm-unpack

stage: need berm agent kernel image
	@mkdir -p $(STAGE)
	@tools/stage $(B) $(STAGE)

# Builds nothing that is there: `make && sudo make install` leaves no file of root's in build/.
install: $(if $(wildcard $(STAGE)/bin/berm),,stage)
	@tools/stage --copy $(STAGE) "$(DESTDIR)$(PREFIX)"

demo:
	@tools/install-deps build run
	@$(MAKE) --no-print-directory stage
	@tools/demo $(STAGE)/bin/berm

check:
	@tools/install-deps build run test
	@tests/run

fuzz:
	@tools/install-deps build test
	@tests/run fuzz

bench:
	@tools/install-deps build run bench
	@$(MAKE) --no-print-directory stage
	@tests/bench/run $(STAGE)

fmt:
	@tools/fmt

lint:
	@tests/run lint

clean:
	rm -rf $(B)
