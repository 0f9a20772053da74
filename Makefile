# b2inst: `make` alone lists the targets. Variables can be given on any of them:
#   PROFILE  tiny (default) | nuclei | smoke | small | coco-1x | coco-3x: data, model size, schedule
#   SEEDS    comma-separated list, e.g. SEEDS=0,1,2
#   DATA     a COCO-format folder, for the profiles that read one
#   BATCH    images an iteration, where the profile's are too many: rate and length follow
#   DEVICES  GPUs of a run
#   START    weights that every run begins with, for PROFILE=finetune
#   LAUNCHER local (default) | slurm: each missing run of a table is a job of an array
#   SLURM    options of sbatch, such as SLURM=partition=gpu,time=24:00:00

PROFILE ?= tiny
SEEDS ?= 0
DATA ?=
BATCH ?=
DEVICES ?=
START ?=
LAUNCHER ?= local
SLURM ?=

PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.setup-done
# The user's own uv where it works, else one that setup puts into .venv.
UV := $(shell uv --version >/dev/null 2>&1 && echo uv || echo $(BIN)/uv)

.DEFAULT_GOAL := help
.PHONY: help setup table1 table2 table3 table4 beyond beyond-schedule beyond-steps figures report publish bench gpu lab explorer check test test-browser verify docs lint format lock clean

help: ## this list
	@echo "usage: make TARGET [PROFILE=$(PROFILE)] [SEEDS=$(SEEDS)] [DATA=folder]"; echo
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'

setup: $(STAMP) ## make .venv with the locked dependencies (done by the other targets as needed)

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; name one with: make setup PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(UV) --version >/dev/null 2>&1 || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(UV) pip sync --python $(BIN)/python --require-hashes requirements.lock
	$(UV) pip install --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

TABLE = $(BIN)/b2inst table $@ --profile $(PROFILE) --seeds $(SEEDS) --launcher $(LAUNCHER) \
	$(if $(DATA),--data $(abspath $(DATA))) $(if $(BATCH),--batch-size $(BATCH)) \
	$(if $(DEVICES),--devices $(DEVICES)) $(if $(START),--start $(START)) $(if $(SLURM),--slurm $(SLURM))

table1: setup ## regenerate the paper's Table 1 (trains and evaluates what is missing)
	$(TABLE)

table2: setup ## regenerate Table 2, five designs of the basis head; shares two rows with Table 1
	$(TABLE)

table3: setup ## regenerate Table 3: YOLACT, BlendMask and CondInst, each beside its B2Inst
	$(TABLE)

table4: setup ## regenerate Table 4: among two-stage and single-stage methods; shares rows with Table 3
	$(TABLE)

# Ours, on more test images unless another PROFILE is asked for.
beyond beyond-schedule beyond-steps: PROFILE = beyond

beyond: setup ## what the paper has not: masks that a boundary bounds, with all controls (docs/beyond.md)
	$(TABLE)

beyond-schedule: setup ## the same with three times the training
	$(TABLE)

beyond-steps: setup ## the same with fewer and more steps of diffusion, in coarser and finer RoIs
	$(TABLE)

figures: setup ## draw the paper's figures from the models that are trained: results/local/PROFILE/figures/
	$(BIN)/b2inst figures --profile $(PROFILE) --seeds $(SEEDS) $(if $(DATA),--data $(abspath $(DATA)))

report: setup ## all results of PROFILE on one page, each number with its origin: results/local/PROFILE/index.html
	$(BIN)/b2inst report --profile $(PROFILE)

publish: setup ## for maintainers: move results/local/PROFILE to results/PROFILE, and make its page anew
	$(BIN)/b2inst publish --profile $(PROFILE)
	$(BIN)/b2inst report --profile $(PROFILE) --published

