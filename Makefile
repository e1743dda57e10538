# The two commands of the README, and what they call. Everything is installed into .venv.
PYTHON ?= python3
BIN := .venv/bin
# Unit tests write to memory, where there is room for it: they wait for a disk half of the time otherwise.
MEMORY := $(shell [ "$$(df -k --output=avail /dev/shm 2>/dev/null | tail -1)" -gt 2000000 ] 2>/dev/null && echo /dev/shm)
# The pure folders: every branch, by their own tests.
WHOLE := --cov-branch --cov-report=term:skip-covered --cov-fail-under=100

# The unit tests of all other folders.
REST := -m "not story and not long" --ignore=tests/consensus --ignore=tests/city

.PHONY: devnet test lint types unit coverage stories crashes kills lies perturbations jepsen attack mutants mutation fuzz drill clean

devnet: .venv/installed
	$(BIN)/allting devnet up

test: lint types unit stories

lint: .venv/installed-work
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports

types: .venv/installed-work
	$(BIN)/mypy

unit coverage: export TMPDIR := $(or $(MEMORY),$(TMPDIR),/tmp)
unit: .venv/installed-work
	$(BIN)/pytest -q -n 2 tests/consensus --cov=consensus $(WHOLE)
	$(BIN)/pytest -q -n 2 tests/city --cov=city $(WHOLE)
	$(BIN)/pytest -q -n 2 $(REST)

# Of the folders that act, nine branches in ten: the same tests, at twice the time.
coverage: .venv/installed-work
	$(BIN)/pytest -q -n 2 $(REST) --cov=node --cov=p2p --cov-branch --cov-report=json:.coverage.json
	$(BIN)/python -m tests.branch_coverage .coverage.json 90

# Three at a time on two cores: they mostly wait, for blocks and ballots.
stories: .venv/installed-work
	$(BIN)/pytest -q -m "story and not long" -n 3 --dist loadfile --no-loadscope-reorder

# The power goes at every step on the disk that a run of the code lists: in simulation, then with SIGKILL (README).
crashes: .venv/installed-work
	$(BIN)/pytest -q -m long tests/worlds/test_power_cuts.py tests/node/test_disk_faults.py tests/stories/test_sigkill_at_each_step.py

# SIGKILL at random moments under load, on real nodes.
KILLS ?= 1000
kills: .venv/installed
	$(BIN)/python -m devnet.kills --kills $(KILLS)

lies: .venv/installed-work
	ALLTING_LIES=900 $(BIN)/pytest -q tests/node/test_light_proxy.py -k random_changes

perturbations: .venv/installed-work
	$(BIN)/pytest -q -s -m long tests/perturbations tests/stories/test_newcomer_by_snapshot.py

jepsen: .venv/installed-work
	$(BIN)/pytest -q -s -m long tests/jepsen

attack: .venv/installed-work
	ATTACK_S=60 $(BIN)/pytest -q -s -m story tests/stories/test_under_attack.py

mutants: .venv/installed-work
	$(BIN)/python -m tests.mutants

# Each small change that a tool can make to consensus/; goes on where it was broken off.
mutation: .venv/installed-work
	$(BIN)/pip install --quiet --editable ".[mutation]"
	$(BIN)/python -m tests.mutants.generated

fuzz: .venv/installed-work
	$(BIN)/pip install --quiet --editable ".[fuzz]"
	$(BIN)/python -m tests.fuzz

# Two of four machines are gone for good, and an open ballot closes on the new chain (a busy machine needs more time).
DRILL_BALLOT_S ?= 120
drill: .venv/installed-work
	DRILL_BALLOT_S=$(DRILL_BALLOT_S) $(BIN)/pytest -q tests/stories/test_quorum_lost.py

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable .
	touch $@

.venv/installed-work: .venv/installed pyproject.toml
	$(BIN)/pip install --quiet --editable ".[work]"
	touch $@

clean:
	rm -rf .venv .devnet .mutation
