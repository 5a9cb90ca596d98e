"""Loads a model in a process that has made none, and says which optimizer `compile` makes of Adam."""

import sys

import keras

import tfcompress  # noqa: F401

if __name__ == "__main__":
    model = keras.models.load_model(sys.argv[1])
    model.compile("adam", "mse")
    print(type(model.optimizer).__name__)
