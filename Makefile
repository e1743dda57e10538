# The two commands of the README, and what they call. Everything is installed into .venv.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: devnet test lint types unit stories clean

devnet: .venv/installed
	$(BIN)/allting devnet up

test: lint types unit stories

lint: .venv/installed-work
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: .venv/installed-work
	$(BIN)/mypy

unit: .venv/installed-work
	$(BIN)/pytest -q -m "not story"

stories: .venv/installed-work
	$(BIN)/pytest -q -m story

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable .
	touch $@

.venv/installed-work: .venv/installed pyproject.toml
	$(BIN)/pip install --quiet --editable ".[work]"
	touch $@

clean:
	rm -rf .venv .devnet
