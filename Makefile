# Everything happens in .venv; nothing is installed elsewhere.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
# Rows for the speed benchmarks: make bench DATA=rows.json; the shipped ones are short.
BENCH_DATA = $(if $(DATA),--data $(DATA))

.PHONY: help run test lint format bench bench-card bench-data bench-plan bench-rates bench-survival constraints clean
.DEFAULT_GOAL := help

help:  ## Show what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

run: .venv/.runtime  ## Install what is needed and open the workbench
	$(BIN)/python app.py --open

test: $(INSTALLED)  ## Run every test (the browser tests need Debian's chromium, and the computer for themselves)
	$(BIN)/python -m pytest -n 2 --dist worksteal --ignore tests/browser
	$(BIN)/python -m pytest tests/browser

lint: $(INSTALLED)  ## Check style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile

format: $(INSTALLED)  ## Write the style
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(INSTALLED)  ## Measure how fast training is, beside what people use
	$(BIN)/python -m tests.benchmarks.training_speed $(BENCH_DATA)

bench-card: $(INSTALLED)  ## The same on a graphics card: LoRA and QLoRA of models of 0.5 and 7 billion weights
	for shape in 0.5B 7B; do for method in lora qlora; do \
		$(BIN)/python -m tests.benchmarks.training_speed --shape $$shape --method $$method --steps 6 --rounds 3 \
			$(BENCH_DATA) --trainers ours plain-bf16 plain-bf16-checkpointing || exit 1; \
	done; done

bench-data: $(INSTALLED)  ## Measure how long checking and tokenizing data takes
	$(BIN)/python -m tests.benchmarks.data_check

bench-plan: $(INSTALLED)  ## Measure how right the plan's memory and time are
	$(BIN)/python -m tests.benchmarks.plan_accuracy --runs

bench-rates: $(INSTALLED)  ## Measure what a run teaches and what it breaks, by learning rate
	$(BIN)/python -m tests.benchmarks.learning_rates --method lora --rates 4e-4 9e-4
	$(BIN)/python -m tests.benchmarks.learning_rates --method full --rates 3e-5 1e-4

bench-survival: $(INSTALLED)  ## Kill trainer, server and both, 30 times, in every phase
	$(BIN)/python -m tests.training.survival --kills 30

constraints:  ## Try the newest releases: a fresh install, its versions into constraints.txt, the tests
	rm -rf .venv-new
	$(PYTHON) -m venv .venv-new
	.venv-new/bin/pip install --quiet --upgrade pip
	.venv-new/bin/pip install --quiet -e '.[dev]'
	.venv-new/bin/python -m pytest -n 2 --dist worksteal --ignore tests/browser
	.venv-new/bin/python -m pytest tests/browser
	.venv-new/bin/python tests/write_constraints.py > constraints.new
	mv constraints.new constraints.txt
	rm -rf .venv-new

clean:  ## Remove what the other targets made
	rm -rf .venv .venv-new .pytest_cache .mypy_cache .ruff_cache *.egg-info

.venv/bin/python:
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip -c constraints.txt

.venv/.runtime: .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install -e . -c constraints.txt
	touch $@

$(INSTALLED): .venv/bin/python pyproject.toml constraints.txt
	$(BIN)/pip install -e '.[dev]' -c constraints.txt
	touch $@ .venv/.runtime
