# make book         render the book into _build/html
# make test         drift check, every chapter re-executed and compared, tests/
# make portability  the chapters as on other machines, CHAPTER=06: one; then the
#                   lowest versions of what the package needs, if there is net
# make run          tangle, then re-execute chapters in place, CHAPTER=06: one
# make tangle       chapters/ → gpt2/
# make lab          open the chapters in Jupyter
# make clean        remove what make made (also .venv)
#
# The first call sets up .venv from requirements.txt. Afterwards nothing needs
# the network. PYTHON=/path/to/python3.11 chooses another interpreter.

SHELL := /bin/sh
VENV := .venv
PY := $(VENV)/bin/python
STAMP := $(VENV)/.complete
PIP := $(PY) -m pip install -qq --disable-pip-version-check --no-input
OFFLINE := OMP_NUM_THREADS=1 HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 \
	HF_HUB_DISABLE_TELEMETRY=1 TOKENIZERS_PARALLELISM=false \
	PYDEVD_DISABLE_FILE_VALIDATION=1

# The stamp names the folder it was made for: a checkout that moved, or an
# interpreter that is gone, makes the environment anew.
ifneq ($(shell $(PY) -c "" 2>/dev/null && cat $(STAMP) 2>/dev/null),$(CURDIR))
$(shell rm -f $(STAMP))
endif

.PHONY: book test portability run tangle lab clean setup
.DEFAULT_GOAL := book

setup: $(STAMP)

# Whatever an interrupted installation left behind is thrown away: only the
# last line writes the stamp. An out-of-date environment is updated in place.
$(STAMP): requirements.txt pyproject.toml
	@python="$(PYTHON)"; \
	for p in $${python:-python3.11 python3 python3.12 python3.13 python3.14 \
	    python}; do \
	  if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11, 5))' 2>/dev/null; \
	  then python=$$p; break; else python=; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "This book needs Python 3.11.5 or newer (PYTHON=/path/to/python3.11)." >&2; \
	  exit 1; \
	fi; \
	if [ -f $(STAMP) ]; then clear=; else clear=--clear; fi; \
	rm -f $(STAMP); \
	echo "Setting up $(VENV) with $$($$python --version) (a minute or two) ..."; \
	$$python -m venv $$clear $(VENV)
	@$(PIP) -r requirements.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@$(PY) -c "import matplotlib.font_manager" 2>/dev/null
	@printf '%s' "$(CURDIR)" > $@

# A warm build hides warnings: begin with nothing. OUT=folder builds elsewhere.
OUT := .
book: $(STAMP)
	@rm -rf "$(OUT)/_build"
	@echo "Building the book ..."
	@$(OFFLINE) NO_COLOR=1 $(VENV)/bin/jupyter-book build . -q -W -n --keep-going \
	  --path-output "$(OUT)" >/dev/null
	@echo "The book is ready: file://$(abspath $(OUT))/_build/html/index.html"

test: $(STAMP)
	@$(OFFLINE) $(PY) tools/tangle.py --check
	@$(OFFLINE) $(PY) -m pytest -n 2

# The second part is run even if the first one is red.
portability: $(STAMP)
	@$(PY) tools/portability.py $(CHAPTER); status=$$?; \
	$(OFFLINE) $(PY) -m pytest -q -rs -m online tests/test_wheel.py && exit $$status

# Export first: a chapter runs with the modules as the chapters define them now.
# Last comes the reading time, which follows the text.
run: tangle
	@$(PY) tools/run_chapters.py $(CHAPTER)
	@$(PY) tools/reading_time.py --write

tangle: $(STAMP)
	@$(PY) tools/tangle.py

# Jupyter Lab is for reading only: it is installed when first asked for.
lab: $(STAMP)
	@$(PY) -c "import jupyterlab, jupyterlab_myst" 2>/dev/null || { \
	  echo "Installing Jupyter Lab ..."; $(PIP) -r requirements-lab.txt; }
	@cd chapters && ../$(PY) -m jupyterlab

clean:
	rm -rf $(VENV) _build build dist *.egg-info .pytest_cache .jupyter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
