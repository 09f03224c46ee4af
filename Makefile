# gensynth on a machine with Python 3.11 and make: `make demo` and `make test` install what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: install demo demo-masked test test-all test-long test-random lint serve bench

install: $(INSTALLED)

# torch first and alone: another package would otherwise pull in the newest one.
$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "error: gensynth needs Python 3.11 or newer, this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(INSTALLED)
	$(BIN)/gensynth demo

demo-masked: $(INSTALLED)
	$(BIN)/gensynth demo --masked

# Each test runs on one thread. A worker without work takes over tests of another one.
PYTEST = $(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist worksteal

# What takes no more than ten seconds each; `make test-all` is what .ci/run asks for; `make test-long`:
# 400 damaged inputs for each reader, kills with everything on, kernels compiled for GPUs, large memory.
test: $(INSTALLED)
	$(PYTEST) -m "not slow and not long"

test-all: $(INSTALLED)
	$(PYTEST) -m "not long"

test-long: $(INSTALLED)
	$(PYTEST) -m long

# In another order each time. It prints its seed: make test-random ARGUMENTS=--randomly-seed=SEED
test-random: $(INSTALLED)
	$(PYTEST) -m "not slow and not long" -p randomly $(ARGUMENTS)

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

serve: $(INSTALLED)
	$(BIN)/gensynth serve

bench: $(INSTALLED)
	$(BIN)/gensynth bench
