# `make help` lists the targets. The work is done by scripts in tools/, which can be run by themselves.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# Recipes run in order, also with -j: two builds in one folder would only wait for each other.
.NOTPARALLEL:
.PHONY: help run test tsan asan fuzz build deb bench bench-micro kafka-init clickhouse-init stack-image stack-up stack-down
.PHONY: canary-up canary-promote canary-abort stack-test
.PHONY: format lint clean setup

LINTED := Sources Tests benchmarks/micro tools/kafka-dev Package.swift
# The path of Swift, found when a recipe needs it; tools/setup has said so before if there is none.
SWIFT = $$(tools/find-swift)

help: ## Lists the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: ## Starts everything with sample events: Kafka, ClickHouse, the service; until Ctrl-C
	@tools/run

test: ## Runs all tests and checks; the last line is the total
	@tools/setup test
	@tools/test

tsan: ## Runs the Swift tests under ThreadSanitizer: data races; builds in .build-tsan
	@tools/setup test
	@tools/sanitize thread

asan: ## Runs the Swift tests under AddressSanitizer: memory errors and leaks; builds in .build-asan
	@tools/setup test
	@tools/sanitize address

fuzz: ## Lets libFuzzer look for bytes that break a parser, FUZZ_SECONDS (60) for all; builds in .build-fuzz
	@tools/setup test
	@tools/fuzz

build: ## Builds the service for production: .build/release/ingestd
	@tools/setup run
	$(SWIFT) build -c release --product ingestd

deb: ## Builds a Debian package with program, unit and manual page: .build-deb/ingestd_VERSION_ARCHITECTURE.deb
	@tools/setup run
	@tools/deb

bench: build ## Runs the benchmarks: targets and where each stands; BENCH_QUICK=1 only tries them (docs/benchmarks.md)
	$(SWIFT) build -c release --product kafka-dev
	@benchmarks/run

bench-micro: ## Micro-benchmarks: fails if a hot path allocates more than it may; builds in .build-micro, minutes at first
	@tools/setup run
	@tools/bench-micro

kafka-init: ## Creates the topics (events and dead letters), again and again without harm
	@tools/kafka-init

clickhouse-init: ## Applies schema/*.sql to CLICKHOUSE_URL in order, again and again without harm
	@tools/migrate

stack-image: ## Builds the images of the service and the schema, as TAG (0.1.0)
	@tools/stack image

stack-up: ## Deploys or updates stack.yml on the local Swarm, and waits until all is well
	@tools/stack up

stack-down: ## Removes the stack; volumes stay, unless STACK_VOLUMES=remove
	@tools/stack down

canary-up: ## Deploys the image TAG as a canary beside the stack: one replica with its own journal
	@tools/canary up

canary-promote: ## Compares the canary with the others; if it is not worse, all get its image
	@tools/canary promote

canary-abort: ## Takes the canary away, once all that it has accepted is delivered
	@tools/canary abort

stack-test: ## Tries stack.yml on a real Docker Swarm of its own, as root; about 20 minutes
	@tools/setup stack
	@tools/stack-test

format: ## Formats the Swift sources in place
	@$(SWIFT) format --in-place --recursive $(LINTED)

lint: ## Checks the format of the Swift sources and who imports what
	@$(SWIFT) format lint --strict --recursive $(LINTED)
	@tools/check-imports

clean: ## Removes what was built and the data of `make run`; keeps .venv
	rm -rf .build .build-tsan .build-asan .build-fuzz .build-micro .build-deb .build-image .build-stack .run

setup: ## Installs what is missing to build, run and test
	@tools/setup test
