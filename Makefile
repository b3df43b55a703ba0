# oarlock's commands. `make` alone lists them.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
PYTEST_ARGS ?=
DEMO_DIR ?= $(or $(OARLOCK_DEMO),/var/lib/oarlock-demo)
export OARLOCK_DEMO := $(DEMO_DIR)
python := .venv/bin/python

.PHONY: setup run test test-guest check format bench cluster clean help

help: ## list these commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install everything for running and testing (Debian packages, .venv, the Go-built control plane)
	@scripts/setup test

run: ## start the operator on examples/ and watch the containers come up, fail, restart and be OOM-killed
	@scripts/setup run
	@if [[ -x examples/make-rootfs ]]; then examples/make-rootfs; fi
	@exec scripts/demo

test: ## run all tests on the real conmon, runc and kube-apiserver (as root); PYTEST_ARGS="-k name" picks some
	@scripts/setup test
	@$(if $(PYTEST_ARGS),$(python) -m pytest $(PYTEST_ARGS),scripts/test)

test-guest: ## run the node tests' chosen set in guests (cgroup v2 and v1, systemd, runc, crun); GUEST=full runs all of them
	@scripts/setup test
	@OARLOCK_GUEST=$(GUEST) $(python) -m pytest -s tests/guest

check: ## format, lint, types, import layers, generated files, forbidden words
	@scripts/setup check
	@scripts/check

format: ## put the code into the project's format
	@scripts/setup check
	@.venv/bin/ruff format . && .venv/bin/ruff check --fix .

bench: ## measure oarlock beside the floor (conmon and runc by hand); results in build/bench.json
	@scripts/setup test
	@mkdir -p build && $(python) -m benchmarks

cluster: ## start etcd and a kube-apiserver to play with; prints the KUBECONFIG line, ends at Ctrl-C
	@scripts/setup test
	@exec $(python) -m tests.cluster

clean: ## remove what was built in the clone; the cache outside it stays
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find operator tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true
