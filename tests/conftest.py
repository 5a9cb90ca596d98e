"""Fixtures shared by all tests."""

import gc
import os
import warnings

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")

import keras
import pytest

from tests import quick_timing
from tests.once import SEED, check_unchanged

gc.set_threshold(10_000, 20, 10)  # what is imported and made is much, and seldom garbage


def pytest_collection_modifyitems(items):
    """Begin with the tests that take long."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(autouse=True)
def seeded():
    """Every test starts from the same seed and an empty Keras session."""
    keras.utils.clear_session(free_memory=False)
    keras.utils.set_random_seed(SEED)


@pytest.fixture(autouse=True)
def unchanged():
    """No test changes what is made once for several."""
    yield
    check_unchanged()


@pytest.fixture(autouse=True)
def traced_once(monkeypatch):
    """Optimizers have their variables before they train: of a step that makes them TensorFlow throws the trace away.

    Processes of their own (`tests.programs`) train without this.
    """
    if keras.backend.backend() != "tensorflow":
        return
    make = keras.Model.make_train_function

    def make_train_function(self, force=False):
        optimizer = self.optimizer
        if optimizer is not None and self.built and not self.run_eagerly:
            with self.distribute_strategy.scope():
                if not optimizer.built:
                    optimizer.build(self.trainable_variables)
        return make(self, force)

    monkeypatch.setattr(keras.Model, "make_train_function", make_train_function)


@pytest.fixture(scope="session", autouse=True)
def no_stacks():
    """TensorFlow notes where each operation of a graph was made; to read that, deep in a test, is a fifteenth of all.

    Its messages name another line; those of Python's exceptions, and of processes of their own, are as always.
    """
    if keras.backend.backend() != "tensorflow":
        yield
        return
    from tensorflow.python.util import tf_stack

    here = tf_stack.extract_stack()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tf_stack, "extract_stack", lambda stacklevel=1: here)
        yield


@pytest.fixture(autouse=True)
def quickly_timed(monkeypatch):
    """Tests needn't wait for latencies that are taken for seconds."""
    monkeypatch.setattr(quick_timing.timing, "time_predictors", quick_timing.time_predictors)


@pytest.fixture(scope="module", autouse=True)
def little_garbage():
    """TFLite's converter collects all garbage in each conversion: it needn't look at what was there before."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def tfmot():
    """The reference, imported without what its import does to the process."""
    before = os.environ.get("TF_USE_LEGACY_KERAS")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tensorflow_model_optimization
    if before is None:
        os.environ.pop("TF_USE_LEGACY_KERAS", None)
    return tensorflow_model_optimization
