# Two commands, each doing all set-up into .venv: `make demo` runs the main job, `make test` the tests.
PYTHON ?= python3
VENV := .venv
UV_VERSION := 0.9.30
# vLLM, tokenizers and Ray say much at import; what matters is printed by Winnow itself.
export HF_HUB_DISABLE_TELEMETRY = 1
export VLLM_NO_USAGE_STATS = 1
export RAY_USAGE_STATS_ENABLED = 0
# Empty is off: compiled modules are kept, or each process would compile torch anew (8 s an import, 3 s with them).
export PYTHONDONTWRITEBYTECODE =

.PHONY: demo test lint lock clean setup setup-gpu

demo: setup
	$(VENV)/bin/winnow run examples/pydocs/run.yaml $(ARGS)

# Files are dealt out in the order of their paths: the long ones, which have few tests, come first, and no process
# is left alone with one at the end.
test: setup
	$(VENV)/bin/ruff check . && $(VENV)/bin/ruff format --check .
	$(VENV)/bin/python -m pytest -m "not gpu" --numprocesses 2 --dist loadfile --no-loadscope-reorder $(ARGS)

lint: setup
	$(VENV)/bin/ruff check --fix . && $(VENV)/bin/ruff format .

setup: $(VENV)/.cpu-ready

setup-gpu: $(VENV)/.gpu-ready

# The lock names the CPU build of torch: a local folder of wheels has it if PIP_FIND_LINKS is set,
# else uv takes it from PyTorch's own index.
$(VENV)/.cpu-ready: requirements/cpu.txt pyproject.toml | $(VENV)/bin/uv
	$(VENV)/bin/uv pip install --quiet --no-deps $(if $(PIP_FIND_LINKS),--find-links "$(PIP_FIND_LINKS)",--torch-backend=cpu) -r requirements/cpu.txt
	$(VENV)/bin/uv pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/.gpu-ready: requirements/gpu.txt pyproject.toml | $(VENV)/bin/uv
	$(VENV)/bin/uv pip install --quiet --no-deps -r requirements/gpu.txt
	$(VENV)/bin/uv pip install --quiet --no-deps --no-build-isolation --editable .
	touch $@

$(VENV)/bin/uv:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if v == (3, 11) else f"Winnow is locked for Python 3.11, {sys.executable} is {v[0]}.{v[1]}: use make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet uv==$(UV_VERSION)

# Run after a change of dependencies in pyproject.toml.
COMPILE := $(VENV)/bin/uv pip compile --quiet --upgrade --python-version 3.11 --no-header --no-annotate pyproject.toml --extra example --extra dev
lock: $(VENV)/bin/uv
	$(COMPILE) --extra cpu --override requirements/cpu-overrides.txt $(if $(PIP_FIND_LINKS),--find-links "$(PIP_FIND_LINKS)",--torch-backend=cpu) --output-file requirements/cpu.txt
	$(COMPILE) --extra gpu --override requirements/gpu-overrides.txt --output-file requirements/gpu.txt

clean:
	rm -rf $(VENV) runs
