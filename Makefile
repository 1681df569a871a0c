# The commands of the project. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help

TARGET := $(shell rustc -vV | sed -n 's/^host: //p')
RELEASE := target/$(TARGET)/release/carrack
DEBUG := target/$(TARGET)/debug/carrack
EXAMPLES := target/$(TARGET)/debug/examples
SUDO := $(shell [ "$$(id -u)" = 0 ] || echo sudo)
export CARGO_TERM_COLOR ?= auto

-include upstream.mk

.PHONY: help build up down test lint unit lab deny test-crash test-vm fuzz bench bench-node bench-scheduler scale differential scheduler-differential conformance-api programs clean

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 22

build: ## Build the release binary
	@echo "building carrack (a first build takes ten minutes on two cores)"
	cargo build --release --package carrack

up: build ## Build Carrack and start a cluster with the example "hello" on this machine
	$(SUDO) $(RELEASE) up --detach --example hello

down: build ## Stop the cluster and leave the machine as it was
	$(SUDO) $(RELEASE) down --purge

test: lint unit lab ## Everything that must hold before a change lands

lint: ## Formatting, clippy and docs, with warnings as errors
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings -A rustdoc::private_intra_doc_links" cargo doc --workspace --no-deps --document-private-items --quiet

unit: ## Tests of every crate, and the house rules
	cargo test --workspace --exclude carrack-lab

lab: ## Whole clusters in network namespaces, driven by upstream's kubectl
	cargo build --package carrack
	$(MAKE) $(UPSTREAM_BIN)/kubectl $(UPSTREAM_BIN)/etcd
	cargo test --package carrack-lab

test-crash: ## Kill an API server 200 times at random moments of a load of writes
	cargo build --package carrack
	KILLS=200 cargo test --package carrack-lab --test server_crash -- --nocapture

test-vm: ## Cut the power of a virtual machine, under load and in first starts; set its clock wrongly
	@command -v qemu-system-x86_64 >/dev/null || { echo "needs qemu: apt-get install --no-install-recommends qemu-system-x86"; exit 1; }
	$(MAKE) build $(UPSTREAM_BIN)/kubectl
	CARRACK_BIN=$(abspath $(RELEASE)) cargo run --package carrack-lab --bin vm

fuzz: ## Feed every decoder mutated inputs within bounds of time and memory; RUNS (a million) and TARGETS choose them
	RUNS=$(or $(RUNS),1000000) TARGETS="$(TARGETS)" fuzz/run.sh

bench: build ## Compare with kube-apiserver + etcd and the null server on this machine
	$(MAKE) $(addprefix $(UPSTREAM_BIN)/,kube-apiserver etcd kubectl)
	CARRACK_BIN=$(RELEASE) cargo run --profile load --package carrack-lab --bin bench

bench-node: build ## Start pods on a node of its own and watch what it costs when idle; ONE_BY_ONE, AT_ONCE, IDLE
	cargo build --profile load --package carrack-lab --bins
	CARRACK_BIN=$(abspath $(RELEASE)) cargo run --profile load --package carrack-lab --bin node

bench-scheduler: build ## How fast pods are placed, compared with kube-scheduler on this machine
	$(MAKE) $(addprefix $(UPSTREAM_BIN)/,kube-apiserver etcd kubectl kube-scheduler)
	CARRACK_BIN=$(RELEASE) cargo run --profile load --package carrack-lab --bin bench_scheduler

scale: build ## 5,000 simulated nodes, 100,000 pods, then pods coming and going; NODES, PODS, CHURN (seconds) choose others
	CARRACK_BIN=$(abspath $(RELEASE)) NODES=$(NODES) PODS=$(PODS) CHURN=$(CHURN) cargo run --profile load --package carrack-lab --bin scale

differential: ## Send the same requests to upstream's kube-apiserver and to Carrack; SEED, CASES, KINDS choose them
	cargo build --package carrack
	$(MAKE) $(UPSTREAM_BIN)/kube-apiserver $(UPSTREAM_BIN)/etcd $(UPSTREAM_BIN)/kubectl
	CARRACK_BIN=$(DEBUG) cargo run --package carrack-lab --bin differential

scheduler-differential: ## Compare decisions with kube-scheduler's on generated cluster states; SEED and STATES choose them
	cargo build --package carrack-scheduler --example differential
	$(MAKE) $(UPSTREAM_BIN)/scheduler-answers
	@mkdir -p target/scheduler
	$(EXAMPLES)/differential generate $(or $(SEED),1) $(or $(STATES),2000) > target/scheduler/states
	$(EXAMPLES)/differential decide < target/scheduler/states > target/scheduler/ours
	$(UPSTREAM_BIN)/scheduler-answers < target/scheduler/states > target/scheduler/theirs
	$(EXAMPLES)/differential compare target/scheduler/states target/scheduler/ours target/scheduler/theirs

conformance-api: build ## Upstream's conformance specs of the API against simulated nodes; writes docs/conformance.md
	$(MAKE) $(addprefix $(UPSTREAM_BIN)/,kubectl e2e.test)
	CARRACK_BIN=$(abspath $(RELEASE)) cargo run --package carrack-lab --bin conformance

programs: build ## Upstream's controllers and scheduler, helm, an operator and KWOK, a line for each; ONLY names one
	$(MAKE) $(addprefix $(UPSTREAM_BIN)/,kubectl kube-controller-manager kube-scheduler helm operator kwok)
	CARRACK_BIN=$(abspath $(RELEASE)) cargo run --package carrack-lab --bin programs

deny: ## Licences, advisories and duplicate dependencies (installs cargo-deny when absent)
	command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
	cargo deny check

clean: ## Remove what was built
	cargo clean
