# demo, test and the rest install what they need into .venv. Python 3.11 or later and a package index are enough.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
TORCH ?= torch==2.13.0
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet

.PHONY: help demo test check evaluate evaluate-quick fidelity precision bench bench-partition attacks audits tamper fuzz gpu-check train vectors clean

help:
	@echo "make demo      partition the shipped model, start two servers, draw a picture into demo/ (no torch needed)"
	@echo "make test      all tests, against diffusers as the oracle"
	@echo "make check     ruff and mypy"
	@echo "make evaluate  quality and leakage on 200 prompts, against the paper's claims; about 40 minutes on 2 cores"
	@echo "make evaluate-quick  the same with few pictures, to see that it works; minutes"
	@echo "make fidelity  20 prompts x 3 schedulers against diffusers in float32; about 20 minutes on 2 cores"
	@echo "make precision the same for packages whose answers are truncated: balanced and fast"
	@echo "make bench     seconds and bytes of a private picture and of the same picture computed locally"
	@echo "make bench-partition  FLOPs and bytes of sd15, sd21, sd-turbo, lcm and sdxl by offloaded share; tens of minutes"
	@echo "make attacks   every attack of tools/attacks at full size, with its verdict; minutes"
	@echo "make audits    how often altered answers escape audits, over 30,000 sessions; about 4 minutes"
	@echo "make tamper    100,000 tampered answers, each caught and its liar named, and a million honest ones; about 15 minutes"
	@echo "make fuzz      a million damaged inputs to everything that reads what strangers send; about 10 minutes"
	@echo "make gpu-check exactness, load and speed of every engine that runs on this machine's GPU; minutes"
	@echo "make train     the shipped model anew, from npm packages, into build/train/model; hours on 2 cores, goes on where it was"
	@echo "make vectors   regenerate tests/vectors"

demo: .venv/demo.stamp
	$(BIN)/python tools/demo.py

test: .venv/test.stamp
	$(BIN)/pytest -m "not slow"

check: .venv/test.stamp
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

evaluate: .venv/test.stamp
	$(BIN)/python -m tools.train fetch
	$(BIN)/python -m tools.evaluate

evaluate-quick: .venv/test.stamp
	$(BIN)/python -m tools.train fetch
	$(BIN)/python -m tools.evaluate --size quick

fidelity: .venv/test.stamp
	$(BIN)/python tools/fidelity.py

precision: .venv/test.stamp
	$(BIN)/python tools/fidelity.py --precision balanced
	$(BIN)/python tools/fidelity.py --precision fast

bench: .venv/test.stamp
	$(BIN)/python tools/bench.py

bench-partition: .venv/test.stamp
	$(BIN)/python tools/bench_partition.py

attacks: .venv/test.stamp
	$(BIN)/python tools/attacks/run.py --output docs/measurements/attacks.json

audits: .venv/test.stamp
	$(BIN)/python tools/audits.py

tamper: .venv/test.stamp
	$(BIN)/python tools/tamper.py

fuzz: .venv/test.stamp  # without atheris (no wheel for this system) Hypothesis makes the inputs
	-$(PIP) --editable '.[fuzz]'
	$(BIN)/python tools/fuzz/run.py

gpu-check: .venv/test.stamp
	tools/gpu_check.sh

train: .venv/test.stamp
	$(BIN)/python -m tools.train fetch
	$(BIN)/python -m tools.train vae
	$(BIN)/python -m tools.train unet
	$(BIN)/python -m tools.train sample build/train/sheet.png
	$(BIN)/python -m tools.train export build/train/model

vectors: .venv/test.stamp
	$(BIN)/python tools/make_vectors.py

clean:
	rm -rf .venv demo build dist

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/demo.stamp: pyproject.toml | .venv/bin/python
	$(PIP) --editable '.[partition,server]'
	touch $@

.venv/test.stamp: pyproject.toml | .venv/bin/python
	$(PIP) '$(TORCH)'
	$(PIP) --editable '.[export,server,test]'
	touch $@ .venv/demo.stamp
