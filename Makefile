# make demo         sets up .venv, attacks the 32 images that ship with advex and writes a report
# make test         sets up .venv and runs every check
# make bench        what a step costs beside the bare gradient, and beside other libraries where they can be installed;
#                   AutoAttack and Verdict beside the reference implementation (half an hour); memory of an evaluation
# make check-peers  FGSM and BIM against Foolbox's, example by example
# make matrix       every attack in every norm, with and without a limit, in every way of calling, on the three backends; make test
#                   runs a part of it
# make formulas     the smallest changes of 1,000 inputs of a linear model against the formula (two minutes; 200 in make test)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
# Each worker keeps to its half of the files, with their fixtures, until the other has nothing left.
PARALLEL := -n $(WORKERS) --dist worksteal
export TF_CPP_MIN_LOG_LEVEL ?= 2
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test lint types bench check-peers formulas matrix clean

# The small environment: what a user installs who wants a report.
$(VENV)/user: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[report]'
	touch $@

# The whole one: the other two backends and the tools. The CPU build of torch is pinned.
$(VENV)/developer: $(VENV)/user
	$(BIN)/python -m pip install --quiet --editable '.[dev,jax]' torch==2.13.0
	touch $@

demo: $(VENV)/user
	$(BIN)/advex demo

test: lint types $(VENV)/developer
	KERAS_BACKEND=tensorflow $(BIN)/python -m pytest tests $(PARALLEL)
	KERAS_BACKEND=jax $(BIN)/python -m pytest tests -m backends $(PARALLEL)
	KERAS_BACKEND=torch $(BIN)/python -m pytest tests -m backends $(PARALLEL)

lint: $(VENV)/developer
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/developer
	$(BIN)/mypy

bench: $(VENV)/user
	$(BIN)/python benchmarks/step_cost.py --with-peers
	$(BIN)/python benchmarks/leaving_rows.py
	$(BIN)/python benchmarks/peers.py autoattack
	$(BIN)/python benchmarks/autoattack.py --count 200
	$(BIN)/python benchmarks/evaluation.py --count 10000

check-peers: $(VENV)/user
	$(BIN)/python benchmarks/peers.py foolbox
	.venv-peers/foolbox/bin/python benchmarks/agreement.py

formulas: $(VENV)/developer
	ADVEX_CASES=1000 $(BIN)/python -m pytest tests/test_minimum.py -k formula $(PARALLEL)

matrix: $(VENV)/developer
	ADVEX_MATRIX=all KERAS_BACKEND=tensorflow $(BIN)/python -m pytest tests -k "matrix or defaults or contract" $(PARALLEL)
	ADVEX_MATRIX=all KERAS_BACKEND=torch $(BIN)/python -m pytest tests/test_matrix.py $(PARALLEL)
	ADVEX_MATRIX=all KERAS_BACKEND=jax $(BIN)/python -m pytest tests -m backends $(PARALLEL)

clean:
	rm -rf $(VENV) .venv-peers build dist *.egg-info
