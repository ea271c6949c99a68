PYTHON ?= python3

PIP := .venv/bin/python -m pip --disable-pip-version-check --quiet
UV  := uv==0.13.9

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint types bench lock clean

help: ## what there is to make
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 16

setup: .venv/installed ## .venv with everything in requirements.lock, and upright itself

# --only-binary: a build from source would fetch tools that the lock does not know.
# Two steps, each with a stamp that is written last: an interrupted one is done again from its
# beginning, and a change of pyproject.toml alone does not download anything.
.venv/locked: requirements.lock
	@$(PYTHON) -c '' 2>/dev/null || { echo "upright: no Python at '$(PYTHON)'; try make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "upright: needs Python 3.11 or newer, '$(PYTHON)' is $$($(PYTHON) -V); try make PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || \
		{ echo "upright: '$(PYTHON)' lacks the venv module; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	@echo "Installing into .venv (once, a few hundred MB)"
	@$(PYTHON) -m venv --clear .venv
	@$(PIP) install --require-hashes --only-binary :all: -r requirements.lock
	@touch $@

.venv/installed: .venv/locked pyproject.toml
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

demo: setup ## train 20 seeds of CartPole, watch the best, plot the curve
	@set -e; run=runs/demo-$$(date +%Y%m%d-%H%M%S); \
	.venv/bin/upright train CartPole-v1 --seeds 20 --out $$run; \
	.venv/bin/upright play $$run --gif $$run/videos/best.gif; \
	.venv/bin/upright plot $$run

test: lint types ## lint, types and tests: all that CI runs
	.venv/bin/python -m pytest -q

lint: setup ## ruff: rules and format
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .

types: setup ## pyright, strict on the package
	.venv/bin/pyright

bench: setup ## speed against Stable-Baselines3
	.venv/bin/python benchmarks/speed.py

# Pins that still fit are kept; delete requirements.lock first to have the newest of everything.
# "fewest": one version of each package on every Python, so that all of us run the same.
lock: ## requirements.lock anew from pyproject.toml
	@set -e; tmp=$$(mktemp -d); trap 'rm -rf "$$tmp"' EXIT; \
	$(PYTHON) -m venv $$tmp; \
	$$tmp/bin/python -m pip --disable-pip-version-check --quiet install $(UV); \
	$$tmp/bin/uv --no-config --quiet pip compile pyproject.toml --extra dev \
		--universal --python-version 3.11 --fork-strategy fewest --no-build \
		--generate-hashes --no-emit-index-url --no-header --no-annotate \
		--output-file requirements.lock

clean: ## remove all that was made, except for runs/
	rm -rf .venv benchmarks/.venvs build dist .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
