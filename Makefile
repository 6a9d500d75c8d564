# Two commands do everything: `make repro` and `make test`. `make help` lists the rest.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PEERS := .venv-peers
PEERS_MARL := .venv-peers-marl
PEERS_BACKTEST := .venv-peers-backtest

export PATH := $(CURDIR)/$(BIN):$(PATH)
# hftlib.compute.DETERMINISTIC_ENVIRONMENT, for JupyterLab; a test compares the two.
export PYTHONHASHSEED := 0
export OMP_NUM_THREADS := 1
export MKL_NUM_THREADS := 1
export OPENBLAS_NUM_THREADS := 1
export MKL_CBWR := AVX2
export ATEN_CPU_CAPABILITY := avx2
export ONEDNN_MAX_CPU_ISA := AVX2
export DVC_NO_ANALYTICS := 1

.DEFAULT_GOAL := help
.PHONY: help setup lab repro smoke test lint format lock bench reports show serve retrain mlflow clean

help: ## list the commands
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP) ## create .venv with the locked dependencies (the others do it when needed)

# torch goes first and by itself: the CPU build where one is offered, else the ordinary one.
$(STAMP): requirements.lock pyproject.toml
	@echo "setup: installing the locked dependencies into $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit("Python >= 3.11 is needed, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@[ "$$(uname -m)" != x86_64 ] || [ ! -r /proc/cpuinfo ] || grep -qm1 avx2 /proc/cpuinfo || \
	  { echo "setup: this processor has no AVX2, which the code path of the numerical libraries needs"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@torch=$$(sed -n 's/^torch==//p' requirements.lock); \
	  $(BIN)/python -c "import importlib.metadata as m, sys; sys.exit(m.version('torch').split('+')[0] != '$$torch')" 2>/dev/null \
	  || $(BIN)/pip install -q "torch==$$torch+cpu" 2>/dev/null || $(BIN)/pip install -q "torch==$$torch"
	@$(BIN)/pip install -q uv 2>/dev/null || true
	@if [ -x $(BIN)/uv ]; then installer="$(BIN)/uv pip install --compile-bytecode --python $(BIN)/python"; else installer="$(BIN)/pip install"; fi; \
	  $$installer -q --no-deps -r requirements.lock && \
	  $$installer -q --no-deps --no-build-isolation -e .
	@$(BIN)/python -m hftlib.plots .dvc/plots.html && $(BIN)/dvc config --local plots.html_template plots.html
	@if [ -e .git ]; then $(BIN)/pre-commit install >/dev/null && \
	  git config filter.notebook.clean "$(BIN)/python -m hftlib.notebook strip -"; fi
	@touch $@
	@echo "setup: done"

# Without .git, DVC must be told that there is no source control.
.PHONY: scm
scm:
	@if [ -e .git ]; then [ ! -f .dvc/config.local ] || sed -i '/no_scm/d' .dvc/config.local; \
	  elif ! grep -qs no_scm .dvc/config.local; then dvc config --local core.no_scm true; fi

lab: $(STAMP) ## open JupyterLab
	jupyter lab notebooks

repro: $(STAMP) scm ## rebuild data, models and reports that are out of date
	@python -m hftlib.config
	@python -m hftlib.pipeline
	@echo; cat reports/tables/headline.txt
	@echo; echo "Reports: $(CURDIR)/reports/index.html"

smoke: $(STAMP) ## run the whole pipeline on tiny budgets in a clean copy
	@pytest -m smoke -s tests/test_smoke.py

test: lint ## lint, types, the test suite and the smoke pipeline
	@pytest -n auto -m "not smoke"
	@$(MAKE) --no-print-directory smoke

lint: $(STAMP) ## ruff and mypy
	@ruff check . && ruff format --check . && mypy

format: $(STAMP) ## let ruff rewrite the code and strip the notebooks
	@ruff check --fix . ; ruff format .
	@python -m hftlib.notebook strip notebooks/*.ipynb

lock: $(STAMP) ## resolve pyproject.toml into requirements.lock anew
	@uv pip compile -q pyproject.toml --extra sources --extra dev --universal --python-version 3.11 \
	  --no-header --no-annotate --no-emit-package rfc3987-syntax --no-emit-package lark \
	  -o requirements.lock >/dev/null
	@sed -i -E '/^(nvidia-|cuda-|triton)/d' requirements.lock

bench: $(STAMP) ## measure speed against peers, write reports/benchmarks.json
	@test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	@$(PEERS)/bin/pip install -q -r benchmarks/peers.txt || echo "bench: peers could not be installed, their figures will be null"
	@python -m benchmarks --peers $(PEERS)/bin/python
	@test -x $(PEERS_MARL)/bin/python || $(PYTHON) -m venv $(PEERS_MARL)
	@torch=$$(sed -n 's/^torch==//p' requirements.lock); pip="$(PEERS_MARL)/bin/pip install -q"; \
	  { $$pip "torch==$$torch+cpu" 2>/dev/null || $$pip "torch==$$torch"; } && \
	  $$pip --no-deps -r benchmarks/peers_marl.txt || echo "bench: BenchMARL could not be installed"
	@python -m benchmarks.marl --peers $(PEERS_MARL)/bin/python
	@test -x $(PEERS_BACKTEST)/bin/python || $(PYTHON) -m venv $(PEERS_BACKTEST)
	@$(PEERS_BACKTEST)/bin/pip install -q -r benchmarks/peers_backtest.txt || echo "bench: peers of the backtest could not be installed"
	@python -m benchmarks.peer_backtest --peers $(PEERS_BACKTEST)/bin/python
	@python -m benchmarks.measures --peers $(PEERS_BACKTEST)/bin/python

reports: repro ## bring the reports up to date and pack them into reports.zip to hand over
	@cd reports && python -m zipfile -c ../reports.zip *.html tables $$(test -d figures && echo figures)
	@echo "Packed: $(CURDIR)/reports.zip"

show: $(STAMP) ## show the reports at http://127.0.0.1:8000
	@python -m http.server --bind 127.0.0.1 --directory reports $${PORT:-8000}

serve: $(STAMP) ## serve the champion with dashboard and paper trading at http://127.0.0.1:8000
	@mkdir -p .cache; export HFTLIB_PAPER="$${HFTLIB_PAPER-recorded}"; \
	  if [ -z "$$HFTLIB_TOKEN$$HFTLIB_TOKEN_FILE" ]; then \
	    HFTLIB_TOKEN=$$(python -c 'import secrets; print(secrets.token_urlsafe(24))'); export HFTLIB_TOKEN; \
	    echo "Token of this run: $$HFTLIB_TOKEN"; fi; \
	  echo "Dashboard and API: http://127.0.0.1:$${PORT:-8000}/  Log: .cache/service.log  (Ctrl-C ends it)"; \
	  python -m hftlib.live.service 2>.cache/service.log || { tail -n 3 .cache/service.log; exit 1; }

retrain: $(STAMP) scm ## judge a newly trained model against the one that is served
	@python -m hftlib.live.retrain

mlflow: $(STAMP) ## show tracked runs and models at http://127.0.0.1:5000
	@MLFLOW_DISABLE_TELEMETRY=true DO_NOT_TRACK=true MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false \
	  mlflow server --host 127.0.0.1 --port $${PORT:-5000} --workers 1 \
	  --backend-store-uri "sqlite:///$(CURDIR)/mlruns/mlflow.db" \
	  --default-artifact-root "$(CURDIR)/mlruns/artefacts"

clean: ## remove what was built, but no served models and no mlruns: .venv, data, reports, DVC's cache, git hooks
	-@if [ -x $(BIN)/pre-commit ] && [ -e .git ]; then $(BIN)/pre-commit uninstall >/dev/null; \
	  git config --unset filter.notebook.clean; fi
	rm -rf $(VENV) $(PEERS) $(PEERS_MARL) $(PEERS_BACKTEST) .cache .dvc/cache .dvc/tmp data/market data/features data/datasets \
	  data/models data/results reports/source reports/failed reports/figures reports/*.html reports.zip \
	  hftlib.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
