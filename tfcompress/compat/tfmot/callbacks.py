"""A callback that is another one for a model of Keras 3 than for one of tf_keras."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras

from tfcompress.loading.keras2_packages import is_of_keras2


class ForEitherKeras(keras.callbacks.Callback):
    """Hands what it is told to the callbacks that its model needs, once that is known.

    A subclass says which these are, and with `hook` what they are told.
    """

    parts: Sequence[Any] = ()

    def parts_for(self, model: keras.Model) -> Sequence[Any]:
        """Return the callbacks for a model of Keras 3."""
        raise NotImplementedError

    def originals(self) -> Sequence[Any]:
        """Return the callbacks for models of tf_keras."""
        raise NotImplementedError

    def set_model(self, model: Any) -> None:
        """Say which model is trained."""
        self.parts = self.originals() if is_of_keras2(model) else self.parts_for(model)
        super().set_model(model)
        for part in self.parts:
            part.set_model(model)

    def set_params(self, params: Any) -> None:
        """Say how it is trained."""
        super().set_params(params)
        for part in self.parts:
            part.set_params(params)

    # What tf_keras asks a callback.

    def _implements_train_batch_hooks(self) -> bool:
        return True

    def _implements_test_batch_hooks(self) -> bool:
        return False

    def _implements_predict_batch_hooks(self) -> bool:
        return False


def hook(name: str) -> Callable[..., None]:
    """Return a method that calls the method of that name of all parts."""

    def call(self: ForEitherKeras, *args: Any, **kwargs: Any) -> None:
        for part in self.parts:
            getattr(part, name)(*args, **kwargs)

    call.__name__, call.__doc__ = name, "Say so to the callbacks for the model."
    return call


class Summaries(ForEitherKeras):
    """What writes to TensorBoard, and is told all that a training does."""

    on_train_begin = hook("on_train_begin")
    on_train_end = hook("on_train_end")
    on_epoch_begin = hook("on_epoch_begin")
    on_epoch_end = hook("on_epoch_end")
    on_train_batch_begin = hook("on_train_batch_begin")
    on_train_batch_end = hook("on_train_batch_end")
    on_test_begin = hook("on_test_begin")
    on_test_end = hook("on_test_end")
