# What a person types. The work is done by toolchain/ and by the memtotal command.

SHELL := /bin/bash
.DEFAULT_GOAL := help

BUDGET ?= 8h
STUDY ?= configs/versatilepb.toml

VENV := .venv
PYTEST := $(VENV)/bin/pytest
# A worker a core; a file's tests stay together.
SIDE_BY_SIDE := --numprocesses logical --dist loadfile
# The kernel's make, started further down, must not take this make's flags for its own.
ALONE := env -u MAKEFLAGS -u MFLAGS -u MAKELEVEL
PIP_COMPILE_OPTIONS := --quiet --extra dev --generate-hashes --allow-unsafe --strip-extras \
	--no-emit-index-url --no-emit-trusted-host --no-emit-find-links --no-emit-options

.PHONY: help setup run test check reference found findings picture lock
.PHONY: bench-build bench-slots soak bench-search landscape audit-reference audit-init

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: ## install the toolchain, the kernel source, the initramfs and .venv; does only what is missing
	@toolchain/setup.sh

run: setup ## search: make run [BUDGET=8h] [STUDY=configs/versatilepb.toml]
	$(ALONE) $(VENV)/bin/memtotal run $(STUDY) --budget $(BUDGET)

test: ## every test, the ones that build and boot kernels included
	@toolchain/setup.sh test
	$(ALONE) $(PYTEST) $(SIDE_BY_SIDE) -m "not kernels" tests
	$(ALONE) $(PYTEST) -m kernels tests

check: setup ## format, lint, types and the unit tests: a minute or two
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy --strict optimizer
	$(ALONE) $(PYTEST) $(SIDE_BY_SIDE) tests/unit

VARIANTS ?= 0

WAYS ?= clean kbuild ccache memtotal

bench-build: ## seconds a variant, four ways; hours, goes on where it ended: [VARIANTS=6 WAYS="clean memtotal"]
	@toolchain/setup.sh bench
	PYTHONPATH=tests $(ALONE) $(VENV)/bin/python -m benchmarks.build --variants $(VARIANTS) --ways $(WAYS)

bench-slots: setup ## trials an hour with one slot and with two: [VARIANTS=16]
	PYTHONPATH=tests $(ALONE) $(VENV)/bin/python -m benchmarks.slots \
		$(if $(filter-out 0,$(VARIANTS)),--variants $(VARIANTS))

SOAK ?= 200

soak: setup ## random variants with reuse, every tenth against a clean build; hours, goes on: [SOAK=200]
	PYTHONPATH=tests $(ALONE) $(VENV)/bin/python -m benchmarks.soak --variants $(SOAK)

SEEDS ?= 20
LANDSCAPES ?= all
SAMPLERS ?= all
JOBS ?= 2

bench-search: setup ## samplers side by side: [SEEDS=20 LANDSCAPES=all SAMPLERS=all JOBS=2]
	PYTHONPATH=tests $(ALONE) $(VENV)/bin/python -m benchmarks.search --seeds $(SEEDS) \
		--landscapes "$(LANDSCAPES)" --samplers "$(SAMPLERS)" --jobs $(JOBS)

REFERENCE ?= results/reference/versatilepb-6.1
MEMTOTAL := $(ALONE) $(VENV)/bin/memtotal

MEASURE ?= 1h

# The steps are built, and the savings of single options measured for MEASURE: that adds trials.
reference: setup ## measure [MEASURE=1h] what a finished run found, then `make found`
	$(MEMTOTAL) steps $(STUDY)
	$(MEMTOTAL) attribute $(STUDY) --budget $(MEASURE)
	$(MAKE) --no-print-directory found STUDY=$(STUDY) REFERENCE=$(REFERENCE)

# As the run left it; verify comes last and fails if it does not repeat.
found: setup ## copy a study's result to results/reference, verify it [STUDY=... REFERENCE=...]
	mkdir -p $(REFERENCE)
	for one in baseline winner; do \
		$(MEMTOTAL) explain $(STUDY) $$one >$(REFERENCE)/ledger-$$one.txt && \
		$(MEMTOTAL) explain $(STUDY) $$one --json >$(REFERENCE)/ledger-$$one.json || exit; \
	done
	$(MEMTOTAL) explain $(STUDY) --diff baseline winner >$(REFERENCE)/ledger-diff.txt
	$(MEMTOTAL) explain $(STUDY) --diff baseline winner --json >$(REFERENCE)/ledger-diff.json
	$(MEMTOTAL) init-audit $(STUDY) >$(REFERENCE)/init-audit.txt
	$(MEMTOTAL) certificate $(STUDY) --format markdown -o $(REFERENCE)/certificate.md
	rm -f $(REFERENCE)/trials.db
	$(VENV)/bin/python -c 'import sqlite3, sys; sqlite3.connect(sys.argv[1]).execute("VACUUM INTO ?", sys.argv[2:])' \
		results/$(basename $(notdir $(STUDY)))/trials.db $(REFERENCE)/trials.db
	$(MAKE) --no-print-directory findings REFERENCE=$(REFERENCE)
	$(MEMTOTAL) verify $(STUDY) >$(REFERENCE)/verify.txt

# From the folder's trials.db alone: no kernel is built and no kernel tree is read.
findings: setup ## write anew what results/reference has from its trials.db: report, savings, exports
	$(MEMTOTAL) export $(REFERENCE) --format defconfig -o $(REFERENCE)/winner_defconfig
	$(MEMTOTAL) export $(REFERENCE) --format fragment -o $(REFERENCE)/winner.fragment
	$(MEMTOTAL) export $(REFERENCE) --format annotated -o $(REFERENCE)/winner_annotated
	$(MEMTOTAL) status $(REFERENCE) --json >$(REFERENCE)/summary.json
	$(MEMTOTAL) review $(REFERENCE) >$(REFERENCE)/review.txt
	$(MEMTOTAL) review $(REFERENCE) --format csv -o $(REFERENCE)/savings.csv
	$(MEMTOTAL) certificate $(REFERENCE) --format markdown -o $(REFERENCE)/certificate.md
	$(MEMTOTAL) report $(REFERENCE) -o $(REFERENCE)/report.html
	$(MEMTOTAL) dashboard $(REFERENCE) --metadata-only
	rm -rf $(REFERENCE)/steps
	-$(MEMTOTAL) export $(REFERENCE) --format steps --patches -o $(REFERENCE)/steps

STUDY_FOLDER ?= $(REFERENCE)
OPTIONS ?= 15
TRIALS ?= 20

audit-reference: setup ## exports and savings against plain make and QEMU: [STUDY_FOLDER=... OPTIONS=15 TRIALS=20]
	PYTHONPATH=tests $(ALONE) $(VENV)/bin/python -m benchmarks.audit $(STUDY_FOLDER) --study $(STUDY) \
		--options $(OPTIONS) --trials $(TRIALS)

TRIAL ?= winner
MARKS ?= 0

audit-init: setup ## what init-audit finds, marked, built, booted: [STUDY_FOLDER=... STUDY=... TRIAL=winner MARKS=0]
	PYTHONPATH=tests $(ALONE) $(VENV)/bin/python -m benchmarks.init_marks $(STUDY_FOLDER) --study $(STUDY) \
		--trial $(TRIAL) --marks $(MARKS)

picture: ## the README's picture of the report, by chromium (make test installs it)
	chromium --headless --no-sandbox --hide-scrollbars --window-size=900,1180 \
		--screenshot=$(REFERENCE)/report.png file://$(abspath $(REFERENCE))/report.html 2>/dev/null

# Extra indexes and wheels at hand are one machine's: none of them may reach the lock.
lock: export PIP_CONFIG_FILE := /dev/null
lock: export CUSTOM_COMPILE_COMMAND := make lock
lock: ## write requirements.lock anew from pyproject.toml
	python3 -m venv build/lock
	build/lock/bin/pip install --quiet pip-tools
	env -u PIP_FIND_LINKS -u PIP_EXTRA_INDEX_URL build/lock/bin/pip-compile $(PIP_COMPILE_OPTIONS) \
		--output-file requirements.lock pyproject.toml

# From a traced boot of the default study's baseline, built if it is not, its trials, and those of
# the other references.
landscape: setup ## measure anew what bench-search's landscapes are made of
	PYTHONPATH=tests $(ALONE) $(VENV)/bin/python -m benchmarks.record_landscape configs/versatilepb.toml \
		--trials results/reference/versatilepb-6.1/trials.db \
		--output tests/benchmarks/data/versatilepb-6.1.json.gz
	PYTHONPATH=tests $(VENV)/bin/python -m benchmarks.alternatives results/reference/*/trials.db \
		--output tests/benchmarks/data/alternatives.json
