# The words a newcomer types. `make up` and `make down` are the two that matter.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

CARGO_TARGET_DIR ?= $(CURDIR)/target
export CARGO_TARGET_DIR
SKEP := $(CARGO_TARGET_DIR)/release/skep
KEEP ?=
T ?=
SEED ?=

.PHONY: help
help: ## What can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | column -t -s '	'

.PHONY: build
build: ## The skep command, into target/release
	@e2e/packages gcc make
	cargo build --release --locked -p skep

.PHONY: install
install: build ## skep and kubectl-skep into /usr/local/bin
	install -m 0755 $(SKEP) /usr/local/bin/skep
	ln -sf skep /usr/local/bin/kubectl-skep

.PHONY: up
up: build ## The local platform, with a tenant in it; safe to run again
	$(SKEP) up

.PHONY: down
down: build ## Take all of it away; KEEP=1 keeps the data
	$(SKEP) down $(if $(filter 1,$(KEEP)),--keep)

.PHONY: test
test: ## Every test that one machine can run, unit to real cluster
	e2e/run

.PHONY: conformance
conformance: ## Upstream's conformance tests that are listed, against a platform of its own; hours
	SKEP_INSTANCE=skep-conformance STAGES=conformance e2e/run

.PHONY: bench
bench: build ## The benchmarks, or one with T=NAME: tables, and target/bench/NAME.json
	e2e/bench $(T)

.PHONY: soak
soak: ## Long seeded runs that look for faults, or one with T=NAME; goes on where it was; SEED=n repeats a round
	SEED=$(SEED) e2e/soak $(T)

.PHONY: fmt
fmt: ## Format the code
	cargo fmt --all
	gofmt -w cells/distro/modules/*/*.go

.PHONY: lint
lint: ## Formatting, clippy, licences and sources
	cargo fmt --all --check
	cargo clippy --release --locked --workspace --all-targets -- -D warnings
	e2e/tool cargo-deny -- --workspace check licenses bans sources

.PHONY: gen
gen: ## Generated files: definitions of kinds and the OpenAPI document
	cargo run --release --locked -p skep-api --example definitions -- manifests/crds
	SKEP_GENERATE=1 cargo test --release --locked -q -p skep-provision --lib openapi
