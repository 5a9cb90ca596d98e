"""What TensorFlow logs of models that this package makes isn't for the user."""

import logging

import keras
import numpy as np

from tfcompress.core.replicas import predict_on_batch

RETRACED = "5 out of the last 5 calls to <function one_step> triggered tf.function retracing. Tracing is expensive"


def test_advice_on_retracing_is_held_back(caplog, monkeypatch):
    """Each model is traced once, and TensorFlow, which counts them together, says that it is often."""
    logger = logging.getLogger("tensorflow")
    monkeypatch.setattr(logger, "propagate", True)
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])

    def predict(batch):
        logger.warning(RETRACED)
        logger.warning("the disk is full")
        return batch

    monkeypatch.setattr(model, "predict_on_batch", predict)
    predict_on_batch(model, np.ones((1, 2), "float32"))
    logger.warning(RETRACED)  # in the user's own code it is said
    assert [record.getMessage() for record in caplog.records] == ["the disk is full", RETRACED]
