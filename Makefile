# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON  ?= python3
PROFILE ?= demo
PORT    ?= 8900
LEM     := .venv/bin/lem
STUDIES := $(patsubst lem_pipeline/profiles/%.toml,%,$(wildcard lem_pipeline/profiles/archive-*.toml))

.DEFAULT_GOAL := help
.PHONY: help demo archive report $(STUDIES) live replay ui mlflow test scale bare lint audit bench optimum docs pictures clean

help: ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 16

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --editable '.[dev]'
	@touch $@

.venv/lake/installed: .venv/installed # the newest DuckDB that DuckLake has wheels for, beside the one of the pipeline
	.venv/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["lake"], sep="\n")' > .venv/lake.txt
	.venv/bin/python -m pip install --quiet --no-deps --upgrade --target .venv/lake --requirement .venv/lake.txt
	@touch $@

demo: .venv/installed ## the main job on the embedded simulated market: bars, features, models, report
	$(LEM) run --profile demo

ifdef ARCHIVE
archive $(STUDIES) report replay: export LEM_ARCHIVE ?= $(ARCHIVE)
replay: PROFILE = archive
endif

archive: .venv/installed ## the main job on your own bars: make archive ARCHIVE=folder
	$(LEM) run --profile archive

$(STUDIES): .venv/installed
	$(LEM) run --profile $@

report: $(STUDIES) ## every study, then the archive, whose report shows them all: make report ARCHIVE=folder
	$(LEM) run --profile archive

live: .venv/installed ## the main job on Binance and Yahoo Finance
	$(LEM) run --profile live

replay: .venv/installed ## Binance and Yahoo on this computer, simulated or from ARCHIVE=folder; FAULTS="slow-drip"
	@$(LEM) replay --profile $(PROFILE) --port $(PORT) --faults '$(FAULTS)'

ui: .venv/installed ## the Dagster UI on http://127.0.0.1:3000 (PROFILE=demo, archive or live)
	$(LEM) ui --profile $(PROFILE)

mlflow: .venv/installed ## the MLflow UI on http://127.0.0.1:5000 (PROFILE=demo, archive or live)
	$(LEM) mlflow --profile $(PROFILE)

# One worker more than there are cores: some test always waits for a server or a browser.
WORKERS ?= $(shell $(PYTHON) -c 'import os; print(os.cpu_count() + 1)')

test: .venv/installed .venv/lake/installed ## all tests but those of make scale
	.venv/bin/python -m pytest -m "not scale" --numprocesses=$(WORKERS) --dist=loadfile --no-loadscope-reorder

scale: .venv/installed .venv/lake/installed ## a Ray cluster that loses a node, the main job on a team's servers, a toy growth
	.venv/bin/python -m pytest -m scale --durations=10

bare: .venv/installed ## a registered model in an environment of its recorded requirements alone, which takes minutes to install
	LEM_BARE_ENVIRONMENT=1 .venv/bin/python -m pytest --durations=3 tests/lem_pipeline/test_bare_environment.py

lint: .venv/installed ## style, types and the import contracts
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	.venv/bin/dagster definitions validate -w workspace.yaml

# An advisory that does not concern this project: --ignore-vuln ID, with the reason in a comment here.
audit: .venv/installed ## known vulnerabilities of what is installed, as far as the package index tells
	@.venv/bin/pip-audit --skip-editable --format json --progress-spinner off --timeout 10 2>/dev/null \
		| .venv/bin/python .ci/audit.py

bench: .venv/installed ## one benchmark: make bench NAME=growth, serve, lockstep or another of benchmarks/
	@.venv/bin/python -m benchmarks.$(NAME)

optimum: .venv/installed ## the model against the known optimum on simulated walks, JSON lines
	@.venv/bin/python -m benchmarks.optimum

docs: .venv/installed ## the generated parts of the documentation: settings, asset graph
	.venv/bin/python -m lem_pipeline.reference.pages .

pictures: .venv/installed ## the pictures of the documentation, from a finished make demo
	LEM_PROFILE=$(PROFILE) .venv/bin/python -m lem_pipeline.reference.pictures docs/pictures

clean: ## remove the environment and everything the pipeline wrote
	rm -rf .venv var
