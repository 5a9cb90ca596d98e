# Everything runs in .venv (what is tried against Keras' nightly: in .venv-nightly), which is made on first use; nothing else on the machine is touched.
PYTHON ?= python3
BIN := .venv/bin
# One for each core, eight at most: to start one and to let it find the tests takes eleven seconds of a processor, and each
# makes anew what tests share.
WORKERS ?= $(shell n=$$(nproc 2> /dev/null || echo 2); echo $$((n < 8 ? n : 8)))
export TF_CPP_MIN_LOG_LEVEL ?= 3
# Where Python is told to write no bytecode, each of the processes that tests run would compile all modules anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo docs test lint style types unit test-jax test-all test-nightly campaign bench clean

demo: .venv/.installed
	$(BIN)/python scripts/compress.py

test: lint unit test-jax

# Two at a time: reading all types takes as long as the others together.
lint: .venv/.dev
	+$(MAKE) --no-print-directory --jobs=2 types docs style

types: .venv/.dev
	$(BIN)/mypy

style: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

# The pages, in build/docs: nothing is fetched. What a link or a name in them lacks is an error.
docs: .venv/.dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

# Without what is marked as rare (setup.cfg says what that is).
unit: .venv/.dev .venv/.web
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m 'not rare'

# What runs on Keras' JAX backend, too.
ON_JAX := tests/core/test_keras_private.py tests/core/test_wrapper.py tests/graph/test_flatten.py tests/test_odd_models.py tests/test_distillation.py tests/test_new_process.py tests/pruning tests/precision \
	tests/quantization/numerics/test_fake_quant.py tests/quantization/graph/test_activation_quantizer.py tests/quantization/ptq/test_calibration.py \
	tests/quantization/test_quantize.py::test_zeros_of_a_pruned_model_stay_in_training \
	tests/cli/test_scripts.py::test_a_process_says_what_is_missing_before_it_waits_for_others

# What differs there once more on Keras' JAX backend: setup.cfg says what the mark means. Compiling is most of their time, and
# what XLA optimizes is no code of ours; `make test-all` lets it. What one worker has compiled the others need not.
test-jax: export JAX_COMPILATION_CACHE_DIR := $(CURDIR)/build/jax
test-jax: export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS := 0
test-jax: export JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES := -1
test-jax: .venv/.dev
	KERAS_BACKEND=jax JAX_DISABLE_MOST_OPTIMIZATIONS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m 'on_jax and not rare' $(ON_JAX)

# Every test there is, on both backends: before a release.
test-all: lint
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal
	KERAS_BACKEND=jax $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal $(ON_JAX)

# A slice of the tests of training, surgery and export, on the nightly build of Keras. There attention is computed by the
# backend, so that it stays one layer.
test-nightly: .venv-nightly/.installed
	.venv-nightly/bin/python -c "import keras; print('Keras', keras.__version__)"
	.venv-nightly/bin/python -m pytest -n $(WORKERS) --dist worksteal -k 'not attention' tests/core/test_keras_private.py tests/core/test_wrapper.py tests/graph/test_flatten.py tests/pruning/test_prune.py \
		tests/tracing/test_trace.py tests/export/tflite/test_to_tflite.py tests/export/onnx/test_to_onnx.py tests/quantization/test_quantize.py

# Long runs that try many models, calls and faults, and print counts.
campaign: .venv/.dev
	$(BIN)/python -m tests.campaigns.styles
	$(BIN)/python -m tests.campaigns.threads
	$(BIN)/python -m tests.campaigns.bad_calls
	$(BIN)/python -m tests.campaigns.command_lines
	$(BIN)/python -m tests.campaigns.damaged_files
	$(BIN)/python -m tests.campaigns.kills
	$(BIN)/python -m tests.campaigns.recipe_kills
	$(BIN)/python -m tests.campaigns.operators

bench: .venv/.bench
	$(BIN)/python -m benchmarks.training --part=tfmot --part=quantization
	$(BIN)/python -m benchmarks.conversion --part=float
	$(BIN)/python -m benchmarks.quantization
	$(BIN)/python -m benchmarks.inference --part=int8 --part=sparse

.venv/.installed: setup.cfg pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	touch $@

.venv/.dev: .venv/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[data,dev,docs,search,jax]'
	touch $@

# Always the newest: of yesterday's nightly nobody wants to know.
.PHONY: .venv-nightly/.installed
.venv-nightly/.installed: setup.cfg pyproject.toml
	test -x .venv-nightly/bin/python || $(PYTHON) -m venv .venv-nightly
	.venv-nightly/bin/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	.venv-nightly/bin/python -m pip uninstall --quiet --yes keras
	.venv-nightly/bin/python -m pip install --quiet --disable-pip-version-check --upgrade --force-reinstall --no-deps --pre keras-nightly

.venv/.bench: .venv/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	touch $@

# ONNX Runtime for the web, where Node is there: elsewhere its tests are skipped, and say so.
.venv/.web: .venv/.installed
	! command -v npm > /dev/null || npm install --silent --no-audit --no-fund --ignore-scripts --prefix .venv/web onnxruntime-web@1.30.0
	touch $@

clean:
	rm -rf .venv .venv-nightly .pytest_cache .mypy_cache .ruff_cache .import_linter_cache build *.egg-info
