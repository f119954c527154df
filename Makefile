# On a fresh machine with Python 3.11 and make: `make demo`, `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FLOWER := $(VENV)-flower
NEWEST := $(VENV)-newest
NEWEST_PYTHON ?= $(or $(shell .ci/python 3.13),python3.13)
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

# Without bytecode every command compiles all that it imports again: 9 s of its time.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-all test-flower test-newest check wheel bench docs clean

# Of the newest Python that there is, unless one is given; the others take python3.
ifeq ($(origin PYTHON),file)
demo: PYTHON = $(or $(shell .ci/python 3.13 3.12 3.11),python3)
endif

# With pictures: plots of runs and reports are drawn where Matplotlib is installed.
demo: $(VENV)/.installed
	$(BIN)/fedjax-sl run --folder runs/demo --overwrite

# A worker that crashes is an error: with another in its place the suite would hang.
PYTEST := $(BIN)/python -m pytest --numprocesses auto --dist loadfile --max-worker-restart 0

test: $(VENV)/.dev
	$(PYTEST) -m "not slow"

test-all: $(VENV)/.dev
	$(PYTEST)

test-flower: $(FLOWER)/.installed
	$(FLOWER)/bin/pytest tests/compressors/test_flower.py

# What of the suite shows in a few minutes that the package runs on other releases.
QUICK := \
  tests/test_api.py tests/cli/test_run.py tests/compression/test_compiled.py \
  tests/federation/test_cpu.py tests/federation/test_stores.py tests/models/test_trace.py \
  tests/records/test_checkpoint.py tests/reference/test_layers.py

# And a run of its own, with no flag of the suite.
test-newest: $(NEWEST)/.installed
	$(PYTEST:$(VENV)/%=$(NEWEST)/%) -m "not slow" $(QUICK)
	$(NEWEST)/bin/fedjax-sl run --folder runs/newest --overwrite --rounds 20 \
	  --model.name mlp --model.cut 1

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright --pythonpath $(BIN)/python

# Both archives, in dist/: installed and run in an environment of their own, and checked.
wheel: $(VENV)/.dev
	$(BIN)/python -m pytest tests/test_wheel.py
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(BIN)/python -m twine check --strict dist/*

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks.round
	$(BIN)/python -m benchmarks.resnet
	$(BIN)/python -m benchmarks.class_cuts
	$(BIN)/python -m benchmarks.techniques
	$(BIN)/python -m benchmarks.compressed_round
	$(BIN)/python -m benchmarks.fedlpq
	$(BIN)/python -m benchmarks.codec
	$(BIN)/python -m benchmarks.coders
	$(BIN)/python -m benchmarks.conv
	$(BIN)/python -m benchmarks.sweep
	$(BIN)/python -m benchmarks.structures
	$(BIN)/python -m benchmarks.scaling

# Executes tutorials that changed; SPHINXOPTS="-D nb_execution_mode=off" executes none.
docs: $(VENV)/.docs
	$(BIN)/python -m sphinx -b html -W --keep-going $(SPHINXOPTS) docs build/docs

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --no-compile --constraint constraints.txt --editable '.[reports]'
	touch $@

$(VENV)/.dev: $(VENV)/.installed
	$(PIP) install --no-compile --constraint constraints.txt --editable '.[dev]'
	touch $@

# Flower wants older releases of three packages, and a newer one of another.
$(FLOWER)/.installed: pyproject.toml constraints.txt
	test -x $(FLOWER)/bin/python || $(PYTHON) -m venv $(FLOWER)
	grep -vE '^(certifi|packaging|protobuf|rich)==' constraints.txt > $(FLOWER)/constraints.txt
	$(FLOWER)/bin/python -m pip --disable-pip-version-check --quiet install --no-compile \
	  --constraint $(FLOWER)/constraints.txt --editable '.[dev,flower]'
	touch $@

# Nothing but what its tests and its run import.
$(NEWEST)/.installed: pyproject.toml constraints-newest.txt
	test -x $(NEWEST)/bin/python || $(NEWEST_PYTHON) -m venv $(NEWEST)
	$(NEWEST)/bin/python -m pip --disable-pip-version-check --quiet install --no-compile \
	  --constraint constraints-newest.txt --editable '.[reports]' hypothesis pytest pytest-xdist
	touch $@

$(VENV)/.docs: $(VENV)/.installed
	$(PIP) install --no-compile --constraint constraints.txt --editable '.[docs]'
	touch $@

# A CPU build of PyTorch suffices.
$(VENV)/.bench: $(VENV)/.dev
	$(PIP) install --no-compile --constraint constraints.txt --editable '.[bench]'
	touch $@

clean:
	rm -rf $(VENV) $(FLOWER) $(NEWEST) build dist runs
