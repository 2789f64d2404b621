# `make run` and `make test` do all their set-up themselves; a set-up that is done needs no network.
.DEFAULT_GOAL := run
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin

.PHONY: run test check model faults lint build bench lock clean

run: .venv/.run
	@$(BIN)/gateway serve

# Browsers and whole gateways mostly wait, so several tests share the time; the others count on having the machine.
WAITING := tests/browser tests/blockers tests/e2e
test: .venv/.test
	$(BIN)/pytest -n 3 --dist loadfile $(WAITING)
	$(BIN)/pytest $(WAITING:%=--ignore=%)

# A thousand histories of each store against the model; `make test` tries a few.
model: .venv/.test
	MODEL_RUNS=1000 $(BIN)/pytest tests/stores/test_model.py --durations 3

# Everything that breaks, for a quarter of an hour: kills, power cuts, replicas, outages; `make test` has a short look. -s shows the counts.
faults: .venv/.test
	FAULTS=long $(BIN)/pytest tests/faults -s

check: .venv/.test lint
	$(MAKE) --no-print-directory test

# The snippet, from static/src into static/built; fails when it has grown too large.
build: static/node_modules/.done
	cd static && node build.js

static/node_modules/.done: static/package-lock.json
	npm ci --silent --no-audit --no-fund --prefix static
	@touch $@

# What it does with more than it can take. Timed, so no part of the tests.
bench: .venv/.test
	$(BIN)/python bench/overload.py

lint: .venv/.test
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The locked versions, by hash. Raise them with `make lock`.
.venv/.run: config/requirements.lock pyproject.toml config/setup.sh
	@PYTHON=$(PYTHON) sh config/setup.sh run

.venv/.test: config/requirements-dev.lock tests/oracles/package-lock.json static/package-lock.json \
  tests/blockers/package-lock.json tests/blockers/unpack.py pyproject.toml config/setup.sh
	@PYTHON=$(PYTHON) sh config/setup.sh test

lock:
	$(PYTHON) -m venv .venv/lock && .venv/lock/bin/pip install --quiet uv
	for extra in "" "--extra dev"; do \
	  .venv/lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	    --no-emit-index-url --no-emit-find-links --no-header --no-annotate --extra build $$extra pyproject.toml \
	    -o config/requirements$${extra:+-dev}.lock; \
	done

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
