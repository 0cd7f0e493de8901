# make demo      the whole line on drawn faces, nothing to download
# make test      ruff and pytest
# make fer2013   the whole line on the real FER2013: make fer2013 DATA=/path/to/folder MODEL=fer_resnet
# make lock      resolve constraints.txt again

PYTHON ?= python3
VENV ?= .venv
DATA ?= data
OUTPUTS ?= outputs
MODEL ?= fer_resnet
SAMPLES ?= 14

BIN := $(VENV)/bin
RUN := $(BIN)/python
INSTALLED := $(VENV)/.installed
FLAGS = --dataset $(DATASET) --model $(MODEL) --data-dir $(DATA) --outputs-dir $(OUTPUTS)

.PHONY: install demo fer2013 line test lock clean

install: $(INSTALLED)

$(INSTALLED): requirements.txt requirements-dev.txt constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "Python 3.11 to 3.13 is needed, not %d.%d; set PYTHON=python3.12, say" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements-dev.txt -c constraints.txt
	touch $@

demo: DATASET = synthetic
demo: MODEL = mini_resnet
demo: EXPLAIN = --samples 7
demo: SHAP = --bg-samples 50 --shap-samples 100
demo: line

fer2013: DATASET = fer2013
fer2013: EXPLAIN = --samples $(SAMPLES)
fer2013: line

line: $(INSTALLED)
	$(RUN) train.py $(FLAGS) $(TRAIN)
	$(RUN) evaluate.py $(FLAGS)
	$(RUN) explain_lime.py $(FLAGS) $(EXPLAIN) $(LIME)
	$(RUN) explain_shap.py $(FLAGS) $(EXPLAIN) $(SHAP)
	$(RUN) report_generator.py --dataset $(DATASET) --outputs-dir $(OUTPUTS)
	@echo "Open the report: $(abspath $(OUTPUTS))/reports/$(DATASET).html"

test: $(INSTALLED)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m pytest

lock: $(INSTALLED)
	$(RUN) -m uv pip compile --universal --python-version 3.11 --no-header --no-annotate --upgrade requirements-dev.txt -o constraints.txt

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache
