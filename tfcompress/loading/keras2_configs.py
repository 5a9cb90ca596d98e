"""Read a configuration of Keras 2 as Keras 3 must, to mean the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import keras

UNUSED: dict[str, dict[str, Any]] = {
    "DepthwiseConv1D": {"groups": 1},
    "DepthwiseConv2D": {"groups": 1},
    "Conv3DTranspose": {"groups": 1},
    "Conv2DTranspose": {"groups": 1},
    "Conv1DTranspose": {"groups": 1},
    "ConvLSTM1D": {"time_major": False},
    "ConvLSTM2D": {"time_major": False},
    "ConvLSTM3D": {"time_major": False},
    "RNN": {"time_major": False},
    "SimpleRNN": {"time_major": False},
    "GRU": {"time_major": False},
    "LSTM": {"time_major": False},
    "BatchNormalization": {"renorm": False, "virtual_batch_size": None},
    "SpatialDropout1D": {"noise_shape": None, "trainable": True},
    "SpatialDropout2D": {"noise_shape": None, "trainable": True},
    "SpatialDropout3D": {"noise_shape": None, "trainable": True},
    "MultiHeadAttention": {"softmax_robust_masking": False},
    # Keras 3 takes the word for the name of its function `dot`; it is the default.
    "Attention": {"score_mode": "dot"},
    "Embedding": {"input_length": ...},
}
"""{layer: {argument that Keras 3 doesn't have: the value that says nothing; ... for any}}."""

KERNEL: dict[str, Any] = dict.fromkeys(("kernel_initializer", "kernel_regularizer", "kernel_constraint"), ...)
UNUSED |= {name: {"groups": 1, **KERNEL} for name in ("SeparableConv1D", "SeparableConv2D")}
UNUSED["MultiHeadAttention"].update(dict.fromkeys(("query_shape", "key_shape", "value_shape"), ...))

ACTIVATIONS = {
    "nn.relu": "relu",
    "nn.relu6": "relu6",
    "nn.silu": "silu",
    "nn.swish": "silu",
    "nn.softmax": "softmax",
    "nn.gelu": "gelu",
    "math.sigmoid": "sigmoid",
    "math.tanh": "tanh",
}
RECURRENT = ("RNN", "SimpleRNN", "GRU", "LSTM", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D", "Bidirectional")
ADD = ("__operators__.add", "math.add")
MULTIPLY = ("math.multiply", "__operators__.mul")
SUBTRACT = ("math.subtract", "__operators__.sub")
MERGES = {
    **dict.fromkeys(ADD, "Add"),
    **dict.fromkeys(MULTIPLY, "Multiply"),
    **dict.fromkeys(SUBTRACT, "Subtract"),
}


@keras.saving.register_keras_serializable(package="tfcompress")
def keras2_hard_sigmoid(x: Any) -> Any:
    """Return clip(0.2 x + 0.5, 0, 1), Keras 2's hard_sigmoid; by that name Keras 3 means clip(x / 6 + 0.5, 0,
    1).

    Args:
        x: float tensor of any shape.

    Returns:
        A tensor of the same shape.
    """
    return keras.ops.clip(0.2 * x + 0.5, 0.0, 1.0)


def repaired(config: Any) -> Any:
    """Return a configuration of Keras 2 as Keras 3 must read it.

    Arguments that Keras 3 has no more are dropped where they say nothing; what is spelled otherwise is
    respelled; layers made of single TensorFlow operations become Keras layers. What isn't known stays, for
    Keras to refuse.

    Args:
        config: of a model, as JSON gave it.

    Returns:
        A new configuration.

    >>> repaired({"class_name": "DepthwiseConv2D", "config": {"name": "d", "groups": 1}})
    {'class_name': 'DepthwiseConv2D', 'config': {'name': 'd'}}
    """
    names = {name for name in _layer_names(config) if "/" in name}
    return _repaired(config, {name: name.replace("/", "_") for name in names})


def _repaired(config: Any, renamed: Mapping[str, str]) -> Any:
    if isinstance(config, str):
        return renamed.get(config, config)
    if isinstance(config, list):
        return [_repaired(entry, renamed) for entry in config]
    if not isinstance(config, Mapping):
        return config
    if config.get("class_name") == "Policy":
        return config["config"]["name"]
    fixed = {key: _repaired(value, renamed) for key, value in config.items()}
    for key in ("activation", "recurrent_activation"):
        if fixed.get(key) == "hard_sigmoid":
            fixed[key] = "tfcompress>keras2_hard_sigmoid"
    inner = fixed.get("config")
    if not isinstance(inner, dict):
        return fixed
    _repair_layer(fixed, inner)
    if "layers" in inner and "output_layers" in inner:
        _renumber_inner_models(inner)
        for layer in inner["layers"]:
            nodes = layer.get("inbound_nodes", [])
            layer["inbound_nodes"] = [_respelled_call(node, layer["class_name"]) for node in nodes]
    return fixed


def _repair_layer(fixed: dict[str, Any], inner: dict[str, Any]) -> None:
    name = fixed.get("class_name", "")
    for key, value in UNUSED.get(name, {}).items():
        if key in inner and value in (..., inner[key]):
            del inner[key]
    if name.startswith("Random"):
        inner.pop("rng_type", None)
    if name == "ThresholdedReLU":
        fixed["class_name"], inner["threshold"] = "ReLU", inner.pop("theta")
    if name == "TFOpLambda":
        _replace_operation(fixed)
    if name == "MultiHeadAttention":
        fixed.pop("build_config", None)  # Keras 3 builds it from three shapes


def _replace_operation(layer: dict[str, Any]) -> None:
    """Make a Keras layer of one TensorFlow operation, where there is one that does the same."""
    function = layer["config"]["function"]
    nodes = layer["inbound_nodes"]
    common = {key: layer["config"][key] for key in ("name", "trainable", "dtype") if key in layer["config"]}
    calls = [{key: value for key, value in node[3].items() if key != "name" and value is not None} for node in nodes]
    plain = [[*node[:3], {}] for node in nodes]
    if function in ACTIVATIONS and not any(calls):
        layer.update(class_name="Activation", config={**common, "activation": ACTIVATIONS[function]})
        layer["inbound_nodes"] = [[node] for node in plain]
    elif function in MERGES and all(list(call) == ["y"] for call in calls):
        others = [call["y"] for call in calls]
        if all(isinstance(other, list) and len(other) == 3 and isinstance(other[0], str) for other in others):
            layer.update(class_name=MERGES[function], config=common)
            layer["inbound_nodes"] = [[node, [*other, {}]] for node, other in zip(plain, others, strict=True)]
        elif isinstance(others[0], int | float) and all(other == others[0] for other in others):
            sign = -1.0 if function in SUBTRACT else 1.0
            scale, offset = (others[0], 0.0) if function in MULTIPLY else (1.0, sign * others[0])
            layer.update(class_name="Rescaling", config={**common, "scale": scale, "offset": offset})
            layer["inbound_nodes"] = [[node] for node in plain]


def _renumber_inner_models(model: dict[str, Any]) -> None:
    """Number the calls of inner models from 0: Keras 2 counts their own construction as the first call.

    Keras 3 does so too where a functional one makes an output of the model, but not where it feeds a layer.
    """
    calls: list[Any] = [layer.get("inbound_nodes", []) for layer in model["layers"]]
    for layer in model["layers"]:
        if layer["class_name"] not in ("Sequential", "Functional", "Model"):
            continue
        name = layer["config"]["name"]
        to_layers = [leaf for leaf in _references(calls) if leaf[0] == name]
        to_outputs = [leaf for leaf in _references([model["output_layers"]]) if leaf[0] == name]
        # An inner Sequential that was made without an Input has no such first call.
        if min((leaf[1] for leaf in to_layers + to_outputs), default=0) == 1:
            for leaf in to_layers + (to_outputs if layer["class_name"] == "Sequential" else []):
                leaf[1] -= 1


def _respelled_call(node: Any, class_name: str) -> Any:
    """Spell a call as Keras 3 does, if it has a tensor as keyword argument or an RNN an initial state."""
    if not isinstance(node, list):
        return node
    arguments = {key: _tensor(value) if _is_reference(value) else value for key, value in node[0][3].items()}
    first = [_tensor(entry) for entry in node]
    if class_name in RECURRENT and len(node) > 1:
        arguments = {key: value for key, value in arguments.items() if value is not None}
        return {"args": first[:1], "kwargs": {**arguments, "initial_state": first[1:]}}
    if arguments == node[0][3]:
        return node
    return {"args": first if len(first) == 1 else [first], "kwargs": arguments}


def _tensor(reference: list[Any]) -> dict[str, Any]:
    # The shape isn't read: the tensor is found by its history.
    config = {"shape": [1], "dtype": "float32", "keras_history": reference[:3]}
    return {"class_name": "__keras_tensor__", "config": config}


def _is_reference(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) >= 3
        and isinstance(value[0], str)
        and all(isinstance(place, int) for place in value[1:3])
    )


def _references(entries: list[Any]) -> Iterator[list[Any]]:
    """Give each [layer name, call, output, ...], to be changed in place."""
    pending = list(entries)
    while pending:
        entry = pending.pop()
        if isinstance(entry, Mapping):
            pending.extend(entry.values())
        elif isinstance(entry, list):
            if _is_reference(entry):
                yield entry
                pending.extend(entry[3:])
            else:
                pending.extend(entry)


def _layer_names(config: Any) -> Iterator[str]:
    if isinstance(config, list):
        for entry in config:
            yield from _layer_names(entry)
    elif isinstance(config, Mapping):
        inner = config.get("config")
        if "class_name" in config and isinstance(inner, Mapping) and isinstance(inner.get("name"), str):
            yield inner["name"]
        for value in config.values():
            yield from _layer_names(value)
