# quell: everything a developer runs. Needs Python 3.11, pip, git and make.
#
#   make setup      once: .venv with the pinned packages and quell itself, editable
#   make demo       denoise the scan that comes with quell and write its report
#   make test       the fast tests, in a few minutes
#   make test-slow  the long ones
#   make lint       ruff and mypy
#   make docs       the documentation, into build/docs/index.html
#   make build      the wheel, into dist/
#   make release    wheel and source archive, the wheel tried in an environment of its own
#   make clean      remove what the others left, .venv apart

PYTHON ?= $(shell for p in python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
STAMP := .venv/.complete

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow lint docs build release clean

help:
	@sed -n 's/^#   //p' Makefile

setup: $(STAMP)

# torch comes first and alone, so that nothing else can bring in a second one. hatchling comes before
# quell, so that building quell needs no environment of its own and fetches nothing past the constraints.
$(STAMP): pyproject.toml constraints.txt
	@python='$(PYTHON)'; test -n "$$python" || { \
		echo 'Python 3.11 was not found: install it, or name it with make setup PYTHON=/its/path.' >&2; exit 1; }; \
	echo "Making .venv with $$python ..."; "$$python" -m venv .venv
	@echo 'Installing torch, the largest part; this takes a minute or two ...'
	@$(PIP) torch==$(TORCH)
	@echo 'Installing the other packages and quell ...'
	@$(PIP) hatchling
	@$(PIP) --no-build-isolation --editable '.[dev]'
	@touch $@
	@echo 'Ready: $(BIN)/quell --help'

TORCH = $(shell sed -n 's/^torch==//p' constraints.txt)

demo: setup
	$(BIN)/quell demo

test: setup
	$(BIN)/python -m pytest -q -m 'not slow' -n 2 --dist loadscope

test-slow: setup
	$(BIN)/python -m pytest -q -m slow

lint: setup
	$(BIN)/python -m ruff check .
	$(BIN)/python -m ruff format --check .
	$(BIN)/python -m mypy

docs: setup .venv/.docs
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet --fresh-env --write-all -b html docs build/docs
	@echo 'Ready: build/docs/index.html'

.venv/.docs: pyproject.toml constraints.txt | $(STAMP)
	@$(PIP) --no-build-isolation --editable '.[docs]'
	@touch $@

build: setup
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist .
	@ls dist/*.whl

# The wheel is made from the source archive, so that whoever has only that can build it, too.
release: setup
	rm -rf dist
	$(BIN)/python -m hatchling build -t sdist
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps --no-build-isolation --wheel-dir dist dist/*.tar.gz
	$(BIN)/python -m venv dist/trial
	dist/trial/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch==$(TORCH)
	dist/trial/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt dist/*.whl
	cd dist && trial/bin/quell demo && trial/bin/quell --version
	rm -rf dist/trial dist/quell-demo
	@ls dist

clean:
	rm -rf dist build .pytest_cache .mypy_cache .ruff_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
