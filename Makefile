# `make help` lists the chores. Python 3.11 or newer and make are all that a machine needs.
PYTHON ?= python3
VENV := .venv
DEMO_VENV := .venv-demo
ifeq ($(OS),Windows_NT)
BIN := $(VENV)/Scripts
DEMO_BIN := $(DEMO_VENV)/Scripts
else
BIN := $(VENV)/bin
DEMO_BIN := $(DEMO_VENV)/bin
endif
# The locks are made on Linux with Python 3.11. LOCKED=no resolves the same versions for another system.
LOCKED ?= yes

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow types lint docs docs-site pictures bench bench-cold bench-train lock audit clean

help: ## List the chores
	@awk -F ':.*## ' '/^##@/ { printf "\n%s\n", substr($$0, 5) } /^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' \
		$(MAKEFILE_LIST)

##@ Try it
demo: $(DEMO_VENV)/ready ## Predict the bundled radiographs: table, heatmaps and HTML page in demo/
	$(DEMO_BIN)/pneumoscope demo --out demo

##@ Check a change
test: $(VENV)/ready ## Run every check and test (PNEUMOSCOPE_DATA=DIR adds the tests on the full data)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test-slow: $(VENV)/ready ## Run the tests and list the slowest twenty
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --durations=20

types: $(VENV)/ready ## Check the types
	$(BIN)/mypy

lint: $(VENV)/ready ## Format the code and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

##@ Generate
docs: $(VENV)/ready ## Write the generated pages and blocks: help, models, speed, experiments
	$(BIN)/python tools/generate.py

docs-site: $(VENV)/ready ## Build the documentation site in site/html; a broken link fails
	$(BIN)/python tools/build_site.py

pictures: $(VENV)/ready ## Make the pictures of the documents and the outputs of the notebook (needs Chromium)
	$(BIN)/python tools/generate.py --pictures
	$(BIN)/python notebooks/run_walkthrough.py

##@ Measure (benchmarks/README.md has all benchmarks)
bench: $(VENV)/ready ## Time a folder beside Keras, PyTorch, TorchXRayVision: IMAGES=DIR of full-size JPEGs, PEERS=DIR
	$(BIN)/python benchmarks/speed/folder_speed.py --images "$(IMAGES)" \
		--peers "$(or $(PEERS),$(HOME)/.cache/pneumoscope/peers)"

bench-cold: $(VENV)/ready $(DEMO_VENV)/ready ## Time --help, and one image with heatmap, from a cold start
	$(BIN)/python benchmarks/speed/cold_start.py --python $(DEMO_BIN)/python

bench-train: $(VENV)/ready ## Time training: DATA=DIR, WEIGHTS=FILE, RECIPE=FILE, TORCH_PYTHON=interpreter with torch
	$(BIN)/python benchmarks/training/training_speed.py --data "$(DATA)" $(if $(WEIGHTS),--weights "$(WEIGHTS)") \
		$(if $(RECIPE),--recipe "$(RECIPE)") $(if $(TORCH_PYTHON),--torch-python "$(TORCH_PYTHON)")

##@ Maintain
lock: $(VENV)/ready ## Lock what pyproject.toml changed; UPGRADE=yes raises every version
	requirements/lock.sh $(BIN)/python $(if $(UPGRADE),--upgrade)

audit: ## Look for known vulnerabilities in the locked dependencies, if the package index has this data
	requirements/audit.sh $(PYTHON)

clean: ## Remove environments and outputs, not runs/
	rm -rf $(VENV) $(DEMO_VENV) demo site .pytest_cache .ruff_cache .mypy_cache

# The locks are complete: --no-deps installs what they name and resolves nothing.
# Predictions alone: NumPy, OpenCV, simplejpeg, ONNX Runtime, Typer, Rich.
$(DEMO_VENV)/ready: requirements/core.txt pyproject.toml
	$(PYTHON) requirements/check_python.py
	$(PYTHON) -m venv $(DEMO_VENV)
	requirements/install.sh $(DEMO_BIN)/python core $(LOCKED)
	touch $@

# Everything: training, figures, documents, tests.
$(VENV)/ready: requirements/all.txt pyproject.toml
	$(PYTHON) requirements/check_python.py
	$(PYTHON) -m venv $(VENV)
	requirements/install.sh $(BIN)/python all $(LOCKED)
	touch $@
