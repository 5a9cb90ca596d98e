"""Mixed precision on a model that is there already, and back."""

from __future__ import annotations

import contextlib
import functools
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np
from keras.layers import Layer

from tfcompress.core.keras_private import flatten_layers, is_cast, own_variables
from tfcompress.core.old_calls import accepts_old_calls
from tfcompress.core.passthrough import innermost
from tfcompress.core.replicas import place_of
from tfcompress.core.transform import read
from tfcompress.graph import check_built, rebuild
from tfcompress.graph.config_map import LayerConfigs
from tfcompress.graph.keras_quantized import check_floats
from tfcompress.graph.rewrite import calls
from tfcompress.graph.selectors import Layers
from tfcompress.layers.names import is_of_keras
from tfcompress.precision.casting import CastError, in_float32, with_policy
from tfcompress.precision.float32_rule import ASKED, LOSS, named, reasons
from tfcompress.precision.operation_kinds import has_policy
from tfcompress.precision.policies import AUTO, HALVES, policy_name, resolve
from tfcompress.precision.trial_run import Trial
from tfcompress.quantization.graph.activation_quantizer import activation_quantizers
from tfcompress.quantization.graph.float16_grids import warn_of_lost_grids
from tfcompress.quantization.numerics.float16_range import check_half


@accepts_old_calls(places=((2, "keep_float32", None),))
def mixed_precision(
    model: keras.Model,
    policy: str | keras.DTypePolicy | LayerConfigs | Mapping[Any, Any] = "auto",
    *,
    keep_float32: Layers = None,
) -> keras.Model:
    """Return a model like `model` that computes in 16 bits, with float32 weights (Micikevicius et al., 2018).

    Every layer gets the policy, and these stay float32, for range or for precision:

    - what makes an output: the last layer with weights before it, or where several tensors meet, and what follows;
    - softmax and other exponentials, as layers, as fused activations (with the whole layer), inside of attention;
    - the statistics of normalizations: batch, layer, group and RMS normalization compute theirs in float32 under any
      policy; unit and spectral normalization don't, and stay float32 as a whole;
    - losses and metrics, which Keras computes in float32, and layers that add a loss of their outputs;
    - fake-quant, masks and all other state of this package; layers that compare data to make a mask;
    - what sees raw data (layers for preprocessing and augmentation), and what hands such data, or indices, on to it;
    - of operations without a layer: exponentials, powers, logarithms and sums; under float16 those with a constant
      beyond 65504, as masks of attention have;
    - a layer of your own, as a whole, whose call has such an operation on 16-bit numbers (one that casts them to
      float32 itself gets the policy); a call that can't be read, as it uses the backend's functions, gets the policy,
      as Keras would do it; Lambda, which says nothing of itself, doesn't;
    - what is computed in integers or float64 stays so, and what `keep_float32` names is float32.

    `print(tfcompress.explain(mixed))` says for each layer what it computes in, and why. `compile` scales the
    loss under float16 as Keras does; in a loop of your own take a `keras.optimizers.LossScaleOptimizer`. Prune,
    quantize and distill what comes back as any model; files are float32, or float16 if `tfcompress.export` is told so.

    Args:
        model: A built Keras model of any kind, plain, pruned, or quantized but not calibrated; it is not changed.
        policy: "mixed_float16", "mixed_bfloat16", "float32", or a `keras.DTypePolicy` of such a name. "auto":
            mixed_float16 on GPUs of compute capability 7.0 and above, mixed_bfloat16 on TPUs and on CPUs with
            AVX512-BF16 or AMX, else float32; a line says which and why, unless Keras' interactive logging is off.
            Or one for each layer (`tfc.LayerConfigs`): {name, regular expression, class or function: policy or `None`},
            of which the first key that matches a layer counts. Without one a layer computes in what it does now.
        keep_float32: What else is to stay float32: a name, a regular expression, a class of layers, several of these,
            or a function from a layer to bool. Names may be those of operations, too. What was float32 by hand, or
            by an earlier `keep_float32`, is to be named again: every layer gets the policy anew.

    Returns:
        A functional model with the same weights and the same names of inputs and outputs, not compiled.

    Raises:
        TypeError: If `model` is no Keras model, or `policy` or `keep_float32` is of another type.
        ValueError: If the policy is unknown or the device can't compute so; if the model isn't built, can't be opened,
            has calibrated ranges or was quantized by Keras; if a weight is beyond float16; or if `keep_float32`
            matches nothing, a function that is never true included.

    Warns:
        UserWarning: If the device is slow with the policy, if a layer of yours stays float32 as it fails otherwise, or
            if quantizers have more bits than the policy's numbers.

    Example:

    >>> import keras, tfcompress as tfc
    >>> layers = [keras.Input((8,)), keras.layers.Dense(4, name="hidden"), keras.layers.Dense(2, name="logits")]
    >>> mixed = tfc.mixed_precision(keras.Sequential(layers), "mixed_bfloat16")
    >>> [mixed.get_layer(name).compute_dtype for name in ("hidden", "logits")]
    ['bfloat16', 'float32']
    """
    choice = named(keep_float32)
    configs = None if isinstance(policy, keras.dtype_policies.DTypePolicyMap) else LayerConfigs.given(policy)
    name = "" if configs is not None else _resolved(policy)
    check_built(model)
    check_floats(model, "Cast")
    with place_of(model), _no_global_policy():
        flat = rebuild(model)
        wide: frozenset[str] = frozenset()
        if configs is not None:
            name, wide = _policies(flat, configs)
        if name != "float32" or _has_half(model):
            _check_no_ranges(model)
        if _has_half(flat):
            flat = in_float32(flat, keep_casts=True)
        kept = reasons(flat, choice, name)
        choice.check()
        for layer in flat.layers:
            if layer.name in wide:
                kept.setdefault(id(layer), ASKED)
        if name == "float32":
            return in_float32(flat, keep_casts=True)
        if name == "mixed_float16":
            advice = "Name that layer in keep_float32, or take 'mixed_bfloat16', whose range is float32's."
            check_half(weights_in_half(c.operation for c in calls(flat) if id(c.operation) not in kept), advice)
        mixed = cast(flat, name, kept)[0]
        warn_of_lost_grids(mixed)
        return mixed


