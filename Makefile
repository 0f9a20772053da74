# b2inst: `make` alone lists the targets. These variables apply to all of them:
#   PROFILE  data, model size and schedule: a file of experiments/profiles/, tiny by default
#   SEEDS    comma-separated list, e.g. SEEDS=0,1,2
#   DATA     a COCO-format folder, for the profiles that read one
#   BATCH    images per iteration; learning rate and schedule are scaled accordingly
#   DEVICES  GPUs per run
#   START    weights that every run starts from, for PROFILE=finetune
#   LAUNCHER local (default) | slurm: each missing run of a table is one job of an array
#   SLURM    options for sbatch, such as SLURM=partition=gpu,time=24:00:00

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
.DEFAULT:
	@echo "no target $@; make alone lists them" >&2; exit 2

.PHONY: help setup table1 table2 table3 table4 beyond beyond-schedule beyond-steps figures report publish bench gpu lab explorer check test pytest test-browser wheel verify docs lint format lock clean

help: ## this list
	@echo "usage: make TARGET [PROFILE=$(PROFILE)] [SEEDS=$(SEEDS)] [DATA=folder]"; echo
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-12s %s\n", $$1, $$2}'
	@echo; echo "profiles: $(basename $(notdir $(sort $(wildcard experiments/profiles/*.yaml))))"
	@echo "          ($(BIN)/b2inst profiles describes them)"

setup: $(STAMP) ## create .venv with the locked dependencies (other targets do this as needed)

# Bytecode is compiled here: where PYTHONDONTWRITEBYTECODE is set, as in many containers, every process would
# compile PyTorch again, which takes 5 seconds.
$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; name one with: make setup PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(UV) --version >/dev/null 2>&1 || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(UV) pip sync --compile-bytecode --python $(BIN)/python --require-hashes requirements.lock
	$(UV) pip install --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

# abspath would take a path with spaces for several.
GIVEN = $(if $(DATA),--data "$(DATA)")
TABLE = $(BIN)/b2inst table $@ --profile "$(PROFILE)" --seeds $(SEEDS) --launcher $(LAUNCHER) \
	$(GIVEN) $(if $(BATCH),--batch-size $(BATCH)) \
	$(if $(DEVICES),--devices $(DEVICES)) $(if $(START),--start "$(START)") $(if $(SLURM),--slurm $(SLURM))

table1: setup ## reproduce the paper's Table 1 (trains and evaluates what is missing)
	$(TABLE)

table2: setup ## reproduce Table 2, five designs of the basis head; shares two rows with Table 1
	$(TABLE)

table3: setup ## reproduce Table 3: B2Inst on YOLACT, BlendMask and CondInst
	$(TABLE)

table4: setup ## reproduce Table 4: comparison with two-stage and single-stage methods; shares rows with Table 3
	$(TABLE)

# Not from the paper. The default profile has more test images.
beyond beyond-schedule beyond-steps: PROFILE = beyond

beyond: setup ## not from the paper: boundaries that stop masks from spreading, with controls (docs/beyond.md)
	$(TABLE)

beyond-schedule: setup ## the same with three times the training
	$(TABLE)

beyond-steps: setup ## the same with other numbers of diffusion steps and RoI resolutions
	$(TABLE)

figures: setup ## draw the paper's figures from trained models, after a list of those left out: results/local/PROFILE/figures/
	$(BIN)/b2inst figures --profile "$(PROFILE)" --seeds $(SEEDS) $(GIVEN)

report: setup ## show all results of PROFILE on one page, with their provenance: results/local/PROFILE/index.html
	$(BIN)/b2inst report --profile "$(PROFILE)"

publish: setup ## for maintainers: move results/local/PROFILE to results/PROFILE, and update its page
	$(BIN)/b2inst publish --profile "$(PROFILE)"
	$(BIN)/b2inst report --profile "$(PROFILE)" --published

bench: setup ## time the R-50 models by stage, with and without B2Inst: results/local/bench-*.json
	$(BIN)/b2inst bench blendmask-r50 b2inst-blendmask-r50 condinst-r50 b2inst-condinst-r50 \
		--size 800x1333 $(GIVEN) --json results/local/bench-800x1333.json --overwrite
	$(BIN)/b2inst bench yolact-r50 b2inst-yolact-r50 blendmask-550-r50 b2inst-blendmask-550-r50 \
		--size 550x550 $(GIVEN) --json results/local/bench-550x550.json --overwrite
	$(BIN)/b2inst bench blendmask-r50 b2inst-blendmask-r50 gated-blendmask-r50 \
		--size 800x1333 $(GIVEN) --json results/local/bench-gate-800x1333.json --overwrite

