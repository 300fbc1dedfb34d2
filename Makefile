# Every task is one command.  `make demo` and `make test` set up what they need on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
WORKERS ?= 2

.PHONY: demo test lint soak bench clean setup

setup: $(STAMP)

$(STAMP): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -e '.[dev]'
	touch $(STAMP)

# The main job: two correct filesystems, and one that is caught and replayed.
demo: $(STAMP)
	$(BIN)/vfsim check examples/toyfs.py
	$(BIN)/vfsim check examples/tinydisk.py
	$(BIN)/python -m examples.demo

test: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal --vfsim-coverage test

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Long campaigns: minutes to hours.
soak: $(STAMP)
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m soak

bench: $(STAMP)
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) .vfsim .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
