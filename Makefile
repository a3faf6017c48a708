# Every command a person needs. `make` alone lists them. Each installs what it lacks (see .ci/setup).
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help run demo test test-fast verify fix crash chaos bench fuzz openapi docs contract clients setup setup-python setup-test

# Rust's own installer may have been run in this very shell.
export PATH := $(PATH):$(HOME)/.cargo/bin
export TIDEGATE_VENV ?= $(CURDIR)/.venv
export TIDEGATE_NODEJS ?= $(CURDIR)/.node

# One profile for everything, so that RocksDB is built once (see Cargo.toml). A crate below `api` is never built alone: with fewer features of what
# RocksDB is built with, it would be built again.
CARGO := cargo
RELEASE := --release --locked
# Always the same two packages, so that their libraries have the same features and are built once for all commands.
SAME := $(RELEASE) -p tidegate-server -p tidegate-tests
BIN := $(or $(CARGO_TARGET_DIR),target)/release

help: ## List the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

setup:
	@.ci/setup

setup-python:
	@.ci/setup python

setup-test:
	@.ci/setup python node

run: setup ## Start a node on 127.0.0.1:8080, its data in ./tidegate-data (ARGS="--listen 127.0.0.1:9000" and the like)
	@$(CARGO) build $(SAME) --bin tidegate
	@exec $(BIN)/tidegate serve $(ARGS)

demo: setup ## Replay real flights through a node and check that they come out the same (DATA=path/to/flights.csv.zip for all 336,776)
	@$(CARGO) build $(SAME) --bins
	@exec $(BIN)/demo $(DATA)

test: setup-test ## Run every test, the Python oracles and the generated clients included
	$(CARGO) build $(SAME) --bins
	$(CARGO) test $(RELEASE) --workspace

test-fast: setup ## Run what needs no running node: two minutes at most
	$(CARGO) test $(RELEASE) --workspace --lib
	$(CARGO) test $(RELEASE) -p tidegate-tests --test suite tidy::

verify: setup-test ## Everything a reviewer checks, read-only: format, lints, tests, documentation, licences
	@.ci/setup deny
	$(CARGO) fmt --all --check
	$(CARGO) clippy $(RELEASE) --workspace --all-targets -- -D warnings
	$(MAKE) --no-print-directory test
	RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" $(CARGO) doc $(RELEASE) --workspace --no-deps --document-private-items
	$(CARGO) deny --log-level error check licenses bans sources

fix: setup ## Rewrite what can be rewritten: format, lints, openapi.json, the guide's tables
	$(CARGO) clippy $(RELEASE) --workspace --all-targets --fix --allow-dirty --allow-staged
	$(CARGO) fmt --all
	$(MAKE) --no-print-directory openapi docs

openapi: setup-python ## Write openapi/openapi.json anew from the handlers, and its copy in 3.0.3
	$(CARGO) run $(RELEASE) -p tidegate-api --example openapi > openapi/openapi.json.new
	"$(TIDEGATE_VENV)/bin/python" openapi/downconvert.py openapi/openapi.json.new > openapi/openapi-3.0.3.json.new
	mv openapi/openapi.json.new openapi/openapi.json
	mv openapi/openapi-3.0.3.json.new openapi/openapi-3.0.3.json

contract: setup-test ## Check the contract: lint, its copy in 3.0.3, what would break since the last release
	$(CARGO) test $(RELEASE) -p tidegate-tests --test suite contract::

clients: setup-test ## Make clients in TypeScript and Python from the contract; they come to target/clients (URL=http://… tries them on a node)
	@openapi/typescript.sh $(URL)
	@openapi/python.sh $(URL)

docs: setup ## Write the guide's tables anew from the code
	UPDATE=1 $(CARGO) test $(RELEASE) -p tidegate-tests --test suite guide::tables

crash: setup ## Play random histories on a bad disk (SEED=n to begin at one, SECONDS_EACH=60, 0 is until one fails), cut it off at every write, and kill nodes
	$(CARGO) build $(SAME) --bins
	SEED=$(or $(SEED),$(shell date +%s)000000) SECONDS_EACH=$(SECONDS_EACH) $(CARGO) test $(RELEASE) -p tidegate-storage -p tidegate-cluster -p tidegate-tests --lib history:: -- --nocapture
	$(CARGO) test $(RELEASE) -p tidegate-storage -p tidegate-cluster -p tidegate-tests --lib crash
	$(CARGO) test $(RELEASE) -p tidegate-tests --test suite crash::

chaos: setup-python ## Send records over a bad network to a node that is killed again and again, and check that each is there once (REQUESTS=100000 RECORDS=1000000 KILL_EVERY=3 SEED=n)
	$(CARGO) build $(SAME) --bins
	@SEED=$(or $(SEED),$(shell date +%s)) exec $(BIN)/chaos

bench: setup ## Measure a node beside its limits, and write docs/BENCHMARKS.md (ARGS="--seconds 1 --only json-1"; TMPDIR=/dev/shm leaves the disk out)
	@$(CARGO) build $(SAME) --bins
	@exec $(BIN)/bench $(or $(ARGS),--write docs/BENCHMARKS.md)

fuzz: ## Fuzz the batch decoder (SECONDS_EACH=60)
	@.ci/setup fuzz
	cd types/fuzz && cargo +nightly fuzz run decode_batches -- -max_total_time=$(or $(SECONDS_EACH),60) -max_len=65536 -rss_limit_mb=1024
