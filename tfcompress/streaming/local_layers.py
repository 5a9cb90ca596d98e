"""Convolutions, poolings, paddings and croppings in a step: they read some earlier frames, which states hold."""

from __future__ import annotations

from typing import Any

import keras

from tfcompress.core.passthrough import innermost
from tfcompress.graph.rewrite import Call
from tfcompress.layers.catalogue import traits_of
from tfcompress.streaming.timeline import Timeline
from tfcompress.streaming.walk import Walk
from tfcompress.streaming.windows import Window


def windows_in_step(walk: Walk, call: Call, time: Timeline, window: Window) -> None:
    """Let a convolution or pooling read frames of earlier steps, without padding.

    Args:
        walk: where the step model is made.
        call: of the layer.
        time: of what it reads.
        window: what it reads along time in the whole model.

    Raises:
        ValueError: the frames of a step are no multiple of its stride, or it pads what can't be padded before it.
    """
    operation = call.operation
    if time.frames % window.stride:
        raise walk.refused(
            call,
            f"which makes one frame of {window.stride}, while a step has {time.frames} there: take frames="
            f"{walk.frames * window.stride}, or another multiple",
        )
    if window.same and window.stride > 1 and time.length is None:
        walk.notes[
            f"{operation.name!r} is padded 'same' with stride {window.stride}: its frames are those of the whole model "
            f"on as many frames as make a multiple of {window.stride} there."
        ] = None
    (x,) = walk.read(call)
    pooling = traits_of(operation).channels == "local"
    if any(window.beside):
        if pooling:
            raise walk.refused(call, "which is padded ('same') along another axis than time: pool without padding")
        x = _padded_beside(walk, call, x, window.beside)
    padded = time.after_zeros(window.before, window.behind)
    padded = padded.changed if pooling and window.before else padded
    kept = padded.kept(window.extent, window.stride)
    if kept:
        x = walk.states.before(operation.name, x, kept)
    innermost(operation).padding = "valid"
    walk.same(call, padded.windows(window.extent, window.stride), [x])


def _padded_beside(walk: Walk, call: Call, x: Any, sides: tuple[int, int]) -> Any:
    """Put zeros along the axis behind time."""
    name = walk.states.name(call.operation.name, "pad")
    padding = keras.layers.ZeroPadding2D(((0, 0), sides), name=name, dtype=x.dtype)
    return walk.states.on_grid(padding(x), x)


def padding_in_step(walk: Walk, call: Call, time: Timeline) -> None:
    """Leave out the zeros or the cropping of a layer along time, which states stand for.

    Args:
        walk: where the step model is made.
        call: of the layer.
        time: of what it makes.
    """
    layer, (x,) = innermost(call.operation), walk.read(call)
    what = "padding" if hasattr(layer, "padding") else "cropping"
    sizes = getattr(layer, what)
    if isinstance(sizes[0], int) or not any(sizes[1]):
        made = x
    else:
        kind = keras.layers.ZeroPadding2D if what == "padding" else keras.layers.Cropping2D
        name = walk.states.name(call.operation.name, what)
        made = walk.states.on_grid(kind(((0, 0), sizes[1]), name=name, dtype=x.dtype)(x), x)
    walk.keep(call, made, time)