def full_precision(model: keras.Model) -> keras.Model:
    """Return a model like `model` that computes in float32, with the same weights; casts to 16 bits are taken out.

    Args:
        model: A built Keras model of any kind, as `tfcompress.mixed_precision` or a global policy made it, pruned or
            quantized or not; it is not changed. Layers that compute in integers or in float64 stay as they are.

    Returns:
        A functional model of Keras' own class with the same names of inputs and outputs, not compiled.

    Raises:
        TypeError: If `model` is no Keras model.
        ValueError: If the model isn't built, can't be opened, or was quantized by Keras.

    Example:

    >>> import keras, numpy as np, tfcompress as tfc
    >>> model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4), keras.layers.Dense(2)])
    >>> again = tfc.full_precision(tfc.mixed_precision(model, "mixed_bfloat16"))
    >>> bool(np.all(again(np.ones((1, 8))) == model(np.ones((1, 8)))))
    True
    """
    check_built(model)
    check_floats(model, "Cast")
    with place_of(model), _no_global_policy():
        return in_float32(rebuild(model))


def _resolved(policy: Any) -> str:
    """Return the name of a policy, and say which "auto" is."""
    name, said = resolve(policy)
    if said and keras.config.is_interactive_logging_enabled():
        print(said)
    return name


def _policies(flat: keras.Model, configs: LayerConfigs) -> tuple[str, frozenset[str]]:
    """Return the policy of 16 bits, or "float32", of a config for each layer; and the layers that are to be float32."""
    best = functools.cache(lambda: _resolved(AUTO))
    resolved = configs.resolve(flat.layers, lambda one: best() if policy_name(one) == AUTO else policy_name(one))
    now = {layer.name: getattr(innermost(layer), "compute_dtype", None) for layer in flat.layers}
    wanted = {
        name: resolved.of(name) or (f"mixed_{dtype}" if dtype in HALVES else "float32") for name, dtype in now.items()
    }
    halves = sorted(set(wanted.values()) - {"float32"})
    if len(halves) > 1:
        raise ValueError(
            "Expected one policy of 16 bits beside float32 in a model: where they meet, every number would be cast to "
            f"float32 and back. Received: {' and '.join(map(repr, halves))}. Give all layers the same, or 'float32'."
        )
    return _resolved(halves[0]) if halves else "float32", frozenset(
        name for name, one in wanted.items() if one == "float32"
    )


