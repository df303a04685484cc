# `make repro [PRESET=name]`, `make test`, `make bench` and `make results` install what they need, once.
PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

# Two at once where there are two cores; what shares a run or a cluster stays together (tests/conftest.py).
TESTS = $(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder --durations=25
ALONE = $(BIN)/python -m pytest tests/pipeline

.PHONY: repro test test-fast test-all lint bench results install lock
.DELETE_ON_ERROR:

repro: install  ## run the pipeline on params.yaml, or on the preset $(PRESET)
	$(if $(PRESET),$(BIN)/zprime preset $(PRESET))
	$(BIN)/dvc repro

test: lint  ## lint, type check, and every mechanism once: minutes
	$(TESTS) -m "not exhaustive and not timing"
	$(ALONE) -m "timing and not exhaustive"

test-fast: install  ## what takes a moment: for while you work
	$(TESTS) -m "not slow and not exhaustive and not timing"

test-all: lint  ## every stage killed, every combination
	$(TESTS) -m "not timing"
	$(ALONE) -m timing

lint: install  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: install  ## measure what is fast against baselines; benchmarks/results.json
	$(BIN)/zprime bench

results: install  ## put what the pipeline found into docs/results.md
	$(BIN)/zprime results

install: .venv/installed

# Compiled once here: where Python may not write bytecode, importing torch would take twice as long.
.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; (3, 11) <= v <= (3, 13) or sys.exit("zprime needs Python 3.11 to 3.13, and $(PYTHON) is %d.%d: make PYTHON=python3.12 ..." % v)'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip install --quiet --compile-bytecode --require-hashes --python $(BIN)/python -r requirements.lock
	$(BIN)/uv pip install --quiet --no-deps --python $(BIN)/python -e .
	touch $@

lock:  ## renew the pins after a change of pyproject.toml
	$(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header \
	    --upgrade --all-extras pyproject.toml -o requirements.lock