bench: setup ## time the R-50 models by stage, each B2Inst beside its baseline: results/local/bench-*.json
	$(BIN)/b2inst bench blendmask-r50 b2inst-blendmask-r50 condinst-r50 b2inst-condinst-r50 \
		--size 800x1333 $(if $(DATA),--data $(abspath $(DATA))) --json results/local/bench-800x1333.json --overwrite
	$(BIN)/b2inst bench yolact-r50 b2inst-yolact-r50 blendmask-550-r50 b2inst-blendmask-550-r50 \
		--size 550x550 $(if $(DATA),--data $(abspath $(DATA))) --json results/local/bench-550x550.json --overwrite
	$(BIN)/b2inst bench blendmask-r50 b2inst-blendmask-r50 gated-blendmask-r50 \
		--size 800x1333 $(if $(DATA),--data $(abspath $(DATA))) --json results/local/bench-gate-800x1333.json --overwrite

gpu: setup ## on a GPU, 12 minutes: tests, speed, memory, a seed of Table 1: results/gpu/
	$(BIN)/python experiments/gpu.py $(if $(DATA),--profile nuclei --data $(abspath $(DATA)))

lab: setup ## open the explorer in JupyterLab, the other notebooks beside it
	B2INST_PROFILE=$(PROFILE) B2INST_SEEDS=$(SEEDS) B2INST_DATA=$(abspath $(DATA)) $(BIN)/jupyter lab notebooks/explore_bases.ipynb

explorer: setup ## the explorer as a page of its own, served by voila
	B2INST_PROFILE=$(PROFILE) B2INST_SEEDS=$(SEEDS) B2INST_DATA=$(abspath $(DATA)) $(BIN)/voila notebooks/explore_bases.ipynb

# Folders of tests that take no training and no whole models, for every commit.
FAST = tests/ops tests/modules tests/losses tests/test_repository.py

check: export OMP_NUM_THREADS = 1
check: lint ## lint and the fast tests, for every commit: about a minute
	$(BIN)/pytest -q -n 2 $(FAST)

# Two worker processes of one thread each: more threads only get in each other's way. Notebooks one
# after the other: their tables share runs, which are one process's at a time.
test: export OMP_NUM_THREADS = 1
test: lint ## lint, types, layers, unit tests, and every notebook in the smoke profile
	$(BIN)/pytest -n 2
	B2INST_PROFILE=smoke $(BIN)/pytest --nbval-lax --nbval-current-env --nbval-cell-timeout 7200 notebooks

test-browser: export OMP_NUM_THREADS = 1
test-browser: setup ## the explorer and the report in Chromium, which has to be installed
	$(BIN)/pytest -m browser tests/browser

verify: setup ## our models against published numbers: make verify REFERENCE=folder CASE=name
	PYTHONPATH=tests $(BIN)/python -m reference $(REFERENCE) $(CASE)

docs: .venv-docs/.setup-done ## build the documentation site: build/site/index.html
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet

# An environment of its own: the API pages are read from the sources, without PyTorch.
.venv-docs/.setup-done: pyproject.toml
	@test -x .venv-docs/bin/python || $(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -m pip install --quiet --disable-pip-version-check --upgrade "pip>=25.1"
	.venv-docs/bin/python -m pip install --quiet --group docs
	@touch $@

lint: setup ## ruff, mypy, import-linter; notebooks without outputs
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/nbstripout --verify notebooks/*.ipynb
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## mend what ruff can mend, strip notebook outputs
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/nbstripout notebooks/*.ipynb

lock: ## resolve pyproject.toml anew into requirements.lock (hashes, no hosts)
	$(UV) pip compile pyproject.toml --extra dev --generate-hashes --no-emit-index-url --no-header \
		--universal --python-version 3.11 --quiet --output-file requirements.lock

clean: ## remove caches and smoke results; trained runs, other results and .venv stay
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist results/local/smoke
	find b2inst tests notebooks -name __pycache__ -o -name .ipynb_checkpoints | xargs rm -rf
