"""Pruning a model: wrapping its layers, to be trained so, or once and without training."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import keras

from tfcompress.core.arguments import check_keywords, check_model
from tfcompress.core.keras_private import loss_weights
from tfcompress.core.old_calls import accepts_old_calls
from tfcompress.core.replicas import place_of
from tfcompress.core.wrapper import wrapped_layers
from tfcompress.core.wrappers import warn_of_remarks
from tfcompress.graph import LayerChoice, check_built
from tfcompress.graph.config_map import LayerConfigs
from tfcompress.graph.inputs.declared import takes_inputs
from tfcompress.graph.keras_quantized import check_floats
from tfcompress.graph.recursion_limit import as_given
from tfcompress.graph.selectors import Layers, chooses_layers
from tfcompress.graph.strip import stripped
from tfcompress.pruning.channel_pruning import prune_channels
from tfcompress.pruning.gradient_statistics import Evidence, check_evidence
from tfcompress.pruning.granularity import STRUCTURES
from tfcompress.pruning.kernel_pruning import prune_kernels
from tfcompress.pruning.prune_by_layer import prune_by_layer
from tfcompress.pruning.prune_config import OLD_FIELDS, PruneConfig
from tfcompress.pruning.schedules import ConstantSparsity


@accepts_old_calls(places=((2, "layers", chooses_layers),))
@takes_inputs
def prune(
    model: keras.Model,
    config: PruneConfig | Any,
    data: Any = None,
    layers: Layers = None,
    *,
    loss: Any = None,
    batch_size: int = 32,
    input_shapes: Any = None,
    input_dtypes: Any = None,
) -> keras.Model:
    """Return a model like `model` that prunes itself while it is trained.

    In every training step the layers see masked weights; at the steps that the schedule names, the masks are
    computed anew. The weights under the mask are really zero at the end of every batch (on TensorFlow; on
    JAX when the model is stripped). No callback is needed; training resumes in mid-schedule from a saved
    file.

    Args:
        model: A built Keras model of any kind; it is not changed.
        config: A `PruneConfig`, a schedule, or the share of zeros in [0, 1) from the first step on; or one for each
            layer (`tfc.LayerConfigs`): {name, regular expression, class or function: config or `None`}, of which the
            first key that matches a layer counts. With scope "global" the layers of one key share a budget.
        data: For criteria that look at data: `(x, y)` arrays, or an iterable of such batches; `x` alone for
            "activation_frequency". Statistics of gradients are gathered from it now, and in training without it.
        layers: Which layers: `None` for all with a kernel; a name or regular expression, or several; or a
            function from a layer to bool. Layers inside of nested models and composite layers go by the
            names that `tfc.summary` shows. Channels that several layers make together are pruned if all of these
            are meant.
        loss: For "gradient" and "movement" with `data`; by default the one that `model` is compiled with, with its
            `loss_weights`.
        batch_size: Samples in a batch of arrays.
        input_shapes: Sizes of the model's free dimensions to try it with, where those that are tried by themselves
            won't do: a shape, a list of them or a dict by input name, with the batch (None) or without. Of a
            subclassed model that recorded no shapes, its shapes.
        input_dtypes: Of a subclassed model, which keeps none: such as "int32", or one for each input.

    Returns:
        A functional model with the same names of inputs and outputs, not compiled. Where all layers have one budget,
        at least one weight (block, channel, head) is kept in each; of what has become so small `tfcompress.strip`
        warns.

    Raises:
        TypeError: If `model` is no Keras model.
        ValueError: If the model isn't built or can't be opened, if `layers` matches nothing, if a layer
            that is named has nothing to prune or is pruned already, if a weight is NaN or infinite, if a block is
            larger than a kernel, or if a criterion lacks data or a loss.

    Example:

    >>> import keras, tfcompress as tfc
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="dense")])
    >>> pruned = tfc.prune(model, tfc.PolynomialSparsity(0.0, 0.75, begin_step=0, end_step=300))
    >>> pruned.compile("sgd", "mse")  # and fit, as always
    """
    check_model(model)
    with place_of(model):
        return _prune(model, config, layers, Evidence(data, loss, batch_size), at_once=False)


def _prune(
    model: keras.Model,
    config: Any,
    layers: Layers,
    evidence: Evidence,
    *,
    at_once: bool,
    read: Callable[[Any], PruneConfig] = PruneConfig.get,
) -> keras.Model:
    configs = LayerConfigs.given(config)
    config = None if configs is not None else read(config)
    choice = LayerChoice(layers)
    check_built(model)
    check_floats(model, "Prune")
    if evidence.loss is None:
        evidence = dataclasses.replace(evidence, loss=getattr(model, "loss", None), loss_weights=loss_weights(model))

    def one(model: keras.Model, config: PruneConfig, choice: LayerChoice, evidence: Evidence) -> keras.Model:
        check_evidence(config, evidence, at_once)
        how = prune_channels if config.granularity in STRUCTURES else prune_kernels
        return how(model, config, choice, evidence)

    if configs is not None:
        return prune_by_layer(model, configs, read=read, choice=choice, evidence=evidence, one=one)
    assert config is not None
    return one(model, config, choice, evidence)


@accepts_old_calls(names=OLD_FIELDS)
@takes_inputs
def prune_once(
    model: keras.Model,
    sparsity: Any,
    data: Any = None,
    layers: Layers = None,
    *,
    loss: Any = None,
    batch_size: int = 32,
    input_shapes: Any = None,
    input_dtypes: Any = None,
    **config: Any,
) -> keras.Model:
    """Return a copy of a model whose least important weights are zero, without training.

    Args:
        model: A built Keras model of any kind; it is not changed.
        sparsity: Share of zeros, in [0, 1); or one for each layer, as `prune` takes its config.
        data: For criteria that look at data, as in `prune`; "magnitude" doesn't.
        layers: Which layers, as in `prune`.
        loss: As in `prune`.
        batch_size: Samples in a batch of arrays.
        input_shapes: As in `prune`.
        input_dtypes: As in `prune`.
        **config: The fields of `PruneConfig`, such as `scope="global"`.

    Returns:
        A model of plain layers, not compiled: functional, or a Sequential where the model is one.

    Raises:
        TypeError: If `model` is no Keras model, or `config` holds an unknown name.
        ValueError: As `prune`.

    Example:

    >>> import keras, tfcompress as tfc
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4, name="dense")])
    >>> tfc.sparsity(tfc.prune_once(model, 0.75))
    0.75
    """
    check_model(model)
    fields = [field.name for field in dataclasses.fields(PruneConfig) if field.name != "schedule"]
    check_keywords("a PruneConfig", config, ["layers", "loss", "batch_size", *fields])

    def read(share: float) -> PruneConfig:
        return PruneConfig(ConstantSparsity(share, frequency=1), **config)

    with place_of(model):
        pruned = _prune(model, sparsity, layers, Evidence(data, loss, batch_size), at_once=True, read=read)
        update_masks(pruned)
        warn_of_remarks(pruned)
        return as_given(stripped(pruned))


def update_masks(model: keras.Model) -> None:
    """Do to the masks what one training step does, without training: count the step, follow the schedule."""
    wrappers = wrapped_layers(model)
    done: set[Any] = set()
    for wrapper in wrappers:
        wrapper.update(wrappers, done)
