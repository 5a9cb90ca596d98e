"""Loads models in a process that has made none, and says which optimizer `compile` makes of Adam for each."""

import sys

import keras

import tfcompress  # noqa: F401

if __name__ == "__main__":
    for path in sys.argv[1:]:
        model = keras.models.load_model(path)
        model.compile("adam", "mse")
        print(type(model.optimizer).__name__)
