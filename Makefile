# make install      all packages of requirements-dev.txt into .venv
# make install-cpu  the same with torch's CPU wheel, for machines without an NVIDIA GPU
# make demo         every stage on the embedded drawn faces; no data set to download
# make fer2013      every stage on FER2013: make fer2013 DATA=/path/to/folder MODEL=fer_resnet
# make test         ruff, mypy, and pytest in two processes without the tests marked slow
# make test-all     the same with every test
# make lint         ruff and mypy alone
# make lock         resolves constraints.txt again
# make clean        removes .venv and the caches of the tools

PYTHON ?= python3
VENV ?= .venv
DATA ?= data
OUTPUTS ?= outputs
MODEL ?= fer_resnet
SAMPLES ?= 14
WORKERS ?= 2
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

BIN := $(VENV)/bin
RUN := $(BIN)/python
PIP := $(BIN)/pip --disable-pip-version-check
INSTALLED := $(VENV)/.installed
FLAGS = --dataset $(DATASET) --model $(MODEL) --data-dir $(DATA) --outputs-dir $(OUTPUTS)

.PHONY: install install-cpu demo fer2013 line lint test test-all lock clean

install: $(INSTALLED)

install-cpu: $(RUN)
	$(PIP) install --quiet torch torchvision --index-url $(TORCH_INDEX)
	grep -vE '^(torch|torchvision)==' constraints.txt > $(VENV)/constraints-cpu.txt
	$(PIP) install --quiet -r requirements-dev.txt -c $(VENV)/constraints-cpu.txt
	$(RUN) -c 'import torchvision' || { echo "torch and torchvision do not fit; both must come from TORCH_INDEX=$(TORCH_INDEX)"; exit 1; }
	touch $(INSTALLED)

$(RUN):
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "Python 3.11 to 3.13 is needed, not %d.%d; set PYTHON=python3.12, say" % sys.version_info[:2])'
	$(PYTHON) -m venv $(VENV)

$(INSTALLED): requirements.txt requirements-dev.txt constraints.txt | $(RUN)
	$(PIP) install --quiet -r requirements-dev.txt -c constraints.txt
	touch $@

demo: ABOUT = The demo runs every stage once on 4,000 drawn faces, writes below $(OUTPUTS)/ and opens nothing. On 2 cores: 2 minutes, 3 without bfloat16.
demo: TAKES_TRAIN = , 1 to 2 minutes
demo: TAKES_EVALUATE = , some 10 seconds
demo: TAKES_LIME = , some 15 seconds
demo: TAKES_SHAP = , some 15 seconds
demo: TAKES_REPORT = , some 5 seconds
demo: DATASET = synthetic
demo: MODEL = mini_resnet
demo: EXPLAIN = --samples 7
demo: SHAP = --bg-samples 20
demo: line

fer2013: ABOUT = Every stage on FER2013, below $(OUTPUTS)/; training takes minutes to hours on a CPU, shows the time left, and goes on with TRAIN=--resume.
fer2013: DATASET = fer2013
fer2013: EXPLAIN = --samples $(SAMPLES)
fer2013: line

line: $(INSTALLED)
	@echo "$(ABOUT)"
	@echo "1 of 5: training$(TAKES_TRAIN)"
	$(RUN) train.py $(FLAGS) $(TRAIN)
	@echo "2 of 5: evaluation on the test faces$(TAKES_EVALUATE)"
	$(RUN) evaluate.py $(FLAGS)
	@echo "3 of 5: LIME$(TAKES_LIME)"
	$(RUN) explain_lime.py $(FLAGS) $(EXPLAIN) $(LIME)
	@echo "4 of 5: SHAP$(TAKES_SHAP)"
	$(RUN) explain_shap.py $(FLAGS) $(EXPLAIN) $(SHAP)
	@echo "5 of 5: the report$(TAKES_REPORT)"
	$(RUN) report_generator.py --dataset $(DATASET) --outputs-dir $(OUTPUTS)
	@echo "Open the report: $(abspath $(OUTPUTS))/reports/$(DATASET).html"

lint: $(INSTALLED)
	$(RUN) -m ruff check .
	$(RUN) -m ruff format --check .
	$(RUN) -m mypy

# With restarts, xdist waits for ever for the tests of a process that died.
PYTEST := $(RUN) -m pytest -n $(WORKERS) --dist loadfile --max-worker-restart 0

test: lint
	$(PYTEST) -m "not slow"

test-all: lint
	$(PYTEST)

lock: $(INSTALLED)
	$(RUN) -m uv pip compile --universal --python-version 3.11 --no-header --no-annotate --upgrade requirements-dev.txt -o constraints.txt

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache
