# make demo         sets up .venv, attacks the 32 images that ship with advex and writes a report
# make quick        lint, types and the quick tests on one backend: a minute and a half, between two edits
# make test         sets up .venv and runs every check: all tests on TensorFlow (of long ones some cases), those about backends on
#                   torch, the quick ones of these on JAX
# make everything   what that leaves out: every case on TensorFlow, and the long tests on JAX (an hour)
# make docs         shows the pages of docs/ and the API reference as a site, at http://127.0.0.1:8000, and follows every edit
# make site         builds that site into site/; tests/test_site.py does so too, and looks at every page and link
# make coverage     the tests of TensorFlow once more, with the share of lines and branches that they run
# make backends     all tests on JAX and torch (half an hour)
# make reference    verdicts and diagnoses of the networks in ../shared beside those of the reference implementation;
#                   make test has them where ../shared is there
# make durations    measures all tests of one backend (half an hour), and so which of them are quick
# make notebooks    executes the notebooks of docs/notebooks and writes them back with their outputs
# make release-check   builds sdist and wheel, tries them on every Python that is found, compares the tag with the version; in make test
# make bench        what a step costs beside the bare gradient, and beside other libraries where they can be installed;
#                   AutoAttack and Verdict beside the reference implementation (half an hour); memory of an evaluation;
#                   steps of adversarial training beside bare ones and beside ART
# make check-peers  FGSM and BIM against Foolbox's, example by example
# make matrix       every test with every case on the three backends: every attack in every norm and way of calling; make test
#                   runs a part of it
# make formulas     the smallest changes of 1,000 inputs of a linear model against the formula (two minutes; of six attacks 200 in make test)
# make queries      1,000 runs of attacks without gradients: every query counted, none beyond the limit (12 of them in make test)
# make domains      10,000 rows on random domains: every result legal, inside its budget and what it says (ten minutes; of all kinds
#                   400 rows in make test)

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
# Each worker keeps to its half of the files, with their fixtures, until the other has nothing left.
PARALLEL := -n $(WORKERS) --dist worksteal
COVERAGE ?= 80
export TF_CPP_MIN_LOG_LEVEL ?= 2
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo docs site quick test everything coverage reference durations lint types bench check-peers formulas domains queries matrix notebooks backends release-check clean

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

docs: $(VENV)/developer
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs serve --no-strict

site: $(VENV)/developer
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

test: $(VENV)/developer
	$(MAKE) -j 3 lint types release-check
	KERAS_BACKEND=tensorflow $(BIN)/python -m pytest tests --covering $(PARALLEL)
	KERAS_BACKEND=jax $(BIN)/python -m pytest tests -m "backends and not slow" $(PARALLEL)
	KERAS_BACKEND=torch $(BIN)/python -m pytest tests -m backends $(PARALLEL)

# What make test leaves out on TensorFlow and JAX. Cases that this leaves out, too: make matrix.
everything: $(VENV)/developer
	KERAS_BACKEND=tensorflow $(BIN)/python -m pytest tests $(PARALLEL)
	KERAS_BACKEND=jax $(BIN)/python -m pytest tests -m backends $(PARALLEL)

backends: $(VENV)/developer
	KERAS_BACKEND=jax $(BIN)/python -m pytest tests -m backends $(PARALLEL)
	KERAS_BACKEND=torch $(BIN)/python -m pytest tests -m backends $(PARALLEL)

quick: lint types $(VENV)/developer
	KERAS_BACKEND=tensorflow $(BIN)/python -m pytest tests -m "not slow" $(PARALLEL)

# The floor is a little below what was measured: raise it when it grows.
coverage: $(VENV)/developer
	KERAS_BACKEND=tensorflow $(BIN)/python -m pytest tests $(PARALLEL) --cov --cov-report=term:skip-covered \
	  --cov-fail-under=$(COVERAGE)

reference: $(VENV)/developer
	test -d ../shared/models
	KERAS_BACKEND=tensorflow $(BIN)/python -m pytest tests -m reference $(PARALLEL)

durations: $(VENV)/developer
	KERAS_BACKEND=tensorflow $(BIN)/python -m pytest tests $(PARALLEL) --durations-to tests/durations.json

release-check: $(VENV)/developer
	$(BIN)/python tests/release_check.py

lint: $(VENV)/developer
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/developer
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python

bench: $(VENV)/user
	$(BIN)/python benchmarks/step_cost.py --with-peers
	$(BIN)/python benchmarks/leaving_rows.py
	$(BIN)/python benchmarks/peers.py autoattack
	$(BIN)/python benchmarks/autoattack.py --count 200
	$(BIN)/python benchmarks/evaluation.py --count 10000
	$(BIN)/python benchmarks/training.py --with-art

check-peers: $(VENV)/user
	$(BIN)/python benchmarks/peers.py foolbox
	.venv-peers/foolbox/bin/python benchmarks/agreement.py

formulas: $(VENV)/developer
	ADVEX_CASES=1000 $(BIN)/python -m pytest tests/attacks/test_minimum.py -k formula $(PARALLEL)

domains: $(VENV)/developer
	ADVEX_DOMAIN_CASES=250 $(BIN)/python -m pytest tests/domain/test_domain_properties.py -k ten_thousand -s

queries: $(VENV)/developer
	ADVEX_QUERY_RUNS=1000 KERAS_BACKEND=torch $(BIN)/python -m pytest tests/driver/test_queries.py -k counted -s

matrix: $(VENV)/developer
	ADVEX_MATRIX=all KERAS_BACKEND=tensorflow $(BIN)/python -m pytest tests $(PARALLEL)
	ADVEX_MATRIX=all KERAS_BACKEND=torch $(BIN)/python -m pytest tests -m backends $(PARALLEL)
	ADVEX_MATRIX=all KERAS_BACKEND=jax $(BIN)/python -m pytest tests -m backends $(PARALLEL)

notebooks: $(VENV)/developer
	$(BIN)/python examples/make_notebooks.py

clean:
	rm -rf $(VENV) .venv-peers build dist site *.egg-info
