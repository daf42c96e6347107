# `make help` lists the targets. Everything runs in .venv, which holds the pinned versions.
PYTHON ?= python3
CONFIG ?= configs/whole_heart.yaml
ARGS ?=
DATA ?= data/cropped_norm

ifeq ($(OS),Windows_NT)
  BIN := .venv/Scripts
  TOOLS := .venv-release/Scripts
else
  BIN := .venv/bin
  TOOLS := .venv-release/bin
endif
HEARTSEG := $(BIN)/heartseg
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
DEMO := demo
DEMO_SET := --set data.source_dir=$(DEMO)/volumes --set data.master_dir=$(DEMO)/master \
  --set data.dataset_dir=$(DEMO)/dataset --set run_dir=$(DEMO)/run
# Name a patient that the demo's model has not seen: the first of the test part.
HELD_OUT := $(BIN)/python -c "import json; print(json.load(open('$(DEMO)/dataset/split.json'))['cases']['test'][0])"

.DEFAULT_GOAL := help
.PHONY: help setup demo test check smoke prepare split train evaluate infer model bench docs dist dist-check sbom clean

help: ## List the targets
	@grep -hE '^[a-z -]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) -e '.[dicom]'
	@touch $@

.venv/installed-test: .venv/installed
	$(PIP) -e '.[test]'
	@touch $@

setup: .venv/installed ## Make the environment .venv with heartseg and its pinned dependencies

demo: .venv/installed ## Run the whole pipeline on phantom hearts, up to scores and pictures
	@test ! -e $(DEMO)/volumes || echo "Replacing the results of an earlier demo in $(DEMO)/"
	$(HEARTSEG) synth $(DEMO)/volumes --patients 16 --size 64 --seed 7 --overwrite
	$(HEARTSEG) prepare configs/smoke.yaml $(DEMO_SET) --overwrite
	$(HEARTSEG) split configs/smoke.yaml $(DEMO_SET) --overwrite
	$(HEARTSEG) train configs/smoke.yaml $(DEMO_SET) --overwrite
	$(HEARTSEG) infer configs/smoke.yaml $(DEMO)/volumes $(DEMO_SET) --overwrite --output $(DEMO)/inference
	$(HEARTSEG) colorize $(DEMO)/inference/$$($(HELD_OUT))_seg.nii.gz --output $(DEMO)/colors --overwrite
	$(HEARTSEG) evaluate configs/smoke.yaml $(DEMO_SET) --overwrite
	@echo "Results:"
	@echo "  $(DEMO)/master/samples_images.png and samples_masks.png   the prepared slices"
	@echo "  $(DEMO)/run/train_losses.png                              the training curves"
	@echo "  $(DEMO)/inference/$$($(HELD_OUT))_preview.png                        a test patient, segmented"
	@echo "  $(DEMO)/run/evaluation/report.html                        the scores"
	@echo "To use the command heartseg in this terminal: source $(BIN)/activate"

test: .venv/installed-test ## Run the tests, including one from end to end
	$(BIN)/python -m pytest -n 2 $(ARGS)

check: .venv/installed-test ## Format, lint, types and tests: what CI runs
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy --strict heartseg tools
	$(BIN)/python -m pytest -n 2 $(ARGS)

smoke: .venv/installed ## Run the demo in demo/smoke, apart from the results of make demo
	$(MAKE) demo DEMO=demo/smoke

prepare split train evaluate infer: .venv/installed ## Run one command: make train CONFIG=configs/smoke.yaml
	$(HEARTSEG) $@ $(CONFIG) $(ARGS)

model: .venv/installed ## Train on DATA and make the result the packaged model: make model DATA=data/cropped_norm
	$(HEARTSEG) prepare configs/recommended.yaml --set data.source_dir=$(DATA) $(ARGS)
	$(HEARTSEG) split configs/recommended.yaml --set data.source_dir=$(DATA) $(ARGS)
	$(HEARTSEG) train configs/recommended.yaml --set data.source_dir=$(DATA) $(ARGS)
	$(HEARTSEG) evaluate configs/recommended.yaml --set data.source_dir=$(DATA) $(ARGS)
	$(BIN)/python tools/package_weights.py runs/recommended --scans $(DATA)

bench: .venv/installed-test ## Measure speed and memory beside other ways of doing the same
	$(BIN)/python -m benchmarks $(ARGS)

docs: .venv/installed-test ## Write docs/configuration.md, licences.md and model-card.md again
	$(BIN)/python -m heartseg.config.reference docs/configuration.md
	$(BIN)/python tests/licences.py
	$(BIN)/python tools/package_weights.py

.venv-release/installed: tools/release-requirements.txt
	$(PYTHON) -m venv .venv-release
	$(TOOLS)/python -m pip install --quiet --disable-pip-version-check -r tools/release-requirements.txt
	@touch $@

dist: .venv-release/installed ## Build the source distribution and the wheel in dist/
	rm -f dist/heartseg-*
	$(TOOLS)/python -m build --outdir dist .
	$(TOOLS)/python -m twine check --strict dist/heartseg-*

dist-check: dist .venv/installed-test ## Build both, and use the wheel in another folder, offline
	$(BIN)/python tests/check_dist.py dist

sbom: .venv/installed .venv-release/installed ## List the parts of .venv in dist/heartseg.cdx.json
	@mkdir -p dist
	$(TOOLS)/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
	  --output-file dist/heartseg.cdx.json $(BIN)/python
	$(BIN)/python tools/complete_sbom.py dist/heartseg.cdx.json

clean: ## Remove the environment, the demo, builds and caches
	rm -rf .venv .venv-release demo build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
