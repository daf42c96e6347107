# `make help` lists the targets. Everything runs in .venv, made from the pinned versions.
PYTHON ?= python3
CONFIG ?= configs/whole_heart.yaml
ARGS ?=
DATA ?= data/cropped_norm

ifeq ($(OS),Windows_NT)
  BIN := .venv/Scripts
else
  BIN := .venv/bin
endif
HEARTSEG := $(BIN)/heartseg
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
DEMO := demo
DEMO_SET := --set data.source_dir=$(DEMO)/volumes --set data.master_dir=$(DEMO)/master \
  --set data.dataset_dir=$(DEMO)/dataset --set run_dir=$(DEMO)/run

.DEFAULT_GOAL := help
.PHONY: help setup demo test check smoke prepare split train evaluate infer model bench docs dist-check clean

help: ## List the targets
	@grep -hE '^[a-z -]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) -e .
	@touch $@

.venv/installed-test: .venv/installed
	$(PIP) -e '.[test]'
	@touch $@

setup: .venv/installed ## Make .venv with heartseg and its pinned dependencies

demo: .venv/installed ## Run the whole pipeline on phantom hearts; ends with scores and pictures
	@test ! -e $(DEMO)/volumes || echo "Replacing the results of an earlier demo in $(DEMO)/"
	$(HEARTSEG) synth $(DEMO)/volumes --patients 16 --size 64 --seed 7 --overwrite
	$(HEARTSEG) prepare configs/smoke.yaml $(DEMO_SET) --overwrite
	$(HEARTSEG) split configs/smoke.yaml $(DEMO_SET) --overwrite
	$(HEARTSEG) train configs/smoke.yaml $(DEMO_SET) --overwrite
	$(HEARTSEG) infer configs/smoke.yaml $(DEMO)/volumes $(DEMO_SET) --overwrite --output $(DEMO)/inference
	$(HEARTSEG) colorize $(DEMO)/inference/pat0_seg.nii.gz --output $(DEMO)/colors --overwrite
	$(HEARTSEG) evaluate configs/smoke.yaml $(DEMO_SET) --overwrite
	@echo "Look at:"
	@echo "  $(DEMO)/master/samples_images.png and samples_masks.png   the prepared slices"
	@echo "  $(DEMO)/run/train_losses.png                              the training curves"
	@echo "  $(DEMO)/inference/pat0_preview.png                        a segmented volume"
	@echo "  $(DEMO)/run/evaluation/report.html                        the scores"

test: .venv/installed-test ## Run the tests, an end-to-end run among them
	$(BIN)/python -m pytest -n 2 $(ARGS)

check: .venv/installed-test ## Format, lint, types and tests: what CI runs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict heartseg tools
	$(BIN)/python -m pytest -n 2 $(ARGS)

smoke: .venv/installed ## A minute's run of every command on tiny phantoms
	$(MAKE) demo DEMO=demo/smoke

prepare split train evaluate infer: .venv/installed ## Run a command: make train CONFIG=configs/whole_heart.yaml
	$(HEARTSEG) $@ $(CONFIG) $(ARGS)

model: .venv/installed ## Train the packaged kind of model on DATA and package it: make model DATA=data/cropped_norm
	$(HEARTSEG) prepare configs/recommended.yaml --set data.source_dir=$(DATA) $(ARGS)
	$(HEARTSEG) split configs/recommended.yaml --set data.source_dir=$(DATA) $(ARGS)
	$(HEARTSEG) train configs/recommended.yaml --set data.source_dir=$(DATA) $(ARGS)
	$(HEARTSEG) evaluate configs/recommended.yaml --set data.source_dir=$(DATA) $(ARGS)
	$(BIN)/python tools/package_weights.py runs/recommended --scans $(DATA)

bench: .venv/installed-test ## Measure against other ways of doing the same, side by side
	$(BIN)/python -m benchmarks $(ARGS)

docs: .venv/installed-test ## Write docs/configuration.md and docs/licences.md anew
	$(BIN)/python -m heartseg.config.reference docs/configuration.md
	$(BIN)/python tests/licences.py

dist-check: .venv/installed-test ## Build the wheel and use it elsewhere, offline
	$(BIN)/python tests/check_dist.py

clean: ## Remove what make made: environment, demo, caches
	rm -rf .venv demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
