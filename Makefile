# Tollway. Every target sets up `.venv` by itself, from a bare checkout.
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= $(shell for p in python3.12 python3.11 python3; do $$p -c 'import sys; sys.exit(not (3,11) <= sys.version_info[:2] < (3,13))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

help: ## Show what each target does
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

setup: $(STAMP) ## Make .venv with the locked dependencies (Python 3.11 or 3.12)

$(STAMP): requirements.lock pyproject.toml
	@if [ -z "$(PYTHON)" ]; then echo "Tollway needs Python 3.11 or 3.12: none was found on PATH" >&2; exit 1; fi
	@echo "Setting up $(VENV) with $$($(PYTHON) --version) …" >&2
	@$(PYTHON) -m venv --clear $(VENV)
	@if command -v uv >/dev/null 2>&1; then \
	   VIRTUAL_ENV=$(VENV) uv pip sync --quiet --require-hashes requirements.lock && VIRTUAL_ENV=$(VENV) uv pip install --quiet --no-deps --editable .; \
	 else \
	   $(BIN)/pip install --quiet --require-hashes -r requirements.lock && $(BIN)/pip install --quiet --no-deps --editable .; \
	 fi
	@touch $@

demo: $(STAMP) ## Event → charge → credit → invoice → block, live, on real embedded servers
	@$(BIN)/tollway demo

run: $(STAMP) ## Start the embedded servers and the dataflow; stop with Ctrl-C
	@$(BIN)/tollway up

# Each test that starts a process would compile all of Tollway anew.
test: export PYTHONDONTWRITEBYTECODE =
test: $(STAMP) ## Run the tests: side by side, then those that look at the clock
	@$(BIN)/python -m pytest -n auto --dist loadgroup -m "not timed"
	@$(BIN)/python -m pytest -m timed

format: $(STAMP) ## Format, and repair what can be repaired
	@$(BIN)/ruff check --fix --quiet . ; $(BIN)/ruff format .

docs: $(STAMP) ## Write the generated parts of the reference anew
	@$(BIN)/python -m docs.make_reference

check: $(STAMP) ## What CI runs: format, lint, strict types, and all repeats of the tests
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@REPEATS=all $(MAKE) --no-print-directory test

explore: $(STAMP) ## Look for cases that break a law, new ones each time
	@REPEATS=all HISTORIES=2000 HISTORIES_FROM=$${HISTORIES_FROM:-$$RANDOM$$RANDOM} $(BIN)/python -m pytest --hypothesis-profile=explore tests/rating tests/simulation tests/invoicing

fuzz: $(STAMP) ## Send a million events, 10,000 catalogs and 100,000 requests that are nearly right; FUZZ_SEED for others
	@FUZZ_EVENTS=$${FUZZ_EVENTS:-1000000} FUZZ_CATALOGS=$${FUZZ_CATALOGS:-10000} FUZZ_REQUESTS=$${FUZZ_REQUESTS:-100000} \
	  nice $(BIN)/python -m pytest -s --timeout 0 tests/fuzz tests/api/test_fuzz.py

bench: $(STAMP) ## Measure throughput, CPU per event and time to the block signal
	@$(BIN)/python -m tests.bench

COMPILE := uv pip compile --quiet --universal --python-version 3.11 --no-emit-index-url --custom-compile-command 'make lock'

lock: ## Pin the dependencies anew, by version and hash, into requirements.lock and requirements-run.lock
	@$(COMPILE) --generate-hashes --group pyproject.toml:dev pyproject.toml -o requirements.lock
	@sed -E 's/ *[\\#].*//; /^ *--hash/d' requirements.lock > .constraints.txt
	@$(COMPILE) --generate-hashes --constraint .constraints.txt pyproject.toml -o requirements-run.lock; rm .constraints.txt

clean: ## Remove .venv, caches and the embedded servers' data
	@if [ -x $(BIN)/tollway ]; then $(BIN)/tollway down --quiet || true; fi
	@rm -rf $(VENV) .tollway .mypy_cache .pytest_cache .ruff_cache .hypothesis

.PHONY: help setup demo run test format docs check explore fuzz bench lock clean
