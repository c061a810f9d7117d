# Each target works on its own, on a machine that has Python 3.10 or newer, git and make.
#
# Environment: PYTHON (by default the active environment's python3) if it has all that the target needs, otherwise .venv, which is
# made when missing and brought up to date when pyproject.toml or constraints.txt ask for other packages.

.DEFAULT_GOAL := help
VENV := .venv
JOBS ?= 2
GRID ?= digits
STUDENT ?= artifacts/student
RECENT := import sys; sys.exit(sys.version_info < (3, 10))

ifndef PYTHON
PYTHON := $(shell for python in $(if $(VIRTUAL_ENV),"$(VIRTUAL_ENV)/bin/python") python3 python3.14 python3.13 python3.12 python3.11 python3.10; do \
	"$$python" -c '$(RECENT)' 2>/dev/null && echo "$$python" && break; done)
endif

EXTRAS := pipeline $(if $(filter test compatibility deployment,$(MAKECMDGOALS)),test) $(if $(filter check,$(MAKECMDGOALS)),test dev)
OWN := $(CURDIR)/$(VENV)/bin
BIN := $(shell "$(PYTHON)" .ci/requirements.py $(EXTRAS) 2>/dev/null)
STAMP := $(if $(filter-out $(OWN),$(BIN)),,$(VENV)/requirements-met)
BIN := $(if $(STAMP),$(OWN),$(BIN))
export PATH := $(BIN):$(PATH)

.PHONY: help repro grid speed compatibility deployment curves test check clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1	\2/p' Makefile

repro: $(STAMP) ## the environment and the whole experiment of params.yaml; the report is reports/index.html
	@git ls-files --error-unmatch Makefile >/dev/null 2>&1 || test -e .dvc/config.local || { \
		echo "Not a git checkout: the pipeline runs, experiments and comparisons (dvc exp, dvc metrics diff) do not."; \
		printf '[core]\n    no_scm = true\n    autostage = false\n' > .dvc/config.local; }
	@started=$$(mktemp); trap "rm -f $$started" EXIT; dvc repro && \
		{ test reports/metrics.json -nt $$started || python -m dynadfq.report.summary; }

grid: $(STAMP) ## the environment and a benchmark grid (GRID=digits, minutes; JOBS=2 cells at a time); see docs/benchmarks.md
	python -m benchmarks.grid write $(GRID) $(foreach override,$(SET),-S $(override))
	python -m benchmarks.grid estimate
	python -m benchmarks.run --jobs $(JOBS)

speed: $(STAMP) ## ratios of speed and memory with their aims, and what each change brought; benchmarks/reports/speed
	OMP_NUM_THREADS=1 python -m benchmarks.speed
	OMP_NUM_THREADS=1 python -m benchmarks.speed.changes

compatibility: $(STAMP) ## which architectures of the zoos work: docs/compatibility.md, an hour (JOBS=2 at a time)
	python -m benchmarks.compatibility --jobs $(JOBS)

deployment: $(STAMP) ## accuracy, size and time of quantized files: NETWORK=efficientnet-lite0 DATA=folder ARGS="…"
	OMP_NUM_THREADS=1 python -m benchmarks.deployment $(NETWORK) --data $(DATA) $(ARGS)

curves: $(STAMP) ## accuracy against the CPU time of images and student, hours: DATA=folder ARGS="…"; docs/benchmarks.md
	OMP_NUM_THREADS=1 python -m benchmarks.time_to_accuracy --data $(DATA) $(ARGS)
	python -m benchmarks.time_to_accuracy --data $(DATA) $(ARGS) --page

test: $(STAMP) ## the environment and the test suite (JOBS=2 processes)
	OMP_NUM_THREADS=1 python -m pytest -q -n $(JOBS) --dist loadfile --no-loadscope-reorder

check: $(STAMP) ## linter, formatting, types
	python -m ruff check .
	python -m ruff format --check .
	python -m mypy

clean: ## remove outputs, interrupted work and caches; `dvc checkout` brings the outputs back from DVC's cache
	rm -rf artifacts benchmarks/artifacts .scratch dvc_plots build dist dynadfq.egg-info .pytest_cache .mypy_cache .ruff_cache
	find benchmarks dynadfq stages tests -name __pycache__ -prune -exec rm -rf {} +

# A .venv that already has every pinned version is taken as it is.
$(VENV)/requirements-met: pyproject.toml constraints.txt
	@"$(OWN)/python" -c '$(RECENT)' 2>/dev/null || "$(PYTHON)" -c '$(RECENT)' 2>/dev/null || { \
		echo "Python 3.10 or newer is needed$(if $(PYTHON),: $(PYTHON) is not); name one with make PYTHON=…"; exit 1; }
	@"$(OWN)/python" -c '$(RECENT)' 2>/dev/null || "$(PYTHON)" -m venv --clear $(VENV) || { \
		echo "$(PYTHON) cannot make a virtual environment (on Debian: apt-get install python3-venv)."; exit 1; }
	@"$(OWN)/python" .ci/requirements.py --pinned pipeline test dev >/dev/null 2>&1 || { \
		echo "Installing into $(VENV): some minutes and about 5 GB, most of it torch."; \
		"$(OWN)/python" -m pip install -c constraints.txt -e '.[pipeline,test,dev]'; }
	@touch $@