gpu: setup ## on a GPU, 12 minutes: tests, speed, memory, one seed of Table 1: results/gpu/
	$(BIN)/python experiments/gpu.py $(if $(DATA),--profile nuclei) $(GIVEN)

# Jupyter refuses to run as root, as one is in most containers, unless told otherwise.
AS_ROOT := $(if $(filter 0,$(shell id -u)),--allow-root)

# Notebooks run in their own folder.
SHOWN = B2INST_PROFILE="$(PROFILE)" B2INST_SEEDS=$(SEEDS) B2INST_DATA="$(if $(DATA),$(if $(filter /%,$(firstword $(DATA))),,$(CURDIR)/)$(DATA))"

lab: setup ## open the explorer and the other notebooks in JupyterLab
	$(SHOWN) $(BIN)/jupyter lab $(AS_ROOT) notebooks/explore_bases.ipynb

explorer: setup ## serve the explorer as a web page, with voila
	@test -n "$$B2INST_WEIGHTS$(filter smoke,$(PROFILE))" || ls runs/*/model.safetensors >/dev/null 2>&1 || \
		{ echo "runs/: no trained model; run make table1, or name one: B2INST_WEIGHTS=.../model.safetensors make explorer" >&2; exit 2; }
	$(SHOWN) $(BIN)/voila --show_tracebacks=True notebooks/explore_bases.ipynb

# Tests that train nothing and build few whole models. Converting all nuclei alone takes a minute.
FAST = tests/ops tests/modules tests/data tests/test_losses.py tests/test_structures.py \
	tests/test_repository.py --ignore tests/data/test_fuzz.py --ignore tests/data/test_loader.py

check: export OMP_NUM_THREADS = 1
check: lint ## lint and the fast tests, for every commit: about a minute on 2 cores
	env -u B2INST_NUCLEI $(BIN)/pytest -q -n 2 $(FAST)

# Two worker processes with one thread each: more threads slow each other down. Notebooks come first, since
# one process runs them all. Lint has only one thread, so it runs beside. Bytecode is kept, as by setup: to
# compile the tests takes each process seconds. So is memory, as in runs (b2inst/experiments/runs/children.py).
test: setup ## lint, types, layers, unit tests, and every notebook in the smoke profile
	$(MAKE) --no-print-directory -j 2 lint pytest

pytest: export OMP_NUM_THREADS = 1
pytest: export B2INST_PROFILE = smoke
pytest: export PYTHONDONTWRITEBYTECODE =
pytest: export GLIBC_TUNABLES ?= glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=1073741824:glibc.malloc.trim_threshold=1073741824
pytest: setup
	$(BIN)/pytest -n 2 --no-loadscope-reorder notebooks tests \
		--nbval-lax --nbval-current-env --nbval-cell-timeout 7200

test-browser: export OMP_NUM_THREADS = 1
test-browser: setup ## test the explorer and the report in Chromium, which must be installed
	$(BIN)/pytest -m browser tests/browser

wheel: setup ## build the wheel: dist/; install it into a fresh environment, and use it in an empty folder
	UV=$(UV) .ci/wheel

verify: setup ## compare our models with published implementations: make verify REFERENCE=folder CASE=name
	PYTHONPATH=tests $(BIN)/python -m reference $(REFERENCE) $(CASE)

docs: .venv-docs/.setup-done ## build the documentation site: build/site/index.html
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict

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

format: setup ## fix what ruff can fix, strip notebook outputs
	$(BIN)/ruff check --fix
	$(BIN)/ruff format
	$(BIN)/nbstripout notebooks/*.ipynb

lock: ## resolve pyproject.toml into requirements.lock (hashes, no hosts)
	$(UV) pip compile pyproject.toml --extra dev --generate-hashes --no-emit-index-url --no-header \
		--universal --python-version 3.11 --quiet --output-file requirements.lock

clean: ## remove caches and smoke results; trained runs, other results and .venv stay
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build dist results/local/smoke
	find b2inst tests notebooks -name __pycache__ -o -name .ipynb_checkpoints | xargs rm -rf
