# `make help` lists the chores. Python 3.11 or newer and make are all a machine needs.
PYTHON ?= python3
VENV := .venv
DEMO_VENV := .venv-demo
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test lint lock audit docs bench bench-cold bench-train clean

help: ## List the chores
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(DEMO_VENV)/ready ## Screen the bundled radiographs: table, heatmaps, HTML page in demo/
	$(DEMO_VENV)/bin/pneumoscope demo --out demo

test: $(VENV)/ready ## Run every check and test (PNEUMOSCOPE_DATA=DIR adds those on the full data)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: $(VENV)/ready ## Format the code and fix what can be fixed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/ready ## Write the generated pages again: help, models, speed, experiments
	$(BIN)/python docs/generate.py

bench: $(VENV)/ready ## Time a folder beside Keras, PyTorch and TorchXRayVision: IMAGES=DIR of full-size JPEGs, PEERS=DIR
	$(BIN)/python benchmarks/speed/folder_speed.py --images "$(IMAGES)" --peers "$(or $(PEERS),$(HOME)/.cache/pneumoscope/peers)"

bench-cold: $(VENV)/ready $(DEMO_VENV)/ready ## Time --help and one image with heatmap from a cold start
	$(BIN)/python benchmarks/speed/cold_start.py --python $(DEMO_VENV)/bin/python

bench-train: $(VENV)/ready ## Time training: DATA=DIR, WEIGHTS=FILE, RECIPE=FILE, TORCH_PYTHON=interpreter with torch
	$(BIN)/python benchmarks/training/training_speed.py --data "$(DATA)" $(if $(WEIGHTS),--weights "$(WEIGHTS)") \
		$(if $(RECIPE),--recipe "$(RECIPE)") $(if $(TORCH_PYTHON),--torch-python "$(TORCH_PYTHON)")

lock: $(VENV)/ready ## Resolve the dependencies anew and write the hashed locks
	requirements/lock.sh $(BIN)/python

audit: ## Look for known vulnerabilities in the locked dependencies, where the package index tells
	requirements/audit.sh $(PYTHON)

clean: ## Remove environments and outputs, not runs/
	rm -rf $(VENV) $(DEMO_VENV) demo .pytest_cache .ruff_cache

# The locks are complete: --no-deps installs what they name and resolves nothing.
# Screening alone: NumPy, OpenCV, simplejpeg, ONNX Runtime, Typer, Rich.
$(DEMO_VENV)/ready: requirements/core.txt pyproject.toml
	$(PYTHON) requirements/check_python.py
	$(PYTHON) -m venv $(DEMO_VENV)
	$(DEMO_VENV)/bin/python -m pip install --quiet --no-deps --require-hashes --only-binary :all: -r requirements/core.txt
	$(DEMO_VENV)/bin/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@

# Everything: training, figures, tests.
$(VENV)/ready: requirements/all.txt pyproject.toml
	$(PYTHON) requirements/check_python.py
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements/all.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $@
