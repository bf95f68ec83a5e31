# `make help` lists what there is. Works with GNU make 3.81 and later, from any shell.

SHELL   := bash
PYTHON  ?= $(shell command -v python3.11 || command -v python3)
VENV    ?= .venv
BIN     := $(VENV)/bin
WORKERS ?= 2
PROFILE ?= smoke
GRID    ?=
PYTHONS ?= 3.11 3.12 3.13
TORCHES ?= 2.11 2.12 2.13
# the methods, without experiments and pages
QUICK   ?= $(addprefix tests/,uba/test_schedule.py uba/test_theory.py uba/test_trainers.py training \
           metalearning/test_metalearning_adaptation.py adcm/test_adcm_schedules.py adcm/test_adcm_segmentation.py \
           disf/test_selection.py meek/test_gap.py meek/test_law.py test_checks.py)
# one thread per process: the order of a sum is part of a result, and several processes share the cores
export OMP_NUM_THREADS ?= 1
export MKL_NUM_THREADS ?= 1

# pip would compile 24,000 modules, which takes half of its time; what is imported is compiled then, once
unexport PYTHONDONTWRITEBYTECODE

# stored outputs are of the numerics that the notebooks pin, whatever the caller's shell asks for
PINNED := env -u ATEN_CPU_CAPABILITY -u ONEDNN_MAX_CPU_ISA -u MKL_CBWR

# e.g. PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu" for torch's CPU build, a tenth of the default
# build's size on Linux
PIP_ARGS ?=
# the environment is made again when what decides it changes
STAMP := $(VENV)/.installed-$(shell cat requirements.lock pyproject.toml | cksum | cut -d ' ' -f 1)

.DEFAULT_GOAL := help
.PHONY: help setup reproduce test test-versions lint lab notebooks batch report site bench clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | awk -F '\t' '{printf "  make %-13s %s\n", $$1, $$2}'

setup: $(STAMP)  ## make the environment in .venv from requirements.lock (at once if it is there)

$(STAMP): requirements.lock pyproject.toml
	@[ -n "$(PYTHON)" ] || { echo "Python 3.11 or later is needed: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	    { echo "$$($(BIN)/python --version) is too old; remove $(VENV) and: make setup PYTHON=/path/to/python3.11" >&2; exit 1; }
	@# a venv starts with the pip that came with Python, which takes twice as long to read an index
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile 'pip>=26'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile $(PIP_ARGS) -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@rm -f $(VENV)/.installed-* && touch $@

reproduce:  ## set up, run every notebook at the smoke profile, and say whether it agrees with what is published
	@begin=$$(date +%s); $(MAKE) --no-print-directory setup || exit 1; ready=$$(date +%s); \
	$(BIN)/replicate batch --profile smoke --workers $(WORKERS); status=$$?; done=$$(date +%s); \
	echo "set-up: $$((ready - begin)) s; runs: $$((done - ready)) s. Executed notebooks and results: runs/"; \
	$(BIN)/replicate report || status=1; \
	exit $$status

test: setup lint  ## lint, all tests and doctests, and nbval: every stored output of every page is compared
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal
	@# even so, MKL computes differently on processors of another maker, and trained networks then end differently in digits
	@# that pages show: pages of another processor are shown again from their records
	$(PINNED) REPLICATION_RECORDS=$(CURDIR)/results REPLICATION_ANEW=1 $(BIN)/python -m pytest --nbval notebooks \
	    -n $(WORKERS) --dist loadfile --nbval-cell-timeout 1200 --timeout 1300
	$(PINNED) REPLICATION_RECORDS=$(CURDIR)/results $(BIN)/python -m pytest --nbval results -n $(WORKERS) --dist loadfile
	$(BIN)/replicate verify

test-versions:  ## quick tests on every Python and torch that can be had: PYTHONS="3.12 3.13" TORCHES="2.12" narrow it
	@failed=; for python in $(PYTHONS); do \
	    python$$python -c '' 2>/dev/null || { echo "== Python $$python: skipped, there is no python$$python here"; continue; }; \
	    for torch in $(TORCHES); do \
	        name="Python $$python, torch $$torch"; here=$$(mktemp -d); \
	        python$$python -m venv $$here && \
	        if ! $$here/bin/python -m pip install --quiet $(PIP_ARGS) --editable '.[dev]' "torch==$$torch.*"; then \
	            echo "== $$name: skipped, cannot be installed here (pip says why above)"; \
	        elif $$here/bin/python -m pytest -q -m 'not slow and not faults' $(QUICK); then echo "== $$name: passed"; \
	        else echo "== $$name: FAILED"; failed=yes; fi; \
	        rm -rf $$here; \
	    done; \
	done; [ -z "$$failed" ]

lint: setup  ## ruff, mypy --strict, and the rules of which room imports which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

lab: setup  ## open the notebooks in JupyterLab
	$(BIN)/jupyter lab --notebook-dir notebooks

notebooks: setup  ## execute every notebook at the smoke profile and replace pages, results and the README's findings
	$(BIN)/replicate batch --profile smoke --workers $(WORKERS) --publish

batch: setup  ## run many: GRID=grid.yaml, or PROFILE=standard for all notebooks of a profile; WORKERS=2
	$(BIN)/replicate batch $(if $(GRID),$(GRID),--profile $(PROFILE)) --workers $(WORKERS)

report: setup  ## one page about the newest batch: agreement with what is published first; HTML and Markdown
	$(BIN)/replicate report

site: setup  ## build the site into docs/_build/html (no notebook is executed)
	$(BIN)/sphinx-build -W --keep-going -q -b html -d docs/_build/doctrees docs docs/_build/html
	@echo "open docs/_build/html/index.html"

bench: setup  ## run every benchmark; each prints a ratio against a named peer
	@status=0; for file in benchmarks/*.py; do echo "== $$file"; $(BIN)/python $$file || status=1; done; exit $$status

clean:  ## remove caches and the built site; runs/, data/, results/ and .venv/ stay
	rm -rf docs/_build docs/notebooks docs/results docs/generated .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find replication tests benchmarks docs -type d -name __pycache__ -prune -exec rm -rf {} +