@contextlib.contextmanager
def _no_global_policy() -> Iterator[None]:
    """Let models, and layers that don't save their policy, be made in float32 unless they are told otherwise."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def _check_no_ranges(model: keras.Model) -> None:
    calibrated = next((q for q in activation_quantizers(model) if q.learns and q.calibrated), None)
    if calibrated is not None:
        raise ValueError(
            "Expected a model without calibrated ranges: they hold for the precision that they were found in. "
            f"Received: {model.name!r} with that of {calibrated.source or calibrated.name!r}. Cast first, then "
            "quantize: tfcompress.quantize(tfcompress.mixed_precision(model), ...)."
        )


def _has_half(model: keras.Model) -> bool:
    return any(layer.compute_dtype in HALVES for layer in flatten_layers(model, include_self=False))


def weights_in_half(operations: Any) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the weights that layers cast to 16 bits, each once."""
    seen: set[int] = set()
    for operation in operations:
        inner = innermost(operation)
        if not has_policy(inner):
            continue
        for part in flatten_layers(inner):
            embeds = isinstance(part, keras.layers.Embedding)  # it casts what it looks up
            for weight in own_variables(part):
                cast = embeds or (part.autocast and is_cast(weight))
                if cast and id(weight) not in seen and keras.backend.is_float_dtype(weight.dtype):
                    seen.add(id(weight))
                    yield f"{operation.name}/{weight.name}", read(weight).astype("float32")


def cast(flat: keras.Model, policy: str, kept: Mapping[int, str]) -> tuple[keras.Model, dict[int, str]]:
    """Give a flat model a policy; a layer of the user's own that adds a loss, or fails with it, stays float32.

    Args:
        flat: A flat functional model in float32; it isn't changed.
        policy: "mixed_float16" or "mixed_bfloat16".
        kept: What stays float32, by id, and why.

    Returns:
        The new model, and what stayed float32 in the end.

    Raises:
        ValueError: If a layer of Keras or an operation fails with the policy.

    Warns:
        UserWarning: Of layers of the user's own that fail.
    """
    kept = dict(kept)
    named_so = {call.operation.name: call.operation for call in calls(flat)}
    trial = Trial(flat)
    while True:
        try:
            made = with_policy(flat, policy, kept)
            losses = [named_so[name] for name in trial.run(made) if name in named_so]
        except CastError as failure:
            _keep(named_so[failure.operation.name], failure, policy, kept)
            continue
        again = [layer for layer in losses if id(layer) not in kept]
        if not again:
            return made, kept
        kept.update((id(layer), LOSS) for layer in again)


def _keep(layer: Any, failure: CastError, policy: str, kept: dict[int, str]) -> None:
    """Let a layer stay float32, with a warning; or raise ValueError if that is no way out."""
    inner = innermost(layer)
    if id(layer) in kept:
        raise ValueError(
            f"Expected layers that run in training and in inference. Received: {layer.name!r} of class "
            f"{type(inner).__name__}, which fails in float32 beside layers with {policy!r}: {failure}. Let it take "
            "inputs of any dtype, or name the layers before it in keep_float32."
        ) from failure.__cause__
    if not isinstance(layer, Layer) or is_of_keras(inner):
        raise ValueError(
            f"Expected a policy that this device can run. Received: {policy!r}, with which {layer.name!r} of "
            f"class {type(inner).__name__} fails: {failure}. Take another policy, or name it in keep_float32."
        ) from failure.__cause__
    warnings.warn(
        f"Layer {layer.name!r} of class {type(inner).__name__} stays float32, since with {policy!r} its call "
        f"fails: {failure}. Use self.compute_dtype there, or name the layer in keep_float32.",
        stacklevel=5,
    )
    kept[id(layer)] = str(failure)
